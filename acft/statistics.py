"""Uncertainty and agreement: intervals over prompts, ranking, calibration; numpy only.

Responses to one prompt resemble each other, so every interval resamples *groups* (prompts), never
single responses. An answer that the data cannot give is None, never a made-up number.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
Groups = Sequence[Hashable] | NDArray

LEVEL = 0.95
RESAMPLES = 2000
MARGIN = 0.1
"""Relative change below which two measurements count as equivalent, by default; of a difference,
the share of what the reference has beyond chance."""
BLOCK = 200_000
"""Rows of all resamples that are weighed at once: a few megabytes."""
UNDEFINED_LIMIT = 0.01
"""Largest share of resamples without a value (zero over zero) that still gives an interval; and of
infinite ones that still gives a standard error."""
ROUNDING = 1e-12
"""What calculating leaves of a difference of equal numbers."""
FLOOR = 1e-12
"""Distance of probabilities from 0 and 1, so that a cross-entropy is finite."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval; None wherever the data cannot say."""

    value: float | None
    low: float | None
    """Infinite, as ``high``, where the data set no limit, as to a ratio whose denominator may be 0.
    """
    high: float | None
    n: int
    """Independent groups (prompts) behind the estimate."""
    stderr: float | None = None


NOTHING = Interval(None, None, None, 0)


# ---- bootstrap ---------------------------------------------------------------------------------


