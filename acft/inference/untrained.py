"""Decoders that train nothing, of whichever policy answers: the constraint itself decides."""

from collections.abc import Sequence
from typing import Any

from acft.constraints import Constraint
from acft.decoding.best_of_n import BestOfNSettings
from acft.errors import DataError

BEST_OF_N, RAD = "best_of_n", "rad"
MAX_CANDIDATES = 16


def n_candidates(side: dict[str, Any]) -> int:
    """Responses that a side draws for each one that it shows.

    Raises:
        DataError: They are too many or none.
    """
    if side["subject"] != BEST_OF_N:
        return 1
    n = int(side.get("candidates", BestOfNSettings().candidates))
    if not 1 <= n <= MAX_CANDIDATES:
        raise DataError(f"the best of {n} responses; 1 to {MAX_CANDIDATES} candidates are drawn")
    return n


def kept(constraint: Constraint, prompt: str, texts: Sequence[str], n: int) -> list[str]:
    """Of every ``n`` responses in turn the one that satisfies the constraint best."""
    grades = constraint.score([prompt] * len(texts), texts)
    groups = (range(start, start + n) for start in range(0, len(texts), n))
    return [texts[max(group, key=lambda i: grades[i])] for group in groups]
