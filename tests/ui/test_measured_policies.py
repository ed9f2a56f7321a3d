"""Pages about a measurement ask the run that it measured, since it has no policy of its own."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from acft.errors import RunError
from acft.ui.page import Workbench
from acft.ui.pages import compare, tokens
from acft.ui.parts import live, live_tokens, runs_menu
from acft.ui.web.dom import text_of
from tests.ui import synthetic
from tests.ui.conftest import QUICK, FakeModelProcess, make_bench, visit
from tests.ui.measurements import as_measurement

MEASURED = "20261122-235959-meas"
STORED = "e0-base-0-0"
"""A rollout of every synthetic run."""


class Asked(FakeModelProcess):
    """Keeps the run and the versions it is asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.questions: list[dict[str, Any]] = []

    def stream(self, operation: str, *options: Any, **arguments: Any) -> Any:
        self.questions.append(arguments)
        return (yield from super().stream(operation, *options, **arguments))


@pytest.fixture
def measured(tmp_path: Path) -> Iterator[Workbench]:
    """A training with policies of three rounds, and its measurement of five sealed parts."""
    synthetic.write_run(tmp_path, QUICK)
    folder = synthetic.write_run(tmp_path, MEASURED, synthetic.Shape(rounds=5))
    as_measurement(folder, QUICK)
    bench = make_bench(tmp_path, tmp_path)
    yield replace(bench, model_process=Asked())
    bench.close()


def run_of(bench: Workbench) -> Any:
    return bench.reader.run(MEASURED)


def test_live_answers_of_a_measurement_offer_the_versions_of_the_run_it_measured(measured):
    shown = text_of(compare.live(measured, visit(MEASURED, may_change=True)))
    assert "version 3, preferred" in shown
    assert "version 4" not in shown


def test_a_text_of_a_measurement_is_scored_by_the_run_that_was_measured(measured):
    seen = visit(MEASURED, may_change=True, sequence=STORED)
    assert "Compute the values now" in text_of(tokens.about_text(measured, seen))
    request = tokens.shown_text(measured, seen)
    *_, last = tokens.computed(
        measured, seen, {}, lambda run: live_tokens.scored(measured, seen, run, request)
    )
    asked = measured.model_process.questions
    assert [(a["run_id"], a["version"]) for a in asked] == [(QUICK, 3)]
    assert asked[0]["response_ids"] == request["response_ids"]
    assert "A text computed now" in text_of(last[0])


def test_a_version_of_a_measurements_address_is_one_of_the_run_that_was_measured(measured):
    seen = visit(MEASURED, may_change=True, sequence=STORED, live_version="4")
    assert "(there are: 0 (base), 1, 2, 3)" in text_of(tokens.about_text(measured, seen))


@pytest.mark.parametrize("subject", ["20261122-000000-gone", "smollm2-135m", ""])
def test_where_the_measured_run_is_not_here_nothing_is_offered_and_why_is_said(measured, subject):
    as_measurement(run_of(measured).paths.root, subject)
    seen = visit(MEASURED, may_change=True, sequence=STORED)
    assert "is no run here" in text_of(compare.live(measured, seen))
    assert "live_version" not in str(compare.live(measured, seen))
    assert "Compute the values now" not in text_of(tokens.about_text(measured, seen))
    with pytest.raises(RunError, match="is no run here"):
        next(tokens.computed(measured, seen, {}, lambda run: live_tokens.scored(
            measured, seen, run, {})))  # fmt: skip


def test_tokens_and_rollouts_open_the_newest_training_and_no_measurement(measured):
    found = runs_menu.chosen_run(measured, visit())
    assert found is not None
    assert found.run_id == QUICK


def test_a_training_answers_for_itself(measured):
    run = measured.reader.run(QUICK)
    assert live.trained(measured, run) is run
    assert live.trained(measured, None) is None
