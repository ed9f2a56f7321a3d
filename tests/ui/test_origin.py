"""What a launch from the browser records of its settings file, and the command beside it."""

import shlex
from dataclasses import asdict, replace
from typing import Any

import pytest

from acft.atomic import replace_json
from acft.inference import settings
from acft.inference.server import Session
from acft.runs.directory import find_run, read_launch
from acft.ui.parts import grid, origin, settings_text
from acft.ui.reading.reader import Reader
from tests.fake_runs import create
from tests.ui.conftest import PRESET, QUICK, make_bench, visit

CHOSEN = visit(preset="quickstart")
CHANGED = settings_text.assign(PRESET, ["seed"], 7)


def words_of(command: str) -> list[str]:
    return shlex.split(command.replace("\\\n", ""))


def test_a_run_launched_from_a_preset_is_recorded_as_one_of_it(bench, monkeypatch):
    assert origin.experiment(bench, CHOSEN, PRESET) == "quickstart"
    assert origin.experiment(bench, CHOSEN, f"# a remark\n{PRESET}") == "quickstart"
    for text in (CHANGED, "", "title = "):
        assert origin.experiment(bench, CHOSEN, text) == ""
    for other in (visit(), visit(preset="../quickstart")):
        assert origin.experiment(bench, other, PRESET) == ""


def test_a_run_launched_again_unchanged_belongs_where_the_first_one_did(tmp_path):
    paths = create(tmp_path / "runs")
    record = read_launch(paths)
    replace_json(paths.launch, asdict(replace(record, experiment="mine")))
    bench = make_bench(paths.root.parent, tmp_path)
    parent: dict[str, Any] = {"from": paths.root.name}
    again = visit(**parent)
    text = settings_text.with_overrides(paths.spec.read_text(), record.overrides)
    assert origin.experiment(bench, again, text) == "mine"
    assert origin.experiment(bench, again, settings_text.assign(text, ["seed"], 7)) == ""
    gone: dict[str, Any] = {"from": "nothing"}
    assert origin.experiment(bench, visit(**gone), text) == ""


def test_launches_and_grids_record_the_settings_file_as_the_command_line_does(tmp_path):
    here, runs = Session("cpu"), str(tmp_path)
    text = 'title = "of a file"\n'
    run_id = settings.launch(here, runs, text, "one", experiment="mine")
    ids = settings.launch_grid(here, runs, text, ["seed=1|2"], 2, "two", experiment="mine")
    records = [read_launch(find_run(tmp_path, each)) for each in (run_id, *ids)]
    assert [record.experiment for record in records] == ["mine"] * 3


def test_the_command_names_the_files_that_the_button_uses(bench, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = str(bench.experiments / "quickstart.toml")
    runs = str(bench.reader.runs_dir)
    assert words_of(origin.command(bench, CHOSEN, CHANGED)) == [
        "acft", "launch", file, "--runs", runs, "--set", "seed=7"
    ]  # fmt: skip
    assert words_of(origin.command(bench, visit(), CHANGED)) == [
        "acft", "launch", "settings.toml", "--runs", runs
    ]  # fmt: skip


def test_the_command_is_short_where_the_usual_folders_are_used(bench, tmp_path, monkeypatch):
    (tmp_path / "my experiments").mkdir()
    (tmp_path / "my experiments" / "quickstart.toml").write_text(PRESET)
    monkeypatch.chdir(tmp_path)
    usual = replace(
        bench, experiments=tmp_path / "my experiments", reader=Reader(tmp_path / "runs")
    )
    assert origin.command(usual, CHOSEN, PRESET) == "acft launch 'my experiments/quickstart.toml'"


@pytest.mark.parametrize("text", [PRESET, CHANGED])
def test_both_buttons_pass_on_what_is_recorded(bench, monkeypatch, text):
    told = []
    monkeypatch.setattr(
        bench.control, "launch_grid", lambda *arguments: told.append(arguments) or [QUICK]
    )
    wanted = {}
    change = {"change": lambda _, part, act, **__: wanted.update({part: act})}
    wire: Any = type("FakeWire", (), change)()
    part = type("Part", (), {"vary": "vary", "launch_grid": "launch_grid"})
    grid.connect(bench, wire, part, None)
    asked = replace(CHOSEN, may_change=True, data={"lines": "seed=0|1", "n": 2})
    wanted["launch_grid"](asked, text)
    assert told[0][-1] == ("quickstart" if text == PRESET else "")
