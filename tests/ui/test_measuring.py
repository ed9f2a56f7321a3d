"""Measuring a run again: what may be chosen, what it will cost, who may start it."""

from dataclasses import replace

import pytest

from acft.errors import ConfigError
from acft.eventlog import Entry
from acft.events import Progress, ShardSealed
from acft.ui import measuring
from acft.ui.dom import text_of
from acft.ui.guard import Bind
from tests.ui.conftest import CONTROL, QUICK, visit


def progress(done, phase="evaluate", total=100):
    return Progress(phase, done, total, 3, "responses")


def entries(*pairs):
    return [Entry(n, time, event) for n, (time, event) in enumerate(pairs, 1)]


SEALED = ShardSealed("rollouts", "rollouts-1.parquet", 1, "0" * 64, 3)


def test_the_cost_is_told_from_what_the_run_itself_took():
    found = entries(
        (0.0, progress(0, "sample")), (5.0, SEALED), (10.0, progress(0)), (20.0, progress(100)),
        (30.0, SEALED), (31.0, progress(0)), (51.0, SEALED), (52.0, SEALED),
    )  # fmt: skip
    assert measuring.seconds_per_response(found) == pytest.approx(40 / 200)
    assert measuring.seconds_per_response(found[:3]) is None


def test_the_panel_says_how_many_responses_are_drawn(bench):
    run = bench.reader.run(QUICK)
    seen = visit(QUICK, may_change=True, measure_prompts="10", measure_continuations="5")
    assert "100 responses" in text_of(measuring.panel(bench, seen, run))
    held_out = visit(QUICK, measure_rtp="false")
    assert "no responses" in text_of(measuring.panel(bench, held_out, run))


@pytest.mark.parametrize(
    ("wrong", "what"),
    [({"measure_prompts": "0"}, "prompts = '0'"), ({"measure_continuations": "x"}, "must be a"),
     ({"measure_prompts": "²"}, "prompts = '²'"), ({"measure_prompts": "9" * 5000}, "must be a"),
     ({"measure_rtp": "false", "measure_perplexity": "false"}, "nothing to measure")],
)  # fmt: skip
def test_bad_choices_are_named_in_place(bench, wrong, what):
    with pytest.raises(ConfigError, match=what):
        measuring.chosen(visit(QUICK, **wrong))
    run = bench.reader.run(QUICK)
    assert what in text_of(measuring.panel(bench, visit(QUICK, **wrong), run))


def test_a_measurement_is_queued_with_the_choices(bench):
    numbers, suites = measuring.chosen(visit(QUICK, measure_perplexity="false"))
    assert bench.control.measure(QUICK, numbers, suites, "once") == CONTROL
    (asked,) = bench.desk.launched
    assert asked["suites"] == ["rtp"]
    assert (asked["prompts"], asked["continuations"]) == (40, 25)


def test_who_only_looks_sees_the_cost_and_no_working_button(bench):
    run = bench.reader.run(QUICK)
    assert "'disabled': ''" in str(measuring.panel(bench, visit(QUICK), run))
    demo = replace(bench, bind=Bind(is_demo=True))
    assert measuring.panel(demo, visit(QUICK, may_change=True), run) == ""
