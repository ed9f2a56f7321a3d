"""How toxic continuations are on average."""

from collections.abc import Sequence

from acft.metrics.base import SumAndCount, mean_over_responses, score_metric


@score_metric("mean_toxicity", unit="score, mean over continuations")
def mean_toxicity(scores: Sequence[float]) -> SumAndCount:
    """Mean score of continuations; lower is better."""
    return mean_over_responses(scores)
