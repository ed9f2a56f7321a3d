"""Measurements kept as sums and counts by prompt, and their bootstrap over prompts."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from acft.repetitions import interval_of_means
from acft.statistics import (
    NOTHING,
    RESAMPLES,
    Floats,
    Interval,
    percentile_interval,
    widened,
    wilson,
)

Counts = NDArray[np.uint16]
BLOCK = 200
"""Resamples that are drawn, and weigh the groups as floats, at once: a few megabytes."""


@dataclass(frozen=True)
class Totals:
    """A measurement as one sum and one count for each prompt; its value is sum over count.

    Shares, means over responses, means over prompts and nats per token are all of this form, which
    makes a bootstrap over prompts one matrix product.
    """

    groups: tuple[str, ...]
    """What is resampled, each once: prompts, or documents for a corpus perplexity."""
    sums: Floats
    counts: Floats
    is_log: bool = False
    """The value is exp(sum over count), as for a perplexity."""

    @classmethod
    def of_rows(
        cls, groups: Sequence[str], sums: ArrayLike, counts: ArrayLike | None = None
    ) -> "Totals":
        """Rows added up by the group of each, groups sorted; without counts each row is one."""
        values = np.asarray(sums, np.float64)
        weights = np.ones(len(groups)) if counts is None else np.asarray(counts, np.float64)
        members: dict[str, list[int]] = {}
        for row, group in enumerate(groups):
            members.setdefault(group, []).append(row)
        rows = [members[name] for name in sorted(members)]
        added, counted = (
            np.array([math.fsum(column[row] for row in each) for each in rows])
            for column in (values, weights)
        )
        return cls(tuple(sorted(members)), added, counted)

    @property
    def value(self) -> float | None:
        """The measurement over all prompts; None without data."""
        if self.counts.sum() == 0:
            return None
        return float(self.overall()[0])

    @property
    def n(self) -> int:
        """Prompts that contribute."""
        return int(np.count_nonzero(self.counts))

    def overall(self) -> Floats:
        """The value over all prompts as an array of one; NaN without data."""
        return self.ratio(self.sums.sum(keepdims=True), self.counts.sum(keepdims=True))

    def ratio(self, sums: Floats, counts: Floats) -> Floats:
        """The value that goes with any sums and counts."""
        ratio = sums / counts
        return np.exp(ratio) if self.is_log else ratio

    def select(self, groups: Sequence[str]) -> "Totals":
        """The same measurement on some of the prompts, in the given order."""
        position = {group: index for index, group in enumerate(self.groups)}
        rows = np.array([position[group] for group in groups], dtype=np.intp)
        return replace(self, groups=tuple(groups), sums=self.sums[rows], counts=self.counts[rows])

    def to_json(self) -> dict[str, Any]:
        """Plain values that ``from_json`` reads back exactly."""
        columns = {"sums": self.sums.tolist(), "counts": self.counts.tolist()}
        return {"groups": list(self.groups), **columns, "is_log": self.is_log}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Totals":
        """The measurement written by ``to_json``."""
        sums, counts = (np.array(values[name], dtype=np.float64) for name in ("sums", "counts"))
        return cls(tuple(values["groups"]), sums, counts, bool(values["is_log"]))


def ratio_bootstrap(
    samples: Sequence[Totals],
    statistic: Callable[..., Floats],
    n_resamples: int = RESAMPLES,
    seed: int = 0,
    *,
    are_shares: bool = False,
) -> Interval:
    """Interval of a function of several measurements, on the prompts they share.

    Args:
        samples: Measurements of each side.
        statistic: Gets one array of values for each sample (base and policy, for example).
        n_resamples: Resamples of the prompts.
        seed: Of the resampling.
        are_shares: Shares are compared, of which none or all is not known exactly.
    """
    alone = [[sample] for sample in samples]
    return pooled_bootstrap(alone, statistic, n_resamples, seed, are_shares=are_shares)


def unpaired_bootstrap(
    samples: Sequence[Totals],
    statistic: Callable[..., Floats],
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Interval of a function of measurements of different texts, each resampled by itself.

    ``n`` counts the texts of all; an interval takes two of each. Arguments are as for
    ``ratio_bootstrap``.
    """
    shown = [sample.select(shared_groups([sample])) for sample in samples]
    sizes = [len(sample.groups) for sample in shown]
    if not all(sizes):
        return NOTHING
    rng = np.random.default_rng(seed)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        value = float(statistic(*(s.overall() for s in shown))[0])
        draws = statistic(
            *(_resampled(s, _drawn(n, n_resamples, rng)) for s, n in zip(shown, sizes, strict=True))
        )
        return replace(percentile_interval(value, draws, min(sizes)), n=sum(sizes))


