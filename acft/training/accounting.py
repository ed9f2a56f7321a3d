"""What a run costs: texts judged, tokens drawn and trained on, seconds, memory; for equal budgets.

Whatever runs a method passes its outputs through ``accounted``, which adds one ``Scalars`` event
for each round, so every method is counted in the same way and none has to think of it. Each event
holds what was spent since the one before; a run's bill is their sum over the events that count.
"""

import time
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

from acft.costs import BILL
from acft.events import Phase, Progress, Scalars
from acft.machine import peak_memory
from acft.training.outputs import Checkpoint, Output, Rows, TrainContext

TRAINED = "policy/tokens"
"""What an optimiser step reports; summed up into the bill."""
MEASURED = ("validation_policy", "test")
"""Purposes of responses from which nothing is learned."""
LOADING = (Phase.LOAD, Phase.CORPUS)
TRAINING = (
    Phase.SAMPLE_ORACLE, Phase.SAMPLE_VALIDATION, Phase.SAMPLE_TRAIN, Phase.FILTER, Phase.GUIDE,
    Phase.FIT_ORACLE, Phase.FIT_POLICY,
)  # fmt: skip
"""All other phases measure."""


def accounted(outputs: Iterable[Output], context: TrainContext) -> Generator[Output, None, None]:
    """The outputs of a method; before each checkpoint and at the end comes what was spent."""
    meter = _Meter(context)
    with closed(outputs):
        for output in outputs:
            meter.take(output)
            if isinstance(output, Checkpoint):
                yield meter.bill()
            yield output
    yield meter.bill()


class _Meter:
    """Adds up what passes by, and asks the scorers."""

    def __init__(self, context: TrainContext) -> None:
        self._texts = context.texts
        self._since = time.monotonic()
        self._doing = "loading"
        self._round = context.resume_round
        self._step = context.resume_step
        self._spent: defaultdict[str, float] = defaultdict(float)

    def take(self, output: Output) -> None:
        """Count one output, and the time until it came."""
        if isinstance(output, Progress):
            self._begin_or_go_on(output)
        elif isinstance(output, Scalars):
            if output.is_of_policy:
                self._step = output.step
            self._spent["trained_tokens"] += output.values.get(TRAINED, 0.0)
        elif isinstance(output, Rows) and output.table == "rollouts":
            self._add_drawn(output.rows)
        if isinstance(output, Checkpoint):
            self._round = output.round

    def bill(self) -> Scalars:
        """What was spent since the last one."""
        self._pass_time()
        spent, self._spent = self._spent, defaultdict(float)
        spent.update(self._texts.take())
        values = {f"{BILL}{name}": float(value) for name, value in spent.items() if value}
        values["memory/peak_bytes"] = float(peak_memory()[0])
        return Scalars(self._round, self._step, values)

    def _begin_or_go_on(self, progress: Progress) -> None:
        """The time since the last progress was spent on what was done then, unless it is begun."""
        if progress.done == 0:
            self._pass_time()
        self._doing = _activity(progress.phase)
        if progress.done > 0:
            self._pass_time()

    def _pass_time(self) -> None:
        now = time.monotonic()
        self._spent[f"seconds/{self._doing}"] += now - self._since
        self._since = now

    def _add_drawn(self, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:  # which may leave out columns
            use = "measuring" if row.get("purpose") in MEASURED else "training"
            self._spent[f"sampled_tokens/{use}"] += row.get("n_tokens") or 0


def _activity(phase: str) -> str:
    if phase in LOADING:
        return "loading"
    return "training" if phase in TRAINING else "measuring"


@contextmanager
def closed(outputs: Iterable[Output]) -> Iterator[None]:
    """Ends a generator that is left early; other iterables have nothing to end."""
    if isinstance(outputs, Generator):
        with closing(outputs):
            yield
    else:
        yield
