"""Several constraints all hold."""

from collections.abc import Sequence

from acft.config import Config
from acft.constraints.base import CONSTRAINTS, Table, Tables


@CONSTRAINTS.add("all_of")
class AllOf(Config):
    """Several constraints all hold."""

    constraints: Tables
    """Tables, each with a ``kind``."""

    def parts(self) -> tuple[tuple[str, Table], ...]:
        """The tables by their place."""
        return tuple((f"constraints.{index}", item) for index, item in enumerate(self.constraints))

    def describe_parts(self, parts: Sequence[str]) -> str:
        """Such as ``(A) and (B)``."""
        return " and ".join(f"({part})" for part in parts)

    def combine(self, values: Sequence[float]) -> float:
        """The smallest."""
        return min(values)
