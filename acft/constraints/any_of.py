"""At least one of several constraints holds."""

from collections.abc import Sequence

from acft.config import Config
from acft.constraints.base import CONSTRAINTS, Table, Tables


@CONSTRAINTS.add("any_of")
class AnyOf(Config):
    """At least one of several constraints holds."""

    constraints: Tables
    """Tables, each with a ``kind``."""

    def parts(self) -> tuple[tuple[str, Table], ...]:
        """The tables by their place."""
        return tuple((f"constraints.{index}", item) for index, item in enumerate(self.constraints))

    def describe_parts(self, parts: Sequence[str]) -> str:
        """Such as ``(A) or (B)``."""
        return " or ".join(f"({part})" for part in parts)

    def combine(self, values: Sequence[float]) -> float:
        """The largest."""
        return max(values)
