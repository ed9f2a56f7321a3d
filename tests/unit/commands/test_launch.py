"""Launching from the terminal: what is said, and what is refused in one sentence."""

import pytest

from acft.__main__ import main
from acft.runs.directory import all_runs
from tests import fake_method
from tests.fake_runs import SPEC, create, do


@pytest.fixture
def launch(tmp_path, capsys, monkeypatch):
    """Launches the fake method: the exit code, and what was said to whom."""
    fake_method.register()
    monkeypatch.setattr("acft.runs.detached.ensure_supervisor", lambda _: "nobody")
    config = tmp_path / "fake.toml"
    config.write_text(SPEC)

    def launched(*words, runs=tmp_path / "runs"):
        capsys.readouterr()
        code = main(["launch", str(config), "--runs", str(runs), *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return launched


def test_the_second_of_two_equal_launches_names_the_first(launch, tmp_path):
    assert "has the settings of" not in launch()[1]
    first = all_runs(tmp_path / "runs")[0].root.name
    assert f"has the settings of {first}; if not meant: acft stop " in launch()[1]
    assert "has the settings of" not in launch("--set", "seed=5")[1]


def test_a_damaged_record_of_another_run_does_not_hinder_a_launch(launch, tmp_path):
    create(tmp_path / "runs").launch.write_text("{")
    assert launch()[0] == 0


def test_small_needs_are_told_in_small_units(launch, tmp_path):
    do(create(tmp_path / "runs", "seed=3"))
    said = launch()[1]
    assert "0 min" not in said
    assert " KiB" in said


def test_a_runs_folder_that_cannot_be_made_is_one_sentence(launch, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, said = launch(runs=tmp_path / "file" / "runs")
    assert code == 2
    assert said.startswith("error: cannot create a run in")


@pytest.mark.parametrize("size", ["-1", "nan", "inf", "much"])
def test_a_quota_is_a_size(launch, capsys, size):
    with pytest.raises(SystemExit):
        launch("--quota", size)
    assert "is not a number of GiB, 0 or more" in capsys.readouterr().err
