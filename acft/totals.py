"""Measurements that are a sum over a count, kept by prompt, and their bootstrap."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from acft.statistics import NOTHING, RESAMPLES, Floats, Interval, percentile_interval


@dataclass(frozen=True)
class Totals:
    """A measurement as one sum and one count for each prompt; its value is sum over count.

    Shares, means over responses, means over prompts and nats per token are all of this form, which
    makes a bootstrap over prompts one matrix product.
    """

    groups: tuple[Hashable, ...]
    """Prompts, each once."""
    sums: Floats
    counts: Floats

    @property
    def value(self) -> float | None:
        """The measurement over all prompts; None without data."""
        count = float(self.counts.sum())
        return None if count == 0 else float(self.sums.sum()) / count

    @property
    def stderr(self) -> float | None:
        """Standard error clustered by prompt (linearised ratio); None below two prompts."""
        n, value = len(self.groups), self.value
        if value is None or n < 2:
            return None
        residuals = (self.sums - value * self.counts) / self.counts.mean()
        return float(np.sqrt(np.sum(residuals**2) / (n * (n - 1))))

    def select(self, groups: Sequence[Hashable]) -> "Totals":
        """The same measurement on some of the prompts, in the given order."""
        position = {group: index for index, group in enumerate(self.groups)}
        rows = np.array([position[group] for group in groups], dtype=np.intp)
        return Totals(tuple(groups), self.sums[rows], self.counts[rows])


def ratio_bootstrap(
    samples: Sequence[Totals],
    statistic: Callable[..., Floats],
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Interval of a function of several ratios, all measured on the prompts they share.

    ``statistic`` gets one array of ratios for each sample (base and policy, for example).
    """
    shared = shared_groups(samples)
    if not shared:
        return NOTHING
    paired = [sample.select(shared) for sample in samples]
    rng = np.random.default_rng(seed)
    n = len(shared)
    weights = rng.multinomial(n, np.full(n, 1 / n), size=n_resamples)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = statistic(
            *(s.sums.sum(keepdims=True) / s.counts.sum(keepdims=True) for s in paired)
        )
        draws = statistic(*((weights @ s.sums) / (weights @ s.counts) for s in paired))
    return percentile_interval(float(value[0]), draws, n)


def ratio_difference(a: Floats, b: Floats) -> Floats:
    """``b`` - ``a``, for ``ratio_bootstrap``."""
    return b - a


def ratio_change(a: Floats, b: Floats) -> Floats:
    """``b`` / ``a`` - 1, for ``ratio_bootstrap``."""
    return b / a - 1


def change_beyond_control(base: Floats, control: Floats, policy: Floats) -> Floats:
    """The policy's relative change from base minus the control's, for ``ratio_bootstrap``."""
    return (policy - control) / base


def shared_groups(samples: Sequence[Totals]) -> list[Hashable]:
    """Prompts that every sample has measured, in the order of the first."""
    measured = [
        {g for g, count in zip(s.groups, s.counts, strict=True) if count > 0} for s in samples
    ]
    return [group for group in samples[0].groups if all(group in known for known in measured)]
