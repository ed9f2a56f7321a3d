"""What is advised after a run was out of memory, by what it was doing."""

import pytest

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
    "evaluate": (MICRO_BATCH, SAMPLING),
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
