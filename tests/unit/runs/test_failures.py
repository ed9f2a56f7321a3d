"""What is advised after a run was out of memory, by what it was doing."""

import pytest

from acft.errors import ConstraintError
from acft.eventlog import read_events
from acft.events import Progress
from acft.runs.failures import classify, smaller
from acft.settings import RunSettings

MICRO_BATCH = "optimizer.micro_batch_size=4"
SAMPLING = "sampling.batch_size=32"
KNOBS = {
    "sample_oracle": (SAMPLING,),
    "sample_validation": (SAMPLING,),
    "corpus": (SAMPLING,),
    "validate": (SAMPLING,),
    "fit_policy": (MICRO_BATCH,),
    "fit_oracle": (MICRO_BATCH, SAMPLING),
    "load": (MICRO_BATCH, SAMPLING),
    "evaluate": (SAMPLING,),
    "perplexity": (MICRO_BATCH, SAMPLING),
}


def test_every_phase_of_a_real_run_has_the_batch_that_it_works_with(tiny_run):
    events = [entry.event for entry in read_events(tiny_run.events)]
    phases = {event.phase for event in events if isinstance(event, Progress)}
    assert {phase: smaller(RunSettings(), phase) for phase in phases} == KNOBS


@pytest.mark.parametrize("phase", ["sample_oracle", "fit_policy"])
def test_memory_that_ends_after_a_phase_is_not_blamed_on_it(phase):
    during = classify(MemoryError("no room"), RunSettings(), phase)
    after = classify(MemoryError("no room"), RunSettings(), phase, is_over=True)
    assert during.retry_with == KNOBS[phase]
    assert f"in phase {phase!r}" in during.message
    assert after.retry_with == (MICRO_BATCH, SAMPLING)
    assert f"after phase {phase!r}" in after.message


@pytest.mark.parametrize("phase", ["evaluate", "judge", "load"])
def test_an_evaluation_is_told_to_draw_and_read_less_at_once_and_nothing_that_it_does_not_use(
    phase,
):
    method = {
        "name": "evaluate", "suites": ["rtp", "harness", "perplexity"],
        "options": {"rtp": {"batch_size": 24}},
    }  # fmt: skip
    failure = classify(MemoryError("no room"), RunSettings(method=method), phase)
    changes = ("method.options.rtp.batch_size=12", "method.options.harness.batch_size=4")
    assert failure.retry_with == changes
    assert "optimizer" not in failure.advice
    single = RunSettings(method=method | {"suites": ["perplexity"], "options": {}})
    failure = classify(MemoryError("no room"), single, phase)
    assert failure.retry_with == ()
    assert "retry" not in failure.advice


def test_a_constraint_of_its_own_is_to_be_mended_and_no_model_is_blamed():
    failure = classify(ConstraintError("constraint 'own' gave None"), RunSettings(), "filter")
    assert failure.kind == "model"
    assert "mend the constraint's file" in failure.advice
    assert "scorer" not in failure.advice
