"""Runs repeated with other seeds: their mean, and how far off it may be; numpy only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from acft.seeding import derive_seed
from acft.statistics import NOTHING, RESAMPLES, Floats, Interval, percentile_interval, spread_of


@dataclass(frozen=True)
class Errors:
    """Draws of how far the mean of some repetitions may be off."""

    normal: Floats
    """For a standard error."""
    student: Floats
    """For the ends of an interval: the spread is itself told from few repetitions."""


def errors_of_mean(values: ArrayLike, n_draws: int, rng: np.random.Generator) -> Errors:
    """Draws of the error of a mean over repetitions; zero for a single one, which cannot say.

    Source: Student 1908, the standard error of a mean times t with k - 1 degrees of freedom.
    """
    array = np.asarray(values, dtype=np.float64)
    k = len(array)
    if k == 1:
        return Errors(np.zeros(n_draws), np.zeros(n_draws))
    stderr = array.std(ddof=1) / np.sqrt(k)
    normal = stderr * rng.standard_normal(n_draws)
    return Errors(normal, normal / np.sqrt(rng.chisquare(k - 1, n_draws) / (k - 1)))


def errors_of_means(
    values: Sequence[Floats], n_draws: int, rng: np.random.Generator
) -> list[Errors]:
    """Errors of the mean of each measurement's repetitions.

    They are drawn in the order of the values, so that two measurements which change places keep
    their own errors.
    """
    errors: dict[int, Errors] = {}
    for place in sorted(range(len(values)), key=lambda place: values[place].ravel().tolist()):
        errors[place] = errors_of_mean(values[place].ravel(), n_draws, rng)
    return [errors[place] for place in range(len(values))]


def interval_of_means(
    statistic: Callable[..., Floats],
    alone: Sequence[Floats],
    means: Sequence[Floats],
    limits: Sequence[tuple[float, float]],
    n: int,
    seed: int = 0,
) -> Interval:
    """Interval of a function of measurements that are each the mean over some repetitions.

    To each draw of a mean comes an independent one of its error over the repetitions. The standard
    error is from normal errors: Student's t with one or two degrees of freedom has none itself.

    Args:
        statistic: Gets one array of values for each measurement.
        alone: What each of its repetitions measured, for each measurement.
        means: Draws of each mean that show how far the prompts leave it open.
        limits: Smallest and largest value that each can have.
        n: Independent groups (prompts) behind them.
        seed: Of the errors; that of the draws may be the same.
    """
    rng = np.random.default_rng(derive_seed(seed, "repetitions"))
    errors = errors_of_means(alone, len(means[0]), rng)
    drawn = list(zip(means, errors, limits, strict=True))
    student = [np.clip(mean + error.student, *ends) for mean, error, ends in drawn]
    normal = [np.clip(mean + error.normal, *ends) for mean, error, ends in drawn]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        value = float(statistic(*(values.mean(keepdims=True) for values in alone))[0])
        found = percentile_interval(value, statistic(*student), n)
        return (
            found if found.stderr is None else replace(found, stderr=spread_of(statistic(*normal)))
        )


def mean_of_runs(estimates: Sequence[Interval]) -> Interval:
    """Interval of the mean of estimates that each know their standard error.

    Their own errors are taken as shared, as they are over the same prompts, and normal.
    """
    known = [(e.value, e.stderr) for e in estimates if e.value is not None and e.stderr is not None]
    if not known or len(known) < len(estimates):
        return NOTHING
    values, stderrs = np.array(known).T
    own = stderrs.mean() * np.random.default_rng(0).standard_normal(RESAMPLES)
    n = min(estimate.n for estimate in estimates)
    limits = [(-np.inf, np.inf)]
    return interval_of_means(lambda mean: mean, [values], [values.mean() + own], limits, n)
