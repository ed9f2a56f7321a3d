"""The measurement in enumerated worlds runs, and finds what must be so."""

import json

import pytest

from benchmarks.toy_worlds import main

FEW = '{"rollouts_per_round": 64, "validation_rollouts": 16, "max_epochs": 2}'


@pytest.fixture
def printed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path))

    def run(*arguments):
        main([*arguments, "--cases", "0", "--oracle", FEW])
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return run


def test_the_exact_oracle_reaches_q_star(printed):
    (found,) = printed("oracle", "--kinds", "exact")
    assert 0.3 < found["satisfaction_base"] < 0.7
    assert found["satisfaction"] == pytest.approx(1, abs=1e-4)
    assert found["kl_target"] == pytest.approx(0, abs=1e-4)


def test_a_learned_oracle_comes_nearer_than_the_base(printed):
    (found,) = printed("oracle", "--kinds", "nado_recurrent")
    assert found["satisfaction"] > found["satisfaction_base"]
    assert found["kl_target"] > 0


def test_every_round_of_a_tuned_policy_is_measured(printed):
    few_steps = '{"steps_per_round": 2, "micro_batch_size": 16, "batch_size": 16}'
    found = printed("acft", "--schedules", "parallel", "--rounds", "2", "--optimizer", few_steps)
    assert [row["round"] for row in found] == [1, 2]
    assert all(row["schedule"] == "parallel" for row in found)
