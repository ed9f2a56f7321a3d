"""A command that names neither a run nor a model says so and leaves nothing behind."""

import pytest

from acft.__main__ import main
from acft.runs.directory import all_runs

COMMANDS = {"evaluate": [], "generate": ["--prompt", "hi"]}


@pytest.mark.parametrize("name", ["nope", "/no/model"])
@pytest.mark.parametrize("command", COMMANDS)
def test_neither_run_nor_model_is_said_before_anything_is_made(tmp_path, capsys, command, name):
    assert main([command, name, *COMMANDS[command], "--runs", str(tmp_path / "runs")]) == 2
    assert f"no run and no model '{name}'" in " ".join(capsys.readouterr().err.split())
    assert not all_runs(tmp_path / "runs")


def test_an_id_of_no_run_is_called_a_run(tmp_path, capsys):
    assert main(["evaluate", "20260101-000000-aaaa", "--runs", str(tmp_path)]) == 2
    assert "no run '20260101-000000-aaaa'" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_the_folder_of_a_run_is_answered_with_the_id_to_type(tmp_path, capsys, command):
    folder = tmp_path / "my runs" / "20261203-141334-33ie"
    folder.mkdir(parents=True)
    assert main([command, str(folder), *COMMANDS[command]]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert f"name the run by its id: {folder.name} --runs '{folder.parent}'" in told