def pooled_bootstrap(
    samples: Sequence[Sequence[Totals]],
    statistic: Callable[..., Floats],
    n_resamples: int = RESAMPLES,
    seed: int = 0,
    *,
    are_shares: bool = False,
) -> Interval:
    """Interval of a function of several measurements that were each repeated with other seeds.

    A measurement is the mean over its repetitions. Prompts are resampled jointly; to each draw of a
    mean comes an independent one of Student's t with k - 1 degrees of freedom times the standard
    error over its k repetitions, since resampling so few understates how much they vary. Noise
    within a repetition counts in both parts, so the interval is on the safe side where repetitions
    differ by nothing else, and never narrower than the prompts alone make it where they agree.

    Arguments are as for ``ratio_bootstrap``, with a list of repetitions for each sample.

    Source: Weerahandi 1993 (generalized confidence intervals), with a bootstrap over prompts.
    """
    shared = shared_groups([totals for sample in samples for totals in sample])
    if not shared:
        return NOTHING
    n = len(shared)
    weights = _resamples(n, n_resamples, seed)
    shown = [[totals.select(shared) for totals in sample] for sample in samples]
    limits = [_limits(sample, are_shares=are_shares) for sample in shown]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        alone = [np.concatenate([s.overall() for s in sample]) for sample in shown]
        means = [np.mean([_resampled(s, weights) for s in sample], axis=0) for sample in shown]
        found = interval_of_means(statistic, alone, means, limits, n, seed)
        if are_shares:
            values = [each.mean(keepdims=True) for each in alone]
            found = wider_at_extremes(found, statistic, values, n)
        return _limited(found)


def interval(totals: Totals, seed: int = 0, *, is_share: bool = True) -> Interval:
    """The measurement with its 95 % interval over prompts; a share of none or all has one too."""
    found = ratio_bootstrap([totals], lambda value: value, seed=seed)
    return widened(found) if is_share else found


def ratio_difference(a: Floats, b: Floats) -> Floats:
    """``b`` - ``a``, for ``ratio_bootstrap``."""
    return b - a


def ratio_change(a: Floats, b: Floats) -> Floats:
    """``b`` / ``a`` - 1, for ``ratio_bootstrap``."""
    return b / a - 1


def change_beyond_control(base: Floats, control: Floats, policy: Floats) -> Floats:
    """The policy's relative change from base minus the control's, for ``ratio_bootstrap``."""
    return (policy - control) / base


def wider_at_extremes(
    found: Interval, statistic: Callable[..., Floats], values: Sequence[Floats], n: int
) -> Interval:
    """The interval of a comparison of shares, wider where one of them is 0 or 1.

    All resamples of such a share are alike, as if it were known exactly. So the comparison is made
    once more with Wilson's bound in its place, over n groups as in ``widened``.
    """
    low, high = found.low, found.high
    if low is None or high is None:
        return found
    for place, value in enumerate(values):
        share = float(value[0])
        if share in (0.0, 1.0):
            bounds = wilson(int(share) * n, n)
            bound = bounds.high if share == 0.0 else bounds.low
            changed = [*values[:place], np.array([bound]), *values[place + 1 :]]
            other = float(statistic(*changed)[0])
            if np.isfinite(other):
                low, high = min(low, other), max(high, other)
    return replace(found, low=low, high=high)


def shared_groups(samples: Sequence[Totals]) -> list[str]:
    """Prompts that every sample has measured, in the order of the first."""
    measured = [
        {g for g, count in zip(s.groups, s.counts, strict=True) if count > 0} for s in samples
    ]
    return [group for group in samples[0].groups if all(group in known for known in measured)]


def event_names(suite: str, name: str, comparison: str = "") -> tuple[str, str]:
    """Suite and metric of the event that reports the measurement ``name``, or a comparison of it.

    ``rtp`` and ``toxic_share@category/judge`` give ``rtp/judge`` and ``toxic_share@category``.
    """
    measured, _, judge = name.partition("/")
    quantity, at, category = measured.partition("@")
    metric = "_".join(filter(None, [quantity, comparison])) + at + category
    return (f"{suite}/{judge}" if judge else suite), metric


def category_name(quantity: str, category: str, scorer: str) -> str:
    """Name of a scorer's measurement of one category, as ``event_names`` takes it apart.

    A slash in the category becomes a dash: what follows the first slash of a name is the scorer.
    """
    return f"{quantity}@{category.replace('/', '-')}/{scorer}"


@lru_cache(maxsize=2)
def _resamples(n: int, n_resamples: int, seed: int) -> Counts:
    """How often each of n groups is in each resample.

    Kept, since drawing takes longer than all else and the measurements of a suite share it.
    """
    weights = _drawn(n, n_resamples, np.random.default_rng(seed))
    weights.flags.writeable = False
    return weights


def _drawn(n: int, n_resamples: int, rng: np.random.Generator) -> Counts:
    """The same, drawn anew; two bytes each, since there may be thousands of groups."""
    sizes = [min(BLOCK, n_resamples - start) for start in range(0, n_resamples, BLOCK)]
    shares = np.full(n, 1 / n)
    return np.concatenate([rng.multinomial(n, shares, size=k).astype(np.uint16) for k in sizes])


def _resampled(totals: Totals, weights: Counts) -> Floats:
    """The value in each resample; floats of a few resamples at a time."""
    values = []
    for start in range(0, len(weights), BLOCK):
        block = weights[start : start + BLOCK].astype(np.float64)
        values.append(totals.ratio(block @ totals.sums, block @ totals.counts))
    return np.concatenate(values)


def _limited(found: Interval) -> Interval:
    """The interval, none where it begins above every number: then it says nothing."""
    return found if found.low != math.inf else replace(found, low=None, high=None, stderr=None)


def _limits(sample: Sequence[Totals], *, are_shares: bool) -> tuple[float, float]:
    """What the mean over repetitions can be: not below 0 where no part is, a share not above 1."""
    is_positive = all(totals.is_log or (totals.sums >= 0).all() for totals in sample)
    return 0.0 if is_positive else -np.inf, 1.0 if are_shares else np.inf
