"""What a run spent, summed from its events: its bill, and that bill in words."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import chain

from acft.events import Event, Scalars

BILL = "budget/"
"""Beginning of the names under which events report what was spent since the last such event:

``budget/texts/<scorer>``
    New texts that a scorer judged.
``budget/remembered/<scorer>``
    Texts that it was asked about again, in a run that remembered the answer.
``budget/sampled_tokens/training``, ``…/measuring``
    Response tokens drawn to learn from, and drawn to be judged only.
``budget/trained_tokens``
    Tokens read in optimiser steps of the policy, prompts included, padding left out.
``budget/seconds/loading``, ``…/training``, ``…/measuring``
    Wall time by what the run was doing.
"""


def bill(events: Iterable[Event]) -> dict[str, float]:
    """All that a run spent, by name without ``budget/``; empty where nothing was counted.

    Args:
        events: Those that count; see ``eventlog.effective``.
    """
    numbers = (event.values.items() for event in events if isinstance(event, Scalars))
    return bill_of(chain.from_iterable(numbers))


def bill_of(numbers: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The bill of measured numbers with their names; see ``bill``."""
    total: defaultdict[str, float] = defaultdict(float)
    for name, value in numbers:
        if name.startswith(BILL):
            total[name.removeprefix(BILL)] += value
    return dict(sorted(total.items()))


def bill_in_words(costs: Mapping[str, float]) -> str:
    """A bill as one line for people, empty for an empty one; seconds are left to the run's times.

    Args:
        costs: What ``bill`` returns.
    """
    parts = {
        "texts judged": _sum_below("texts/", costs),
        "tokens drawn": _sum_below("sampled_tokens/", costs),
        "tokens trained on": costs.get("trained_tokens", 0.0),
    }
    return ", ".join(f"{value:,.0f} {name}" for name, value in parts.items() if value)


def _sum_below(prefix: str, costs: Mapping[str, float]) -> float:
    """Sum of all costs whose names begin with the prefix."""
    return sum((value for name, value in costs.items() if name.startswith(prefix)), 0.0)
