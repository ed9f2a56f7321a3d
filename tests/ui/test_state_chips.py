"""The state in a page's menu of runs, and in the list of measurements, follows the run."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from acft.atomic import replace_json
from acft.errors import DataError
from acft.ui.page import Wire, Workbench
from acft.ui.pages import compare, rollouts, tokens
from acft.ui.pages import run as run_page
from acft.ui.web.dom import text_of
from tests.ui import synthetic
from tests.ui.conftest import LIVE, QUICK, make_bench, visit
from tests.ui.measurements import as_measurement

SKIPPED = gr.skip()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Workbench]:
    synthetic.write_run(tmp_path, QUICK)
    synthetic.write_run(tmp_path, LIVE, synthetic.Shape(state="running"))
    bench = make_bench(tmp_path, tmp_path)
    yield bench
    bench.close()


def end(bench: Workbench, run_id: str) -> None:
    """What a worker writes when its run is over."""
    status = bench.reader.runs_dir / run_id / "status.json"
    replace_json(status, json.loads(status.read_text("utf-8")) | {"state": "finished"})


def connected(bench: Workbench, page: Any) -> dict[str, Any]:
    """The callbacks of a page by name."""
    wired: dict[str, Any] = {}

    class Recorder(Wire):
        def read(self, event: Any, callback: Any, *args: Any, **options: Any) -> Any:
            wired.setdefault(callback.__name__, callback)
            return super().read(event, callback, *args, **options)

    with gr.Blocks():
        page._build(bench, Recorder(bench))
    return wired


@pytest.mark.parametrize("module", [tokens, rollouts, compare])
def test_the_state_beside_the_menu_is_drawn_anew_when_it_has_changed(running, module):
    wired = connected(running, module)
    seen = wired["opened"](visit(LIVE))
    more = [{}] if module is tokens else []  # the last request
    assert wired["follow"](visit(LIVE), seen, *more) == [SKIPPED, seen]
    end(running, LIVE)
    drawn, now = wired["follow"](visit(LIVE), seen, *more)
    assert "finished" in text_of(drawn)
    assert wired["follow"](visit(LIVE), now, *more) == [SKIPPED, now]


def test_an_error_in_the_place_of_the_menu_goes_with_the_next_turn(running, monkeypatch):
    wired = connected(running, rollouts)
    seen = wired["opened"](visit(LIVE))
    with monkeypatch.context() as torn:
        torn.setattr(running.reader, "run", lambda _: _raise(DataError("the file is torn")))
        drawn, now = wired["follow"](visit(LIVE), seen)
    assert "the file is torn" in text_of(drawn)
    assert "running" in text_of(wired["follow"](visit(LIVE), now)[0])


def test_the_list_of_measurements_is_drawn_anew_when_the_state_of_one_has_changed(running):
    as_measurement(running.reader.runs_dir / LIVE, QUICK)
    running.ingester.poll()
    before = run_page.marks_of(running, running.reader.run(QUICK))
    assert run_page.marks_of(running, running.reader.run(QUICK)) == before
    end(running, LIVE)
    assert run_page.marks_of(running, running.reader.run(QUICK)).past != before.past


def _raise(error: Exception) -> Any:
    raise error


@pytest.mark.parametrize("is_stored", [True, False])
def test_no_text_of_the_list_is_marked_while_a_computed_one_is_shown(running, is_stored):
    wired = connected(running, tokens)
    end(running, LIVE)
    drawn, _ = wired["follow"](visit(QUICK), "another state", {"is_stored": is_stored})
    assert ("aria-current" in str(drawn)) == is_stored
