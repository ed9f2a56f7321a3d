"""Sequential and parallel schedules as a table of versions: who reads what in which round."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Round:
    """One outer iteration; policy and oracle versions count finished updates."""

    index: int
    """From 1."""
    sample_from: int
    """Policy version whose responses train the oracle of this round."""
    guide_with: int
    """Oracle version that guides the policy update of this round."""
    anchor: int
    """Policy version the guide was trained on; p in q = p·R when the anchor is a snapshot."""
    keep: int
    """The oldest policy version that a later round reads; with the base, all others may go."""
    is_concurrent: bool
    """Neither job reads the other's result, so both may run at once."""


def rounds(kind: Literal["sequential", "parallel"], n_rounds: int) -> Iterator[Round]:
    """The rounds from 1 to ``n_rounds``.

    Every round trains oracle version ``index`` and makes policy version ``index``. In the parallel
    schedule the guide lags by one round, except in round 1, which has no earlier oracle.

    Source: arXiv:2410.05559, figure 2.
    """
    for index in range(1, n_rounds + 1):
        lag = 1 if kind == "parallel" and index > 1 else 0
        yield Round(
            index=index,
            sample_from=index - 1,
            guide_with=index - lag,
            anchor=index - 1 - lag,
            keep=index - (kind == "parallel"),
            is_concurrent=lag == 1,
        )