def bootstrap(
    groups: Groups,
    statistic: Callable[[Rows], float | None],
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Percentile interval of any statistic of rows, resampling whole groups with replacement.

    ``statistic`` gets row numbers, with repetitions, and may return None where it is undefined.
    """
    rows_of = group_rows(groups)
    if not rows_of:
        return NOTHING
    value = np.array(statistic(np.arange(len(groups))), dtype=np.float64)  # None becomes NaN
    rng = np.random.default_rng(seed)
    resamples = (rng.integers(len(rows_of), size=len(rows_of)) for _ in range(n_resamples))
    rows = (np.concatenate([rows_of[group] for group in chosen]) for chosen in resamples)
    draws = np.array([*map(statistic, rows)], dtype=np.float64)
    return percentile_interval(float(value), draws, len(rows_of))


def auc_draws(
    scores: Sequence[ArrayLike], labels: ArrayLike, n_resamples: int = RESAMPLES, seed: int = 0
) -> tuple[Floats, Floats]:
    """The AUC of each of ``scores``, and each again in the same resamples of the rows.

    NaN where a class is missing.
    """
    sides, flags = [_floats(side) for side in scores], _flags(labels)
    n = len(flags)

    def values(weights: Floats) -> Floats:
        parts = [_concordance(side, flags, weights) for side in sides]
        with np.errstate(invalid="ignore"):
            return np.stack([concordant / pairs for concordant, pairs in parts])

    at_once = max(1, BLOCK // n)
    rng = np.random.default_rng(seed)
    draws = []
    for start in range(0, n_resamples, at_once):
        chosen = rng.integers(n, size=(min(at_once, n_resamples - start), n))
        own_rows = np.arange(len(chosen))[:, None] * n
        counts = np.bincount((chosen + own_rows).ravel(), minlength=chosen.size)
        draws.append(values(counts.reshape(chosen.shape).astype(np.float64)))
    return values(np.ones((1, n)))[:, 0], np.concatenate(draws, axis=1)


def group_rows(groups: Groups) -> list[Rows]:
    """Row numbers of each group, groups in order of first appearance."""
    rows: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        rows.setdefault(group, []).append(index)
    return [np.array(members, dtype=np.intp) for members in rows.values()]


def percentile_interval(value: float, draws: Floats, n: int) -> Interval:
    """The middle 95 % of resampled values; none when too many of them are undefined.

    Both ends are draws, with as many of them outside each, so the interval of 1 / x is that of x
    turned round. A ratio over nothing is above every other, and so may an end be.
    """
    known = np.sort(draws[~np.isnan(draws)])
    estimate = value if np.isfinite(value) else None
    if np.isnan(value) or n < 2 or len(known) < (1 - UNDEFINED_LIMIT) * len(draws):
        return Interval(estimate, None, None, n)
    outside = round((1 - LEVEL) / 2 * (len(known) - 1))
    low, high = known[outside], known[-1 - outside]
    return Interval(estimate, float(low), float(high), n, spread_of(draws))


def spread_of(draws: Floats) -> float | None:
    """Standard deviation of resampled values; None when too many of them are not finite."""
    finite = draws[np.isfinite(draws)]
    if len(finite) < max(2, (1 - UNDEFINED_LIMIT) * len(draws)):
        return None
    return float(finite.std(ddof=1))


def recorded(found: Interval) -> Interval:
    """The interval as records hold it, where no number is infinite: an open end is left out."""
    ends = [
        end if end is not None and np.isfinite(end) else None for end in (found.low, found.high)
    ]
    return replace(found, low=ends[0], high=ends[1])


def brackets(
    low: float | None, high: float | None, form: Callable[[float], str], between: str = ", "
) -> str:
    """``[low, high]``, or ``[low, inf)`` where only one end is recorded; empty without any."""
    if low is None and high is None:
        return ""
    first = "(-inf" if low is None else f"[{form(low)}"
    return f"{first}{between}{'inf)' if high is None else f'{form(high)}]'}"


# ---- shares and equivalence --------------------------------------------------------------------


def wilson(successes: int, n: int) -> Interval:
    """A share with its 95 % Wilson score interval, for independent trials."""
    if n == 0:
        return NOTHING
    z = 1.959963984540054
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    stderr = float(np.sqrt(share * (1 - share) / n))
    # the ends are 0 and 1 by the formula; rounding would make them 3e-18 and the like
    low = 0.0 if successes == 0 else float(centre - half)
    high = 1.0 if successes == n else float(centre + half)
    return Interval(share, low, high, n, stderr)


def widened(found: Interval) -> Interval:
    """A share with the interval that resampling gave, or Wilson's where resampling says nothing.

    Where no group, or every group, shows anything, every resample is alike; a share of the groups
    is then on the safe side. What can exceed 1, such as a length, is no share.
    """
    if found.stderr != 0 or found.value not in (0.0, 1.0):
        return found
    bounds = wilson(int(found.value) * found.n, found.n)
    return replace(found, low=bounds.low, high=bounds.high)


Verdict = Literal["equivalent", "lower", "higher", "undecided"]


def equivalence(interval: Interval, margin: float) -> Verdict:
    """What an interval of a difference says about a margin around zero.

    ``equivalent`` when the whole interval lies inside the margin (two one-sided tests at 2.5 %),
    ``lower`` or ``higher`` when it excludes zero but not the margin, ``undecided`` otherwise.
    """
    return _verdict(interval, -margin, margin)


def equivalence_of_change(interval: Interval, margin: float) -> Verdict:
    """The same of a relative change: ``equivalent`` when neither is above the other by the margin.

    So it is the same verdict, turned round, whichever of the two is called the first; a fall by the
    margin itself is a rise by more than it.
    """
    return _verdict(interval, 1 / (1 + margin) - 1, margin)


def _verdict(interval: Interval, lowest: float, highest: float) -> Verdict:
    low, high = interval.low, interval.high
    if low is None or high is None:
        return "undecided"
    if lowest + ROUNDING < low and high < highest - ROUNDING:
        return "equivalent"
    if high < -ROUNDING:
        return "lower"
    return "higher" if low > ROUNDING else "undecided"


# ---- ranking and calibration -------------------------------------------------------------------


def auc(scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None) -> float | None:
    """Chance that a random positive scores above a random negative, ties counting half.

    None when a class is missing. Source: Mann and Whitney 1947.
    """
    concordant, pairs = _concordance(_floats(scores), _flags(labels), _weights(weights, scores))
    return float(concordant / pairs) if pairs > 0 else None


def auc_within(
    scores: ArrayLike, labels: ArrayLike, groups: Groups, weights: ArrayLike | None = None
) -> float | None:
    """AUC over the pairs whose two members share a group; None when there is no such pair."""
    all_scores, all_labels = _floats(scores), _flags(labels)
    all_weights = _weights(weights, scores)
    _same_length(groups, all_scores, all_labels)
    parts = [
        _concordance(all_scores[rows], all_labels[rows], all_weights[rows])
        for rows in group_rows(groups)
    ]
    concordant, pairs = sum(parts, start=np.zeros(2))
    return float(concordant / pairs) if pairs > 0 else None


def brier(
    predicted: ArrayLike, observed: ArrayLike, weights: ArrayLike | None = None
) -> float | None:
    """Mean squared error of predicted probabilities; None without data."""
    p, y, w = _floats(predicted), _floats(observed), _weights(weights, predicted)
    _same_length(p, y)
    return float(np.sum(w * (p - y) ** 2) / w.sum()) if w.sum() > 0 else None


def bce(
    predicted: ArrayLike, observed: ArrayLike, weights: ArrayLike | None = None
) -> float | None:
    """Mean binary cross-entropy in nats, probabilities kept ``FLOOR`` away from 0 and 1."""
    p, y, w = _floats(predicted), _floats(observed), _weights(weights, predicted)
    _same_length(p, y)
    p = np.clip(p, FLOOR, 1 - FLOOR)
    losses = -(y * np.log(p) + (1 - y) * np.log1p(-p))
    return float(np.sum(w * losses) / w.sum()) if w.sum() > 0 else None


def reliability_bins(
    predicted: ArrayLike,
    observed: ArrayLike,
    groups: ArrayLike,
    weights: ArrayLike | None = None,
    n_bins: int = 10,
) -> list[dict[str, float]]:
    """Mean predicted and observed value in bins of equal width over [0, 1]; empty bins left out.

    ``stderr`` is that of the observed mean, whose values come in groups (linearised ratio); a bin
    of one group has none.
    """
    p, y, group = _floats(predicted), _floats(observed), np.asarray(groups)
    w = _weights(weights, predicted)
    _same_length(p, y, group, w)
    index = np.minimum((p * n_bins).astype(np.intp), n_bins - 1)
    bins = []
    for number in range(n_bins):
        inside = index == number
        if not w[inside].any():
            continue
        mean = np.average(y[inside], weights=w[inside])
        member = np.unique(group[inside], return_inverse=True)[1]
        found = {
            "low": number / n_bins,
            "high": (number + 1) / n_bins,
            "predicted": float(np.average(p[inside], weights=w[inside])),
            "observed": float(mean),
            "n": float(inside.sum()),
            "groups": float(k := member.max() + 1),
        }
        if k > 1:
            residuals = np.bincount(member, w[inside] * (y[inside] - mean)) * k / w[inside].sum()
            found["stderr"] = float(np.sqrt(np.sum(residuals**2) / (k * (k - 1))))
        bins.append(found)
    return bins


# ---- agreement and thresholds ------------------------------------------------------------------


@dataclass(frozen=True)
class Agreement:
    """How far two scorers agree on the same texts; None where it is undefined."""

    pearson: float | None
    spearman: float | None
    kappa: float | None
    """Cohen's kappa of the two verdicts at the threshold."""
    n: int


def agreement(scores_a: ArrayLike, scores_b: ArrayLike, threshold: float = 0.5) -> Agreement:
    """Correlation of two scorers and chance-corrected agreement of their verdicts."""
    a, b = _floats(scores_a), _floats(scores_b)
    _same_length(a, b)
    return Agreement(
        _correlation(a, b),
        _correlation(_ranks(a), _ranks(b)),
        kappa(a >= threshold, b >= threshold),
        len(a),
    )


def kappa(verdicts_a: ArrayLike, verdicts_b: ArrayLike) -> float | None:
    """Cohen's kappa of two yes/no verdicts; None when chance alone already agrees always."""
    a, b = _flags(verdicts_a), _flags(verdicts_b)
    if len(a) == 0:
        return None
    chance = a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean())
    return None if chance == 1 else float(((a == b).mean() - chance) / (1 - chance))


