"""Whole numbers that a reader chooses within limits: their fields, and what the address says."""

from collections.abc import Mapping

from acft.errors import ConfigError
from acft.ui.page import Visit
from acft.ui.web.dom import Node, act, el

MAX_DIGITS = 10
"""Longer numbers are out of every range."""
SHOWN = 40
"""Letters of a wrong one that are repeated."""
Limits = Mapping[str, tuple[int, int, int]]
"""Default, smallest and largest of each number."""


def fields(visit: Visit, limits: Limits, prefix: str, event: str) -> list[Node]:
    """A field for each number; what is typed goes into the address and sends the event."""
    return [
        el("label.side", f"{name} ", el(
            "input", type="number", min=str(low), max=str(high), data_query=f"{prefix}_{name}",
            value=visit.query.get(f"{prefix}_{name}", "") or str(default), aria_label=name,
            **act(event)))
        for name, (default, low, high) in limits.items()
    ]  # fmt: skip


def chosen(visit: Visit, limits: Limits, prefix: str) -> dict[str, int]:
    """The numbers of the address, by name; the defaults of those that it does not have.

    Raises:
        ConfigError: One is no whole number or out of range.
    """
    found = {}
    for name, (default, low, high) in limits.items():
        text = visit.query.get(f"{prefix}_{name}", "") or str(default)
        is_number = text.isdecimal() and len(text) <= MAX_DIGITS
        if not is_number or not low <= int(text) <= high:
            raise ConfigError(
                f"{name} = {text[:SHOWN]!r}: must be a whole number from {low} to {high}"
            )
        found[name] = int(text)
    return found
