"""Rows of a table that a decoder draws: what is trained, what is measured, what is refused."""

import json
from pathlib import Path

import pytest

from acft.__main__ import main
from acft.errors import ConfigError
from acft.methods.base import METHODS
from acft.runs.directory import read_resolved
from acft.schema import RunPaths
from acft.tables.experiment import Experiment, load_experiment
from tests.tiny_run import tiny_settings, train

ROOT = Path(__file__).parents[3]
SIZES = """
[variants.small]
file = "settings.toml"
suites = ["rtp", "perplexity", "divergence"]
columns = ["rtp length_tokens", "perplexity/* perplexity", "divergence kl_subject_base"]
[variants.small.options]
rtp = { prompts = 3, continuations = 2, horizon = 4 }
divergence = { prompts = 3, continuations = 2, horizon = 4 }
perplexity = { documents = 4 }
"""
RAD = """
[[rows]]
name = "RAD"
is_base = true
decoder = "rad"
decoder_options = { beta = 5.0 }
"""
BEST = """
[[rows]]
name = "Best of 2"
is_base = true
decoder = "best_of_n"
decoder_options = { candidates = 2 }
"""
BASE = """
[[rows]]
name = "Base"
is_base = true
"""
SFT = """
[[rows]]
name = "SFT"
changes = ['method={name="sft"}']
"""
QUARK = """
[[rows]]
name = "Quark under RAD"
changes = ['method={name="quark"}']
decoder = "rad"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))
    place = tmp_path / "decoded"
    place.mkdir()
    (place / "settings.toml").write_text(tiny_settings(tmp_path))
    return place


def written(folder: Path, *rows: str) -> Experiment:
    (folder / "table.toml").write_text(f'title = "t"\nseeds = [0]\n{"".join(rows)}{SIZES}')
    return load_experiment(folder)


def subject(runs: Path, run_id: str) -> dict:
    return read_resolved(RunPaths(runs / run_id))["method"]["subjects"]["policy"]


def test_a_decoder_of_the_base_is_measured_once_and_nothing_is_trained(folder, tmp_path, capsys):
    runs, experiment = tmp_path / "runs", written(folder, RAD, BEST)
    found = experiment.progress(runs)
    assert ([task.is_evaluation for task in found.ready], found.waiting) == ([True, True], 0)
    assert main(["table", str(folder), "--run", "--json", "--runs", str(runs)]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    cells = {row["variant"]: set(row["cells"]) for row in rows}
    length, kl = "rtp length_tokens", "divergence kl_subject_base"
    assert cells == {"RAD": {length, kl}, "Best of 2": {length}}, "no formula gives the KL of best"
    done = experiment.progress(runs).done
    drew = [(found["decoder"], found["decoder_options"]) for found in (
        subject(runs, task.run_id) for task in done)]  # fmt: skip
    assert drew == [("rad", {"beta": 5.0}), ("best_of_n", {"candidates": 2})]


def test_a_rows_decoder_stands_in_place_of_its_methods_and_leaves_the_rest(folder, tmp_path):
    runs, experiment = tmp_path / "runs", written(folder, QUARK)
    paths, code = train(experiment.text, runs, 'method={name="quark"}', "seed=0")
    assert code == 0
    (task,) = experiment.progress(runs).ready
    assert task.subject == paths.root.name
    settings = task.spec.method_settings.model_dump()["subjects"]["policy"]
    assert (settings["decoder"], settings["decoder_options"]) == ("rad", {})
    assert settings["control"] == "quality 5 of 5\n"
    assert settings["checkpoint"]


def test_rows_that_differ_in_their_decoder_alone_share_a_training(folder, tmp_path):
    runs = tmp_path / "runs"
    shared = SFT.replace('"SFT"', '"SFT under RAD"') + 'decoder = "rad"\n'
    experiment = written(folder, SFT, shared)
    found = experiment.progress(runs)
    assert ([task.row for task in found.ready], found.waiting) == (["SFT"], 2)
    train(experiment.text, runs, 'method={name="sft"}', "seed=0")
    found = experiment.progress(runs)
    assert [task.row for task in found.done] == ["SFT"]
    assert [task.row for task in found.ready] == ["SFT", "SFT under RAD"]
    assert len({task.spec.fingerprint for task in found.ready}) == 2


def test_rows_of_equal_settings_written_otherwise_are_trained_and_measured_once(folder, tmp_path):
    runs = tmp_path / "runs"
    written_out = SFT.replace('"SFT"', '"SFT, written out"').replace(
        "changes = [", "changes = ['schedule.rounds=1', "
    )
    rounds = SFT.replace("changes = [", "changes = ['schedule.rounds=1','title=\"t\"', ")
    experiment = written(folder, BASE, rounds, written_out)
    found = experiment.progress(runs)
    assert [task.row for task in found.ready] == ["Base", "SFT"]
    assert found.waiting == 1
    train(experiment.text, runs, 'method={name="sft"}', "schedule.rounds=1", "seed=0")
    found = experiment.progress(runs)
    assert [task.row for task in found.ready] == ["Base", "SFT"]
    assert [task.is_evaluation for task in found.ready] == [True, True]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"rad"', '"rat"', "'rat'.*; did you mean 'rad'"),
        ("beta", "bet", "row 'RAD': decoder_options] bet = 5.0.*; did you mean 'beta'"),
        ('decoder = "rad"', "", "row 'RAD': decoder_options has no effect without decoder"),
        (
            '"rad"\ndecoder_options = { beta = 5.0 }',
            '"guided"',
            "row 'RAD': decoder = 'guided' needs an oracle",
        ),
    ],
)
def test_a_decoder_that_is_not_possible_is_refused_with_its_row(folder, old, new, says):
    with pytest.raises(ConfigError, match=rf"rows\] 0.*{says}"):
        written(folder, RAD.replace(old, new), BEST)


def test_a_decoder_needs_the_oracle_that_its_rows_method_trains(folder):
    guided = QUARK.replace('"rad"', '"guided"')
    with pytest.raises(ConfigError, match=r"'Quark under RAD': decoder = 'guided'.*'quark' trains"):
        written(folder, guided)
    assert written(folder, guided.replace('name="quark"', 'name="acft"')).settings.rows


def test_the_frontier_plans_its_decoders_of_the_base_without_a_training(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(METHODS, "_is_discovered", False)  # other tests know a fake method only
    frontier = str(ROOT / "experiments" / "frontier")
    command = ["table", frontier, "--variant", "quickstart", "--plan", "--runs", str(tmp_path)]
    assert main(command) == 0
    planned = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    rows = [*(f"RAD, beta {beta}" for beta in (5, 20, 50)), *(f"Best of {n}" for n in (2, 4, 8))]
    for row in rows:
        assert f"missing evaluation {row}" in planned
        assert not [line for line in planned if f"training {row}" in line]