# ---- private -----------------------------------------------------------------------------------


def _floats(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _flags(values: ArrayLike) -> NDArray[np.bool_]:
    array = np.asarray(values)
    if array.dtype != bool and not np.isin(array, (0, 1)).all():
        raise ValueError("labels must be 0 or 1; threshold graded values first")
    return array.astype(bool)


def _weights(weights: ArrayLike | None, like: ArrayLike) -> Floats:
    return np.ones(len(_floats(like))) if weights is None else _floats(weights)


def _same_length(*columns: Groups | Floats | NDArray[np.bool_]) -> None:
    if len({len(column) for column in columns}) > 1:
        raise ValueError(f"columns differ in length: {[len(column) for column in columns]}")


def _concordance(scores: Floats, labels: NDArray[np.bool_], weights: Floats) -> Floats:
    """Weight of ordered positive-negative pairs (ties half), stacked on that of all such pairs.

    Rows are the last axis of the weights; the others stay.
    """
    _same_length(scores, labels, weights.T)
    if len(scores) == 0:
        return np.zeros((2, *weights.shape[:-1]))
    rank = np.unique(scores, return_inverse=True)[1]
    order = np.argsort(rank)
    firsts = np.flatnonzero(np.diff(rank[order], prepend=-1))
    positive, negative = (
        np.add.reduceat((weights * of_class)[..., order], firsts, axis=-1)
        for of_class in (labels, ~labels)
    )
    below = negative.cumsum(axis=-1) - negative
    concordant = (positive * (below + negative / 2)).sum(axis=-1)
    return np.stack([concordant, positive.sum(axis=-1) * negative.sum(axis=-1)])


def _ranks(values: Floats) -> Floats:
    """Ranks from 0, ties sharing their mean."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[index]


def _correlation(a: Floats, b: Floats) -> float | None:
    if len(a) < 2 or a.std() == 0 or b.std() == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])
