"""Short, medium and long responses: thirds of the longest one that is looked at."""

from collections.abc import Mapping

from acft.ui.web import words

NAMES = ("short", "medium", "long")
Bounds = Mapping[str, tuple[int, int]]
"""Fewest and most tokens of each length, both included."""


def lengths(longest: int) -> Bounds:
    """The lengths that responses of up to so many tokens can have."""
    ends = [-1, longest // len(NAMES), 2 * longest // len(NAMES), longest]
    bounds = {name: (ends[n] + 1, ends[n + 1]) for n, name in enumerate(NAMES)}
    return {name: (low, high) for name, (low, high) in bounds.items() if low <= high}


def said(name: str, bounds: Bounds) -> str:
    """A length in words: ``medium, 7 to 13 tokens``."""
    low, high = bounds[name]
    span = words.count(high, "token") if low == high else f"{low:,} to {high:,} tokens"
    return f"{name}, {span}"
