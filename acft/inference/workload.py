"""How long a run will take, from how long each kind of its work took once."""

from dataclasses import asdict, dataclass
from typing import Any

from acft.runs.spec import Spec
from acft.settings import RunSettings


@dataclass(frozen=True)
class Speeds:
    """Seconds of one of each, as measured."""

    step: float
    """Optimiser step."""
    response: float
    """Response drawn."""
    judged_response: float = 0.0
    """Response drawn and judged at every prefix, as the oracle needs it."""
    oracle_pass: float = 0.0
    """Response read once by the oracle while it learns."""


@dataclass(frozen=True)
class Work:
    """One kind of work of a run."""

    what: str
    n: int
    low: float
    """Seconds at least."""
    high: float
    """Seconds at most; more than ``low`` where early stopping decides."""

    def plain(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)


def expected_work(spec: Spec, speeds: Speeds, n_drawn_for_corpora: int) -> list[Work]:
    """Work of a whole run in the order of the screen; kinds that do not occur are left out."""
    rounds, oracle = spec.settings.schedule.rounds, spec.settings.oracle
    judged = rounds * spec.judged_per_round
    others = n_drawn_for_corpora + _measured_responses(spec.settings)
    few, many = min(oracle.patience + 1, oracle.max_epochs), oracle.max_epochs
    once = judged * speeds.oracle_pass
    work = [
        _work("optimiser steps", spec.steps, speeds.step),
        _work("responses for the oracle, judged at every prefix", judged, speeds.judged_response),
        Work("responses read by the oracle in each pass", judged, few * once, many * once),
        _work("responses for corpus, validation and test", others, speeds.response),
    ]
    return [part for part in work if part.n and part.high]


def _measured_responses(run: RunSettings) -> int:
    """Responses to validation prompts before and after each round, to test prompts twice."""
    settings = run.evaluation
    validation = settings.validation_prompts * settings.validation_continuations
    test = settings.test_prompts * settings.continuations
    return (run.schedule.rounds + 1) * validation + 2 * test


def _work(what: str, n: int, each: float) -> Work:
    return Work(what, n, n * each, n * each)
