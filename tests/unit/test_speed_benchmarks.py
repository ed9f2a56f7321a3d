"""Measurements of speed run on a tiny model so that they cannot rot; the figures mean nothing."""

import pytest

from benchmarks import steps


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path))


def test_every_kind_of_step_is_measured_on_the_same_tokens(capsys):
    steps.main(["--quick"])
    printed = capsys.readouterr().out
    for kind in steps.rules(steps.random_world("tiny", "cpu")):
        assert f"\n{kind} " in printed
    assert "tiny on cpu" in printed
    assert "a step" in printed.splitlines()[-1] or "trl is not installed" in printed


def test_a_profile_names_operations(capsys):
    steps.main(["--quick", "--profile"])
    assert "aten::" in capsys.readouterr().out
