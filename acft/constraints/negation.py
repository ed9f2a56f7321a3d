"""A constraint does not hold."""

from collections.abc import Sequence
from typing import Any

from acft.config import Config
from acft.constraints.base import CONSTRAINTS, JUST_ABOVE_HALF, Table
from acft.schema import SATISFIED_ABOVE


@CONSTRAINTS.add("not")
class Not(Config):
    """A constraint does not hold."""

    constraint: dict[str, Any]
    """A table with a ``kind``."""

    def parts(self) -> tuple[tuple[str, Table], ...]:
        """The one table."""
        return (("constraint", self.constraint),)

    def describe_parts(self, parts: Sequence[str]) -> str:
        """Such as ``not (A)``."""
        return f"not ({parts[0]})"

    def combine(self, values: Sequence[float]) -> float:
        """The complement; above 0.5 also where the part is exactly 0.5, which is not satisfied."""
        (value,) = values
        return 1 - value if value > SATISFIED_ABOVE else max(1 - value, JUST_ABOVE_HALF)
