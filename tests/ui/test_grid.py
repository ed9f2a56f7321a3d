"""Several runs from one settings text: what would be queued, by whom, and within which limits."""

import pytest

from acft.errors import ConfigError, RunError
from acft.inference import settings
from acft.inference.server import Session
from acft.runs.directory import find_run, read_launch
from acft.ui import control
from acft.ui.pages import runs as runs_page
from acft.ui.parts import grid
from acft.ui.parts.run_head import changed
from acft.ui.reading.reader import Reader
from acft.ui.web.dom import text_of
from tests.ui.conftest import QUICK, visit

TEXT = 'title = "grid"\n'
HERE = Session("cpu")


def planned(bench, monkeypatch, *found):
    monkeypatch.setattr(bench.control, "plan_grid", lambda *_: list(found))
    return grid._plan(bench, TEXT, "seed=0|1")


def test_what_would_be_queued_is_told_with_the_runs_that_are_there_already(bench, monkeypatch):
    new, old = {"changes": ["seed=0"], "run_id": ""}, {"changes": ["seed=1"], "run_id": QUICK}
    shown = planned(bench, monkeypatch, new, old)
    assert "seed=0" in text_of(shown)
    assert f"seed=1 is run {QUICK}" in text_of(shown)
    assert "Launch 1 run" in text_of(shown)
    nothing_new = planned(bench, monkeypatch, old)
    assert "'disabled': ''" in str(nothing_new)


def test_more_runs_than_may_wait_cannot_be_launched_at_once(bench, monkeypatch):
    many = [{"changes": [f"seed={n}"], "run_id": ""} for n in range(control.MAX_QUEUED + 3)]
    shown = planned(bench, monkeypatch, *many)
    assert "and 3 more" in text_of(shown)
    assert f"At most {control.MAX_QUEUED} may wait at once." in text_of(shown)
    assert "'disabled': ''" in str(shown)


def test_problems_of_a_grid_stand_beside_it(bench, monkeypatch):
    def refuse(*_):
        raise ConfigError("[sampling] horizon = -1: too small\n[] sed: no such setting")

    monkeypatch.setattr(bench.control, "plan_grid", refuse)
    assert "no such setting" in text_of(grid._plan(bench, TEXT, "sed=1"))


@pytest.mark.parametrize("lines", [None, 7, ["seed=1"], "x" * 3000])
def test_what_is_no_grid_is_refused_before_anything_reads_it(bench, lines):
    with pytest.raises(ConfigError, match="grid"):
        grid.read(lines)


def test_who_may_only_look_is_offered_no_grid(bench):
    assert grid.panel(bench, visit()) == ""
    assert "Several runs at once" in text_of(grid.panel(bench, visit(may_change=True)))


def test_a_grid_becomes_one_run_for_each_combination_that_is_new(tmp_path):
    lines = ["seed=0|1", "sampling.horizon=10|20"]
    first = settings.plan_grid(HERE, str(tmp_path), TEXT, lines)
    assert [each["run_id"] for each in first] == [""] * 4
    ids = settings.launch_grid(HERE, str(tmp_path), TEXT, lines, 4, "once")
    again = settings.plan_grid(HERE, str(tmp_path), TEXT, lines)
    assert [each["run_id"] for each in again] == ids
    records = [read_launch(find_run(tmp_path, run_id)) for run_id in ids]
    assert len({record.sweep for record in records}) == 1
    assert records[1].overrides == ("seed=0", "sampling.horizon=20")


def test_a_grid_is_queued_only_as_it_was_confirmed(tmp_path):
    with pytest.raises(RunError, match="3 runs were confirmed, but 2"):
        settings.launch_grid(HERE, str(tmp_path), TEXT, ["seed=0|1"], 3, "once")
    assert Reader(tmp_path).runs() == []


def test_a_grid_says_no_more_than_a_settings_text_may(tmp_path):
    places = ['engine={kind="vllm",address="http://10.0.0.1:80"}']
    with pytest.raises(ConfigError, match="not taken from the browser"):
        settings.plan_grid(HERE, str(tmp_path), TEXT, places)


def test_a_grid_counts_as_many_runs_as_it_queues(bench, monkeypatch):
    asked = []

    def call(operation, *_, **arguments):
        asked.append(operation)
        return [f"20261122-15{len(asked):02d}{n:02d}-aaaa" for n in range(arguments["n_confirmed"])]

    monkeypatch.setattr(bench.settings_process, "call", call)
    for number in range(control.MAX_PER_HOUR // 20):
        assert len(bench.control.launch_grid(TEXT, ["seed=0"], 20, str(number), "")) == 20
    with pytest.raises(RunError, match="within the hour"):
        bench.control.launch_grid(TEXT, ["seed=0"], 1, "last", "")
    with pytest.raises(RunError, match="wait already"):
        bench.control.launch_grid(TEXT, ["seed=0"], control.MAX_QUEUED + 1, "many", "")


def test_runs_of_a_grid_are_told_apart_and_found_by_it(tmp_path):
    ids = settings.launch_grid(HERE, str(tmp_path), TEXT, ["seed=0|1"], 2, "once")
    found = [run for run_id in ids if (run := Reader(tmp_path).run(run_id)) is not None]
    for seed, run in enumerate(found):
        assert f"seed={seed}" in str(changed(run))
    assert all(runs_page._matches(run, run.launch.sweep) for run in found)
    assert runs_page._matches(found[1], "seed=1")
    assert not runs_page._matches(found[0], "seed=1")
