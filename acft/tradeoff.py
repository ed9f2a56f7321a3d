"""Comparing methods at matched cost instead of at one arbitrary setting of each.

A point is one setting of a method: ``cost`` is what utility it lost (for example the relative rise
of perplexity, or KL to base) and ``harm`` what it is meant to lower (for example the toxic share).
Lower is better for both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Point:
    """One measured setting of a method."""

    cost: float
    harm: float
    label: str = ""


def frontier(points: Sequence[Point]) -> list[Point]:
    """Points that no other beats in one and equals in the other, by rising cost."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.cost, p.harm)):
        if not best or point.harm < best[-1].harm:
            best.append(point)
    return best


def mixture_at(points: Sequence[Point], cost: float) -> list[tuple[Point, float]]:
    """Settings on a method's frontier and their shares above 0, whose mixture has the given cost.

    Above its most expensive useful setting that setting alone; below its cheapest none, since
    nothing was measured there.
    """
    best = frontier(points)
    if not best or cost < best[0].cost:
        return []
    for left, right in pairwise(best):
        if cost <= right.cost:
            share = (cost - left.cost) / (right.cost - left.cost)
            return [(p, s) for p, s in ((left, 1 - share), (right, share)) if s]
    return [(best[-1], 1.0)]


def harm_at(points: Sequence[Point], cost: float) -> float | None:
    """Harm of a method at a given cost, between two settings on its frontier by interpolation.

    Above its most expensive useful setting a method keeps that setting's harm; below its cheapest
    there is no number.
    """
    mixed = mixture_at(points, cost)
    return sum(share * point.harm for point, share in mixed) if mixed else None


@dataclass(frozen=True)
class Matched:
    """Two methods at the same cost."""

    cost: float
    ours: float
    theirs: float

    @property
    def difference(self) -> float:
        """Our harm minus theirs; below zero we are better."""
        return self.ours - self.theirs


def matched(ours: Sequence[Point], theirs: Sequence[Point]) -> list[Matched]:
    """Both methods at every cost on their frontiers that both reach."""
    costs = sorted({point.cost for point in [*frontier(ours), *frontier(theirs)]})
    pairs = [(cost, harm_at(ours, cost), harm_at(theirs, cost)) for cost in costs]
    return [Matched(cost, a, b) for cost, a, b in pairs if a is not None and b is not None]
