"""What a run's page says about how far the run is."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest

import acft
from acft.events import Phase, Progress, Started
from acft.runs.status import RunState
from acft.schema import BEGINNING
from acft.ui.pages import run as run_page
from acft.ui.parts import run_head
from acft.ui.reading.reader import History
from acft.ui.web.dom import text_of
from tests.ui.conftest import CONTROL, LIVE, QUICK, visit

BEGUN = 1_000.0


@pytest.fixture
def said(bench, monkeypatch):
    """The page's top about a live run with another status and history."""
    live = bench.reader.run(LIVE)

    def told(progress, state="running", attempts=1, **status):
        entries = [(BEGUN, Started(1))] * attempts
        shown = replace(
            live, state=RunState(state),
            status=replace(live.status, **{"started": BEGUN - 1, "seconds_left": None, **status}),
            history=History(progress=progress, attempts=entries),
        )  # fmt: skip
        monkeypatch.setattr(run_page, "find", lambda *_: shown)
        return text_of(run_page.top(bench, visit(LIVE)))

    return told


FITTING = Progress("fit_policy", 3, 8, 0, "steps")


def test_only_the_count_of_the_phase_is_shown(said):
    text = said(FITTING, step=2, steps=8)
    assert "training the policy (3 of 8 steps)" in text
    assert "step 2 of 8" not in text


def test_a_number_of_rounds_that_is_not_known_is_not_asked_about(said):
    assert "of ?" not in said(None, rounds=0)


def test_the_rest_of_the_phase_is_told_while_that_of_the_run_is_not_known(said):
    assert "about 1 min 30 s left of this part" in said(FITTING, phase_seconds_left=90.0)
    assert "about 2 min 00 s left" in said(FITTING, phase_seconds_left=9.0, seconds_left=120.0)


def test_a_resumed_run_does_not_show_the_attempt_before(said):
    resumed = said(FITTING, started=BEGUN + 60)
    assert "starting again" in resumed
    assert "training the policy" not in resumed
    assert "starting again" in said(FITTING, state="starting")


def test_only_what_began_before_starts_again(said):
    assert "starting again" not in said(None)
    assert "starting" in said(None)
    assert "starting again" in said(None, attempts=2)


def test_every_phase_has_a_label():
    assert set(run_head.PHASES) == set(Phase)


def test_a_phase_is_never_named_by_a_text_of_its_own():
    named = "Progress('sample', 0, 1)\nProgress(phase='train')\nProgress(Phase.SAMPLE, 0, 1)"
    assert [*_phases(ast.parse(named))] == ["sample", "train"]
    sources = Path(acft.__file__).parent.rglob("*.py")
    assert [n for source in sources for n in _phases(ast.parse(source.read_text()))] == []


def _phases(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            is_progress = isinstance(node.func, ast.Name) and node.func.id == "Progress"
            given = node.args[:1] if is_progress else []
            given += [k.value for k in node.keywords if k.arg == "phase"]
            yield from (v.value for v in given if isinstance(v, ast.Constant))


@pytest.mark.parametrize(("kind", "begun", "tells"), [
    ("training", "checkpoints/round-2", "resumed after round 2"),
    ("training", BEGINNING, "resumed from the beginning"),
    ("evaluation", "checkpoints/round-1", "resumed after part 1"),
])  # fmt: skip
def test_a_runs_page_tells_whose_settings_it_had_and_where_it_went_on(bench, kind, begun, tells):
    run = bench.reader.run(QUICK)
    assert "from run" not in text_of(run_head.head(run, visit(QUICK)))
    assert "resumed" not in text_of(run_head.head(run, visit(QUICK)))
    later = replace(
        run, launch=replace(run.launch, cloned_from=CONTROL),
        status=replace(run.status, kind=kind, resumed_from=begun),
    )  # fmt: skip
    head = run_head.head(later, visit(QUICK))
    assert f"from run {CONTROL} · {tells}" in text_of(head)
    assert f"'href': 'run?run={CONTROL}'" in str(head)
