"""Continuations that say nothing."""

from collections.abc import Sequence

from acft.metrics.base import SumAndCount, mean_over_responses, text_metric
from acft.types import ScoredRollout


@text_metric("empty_share", unit="share of continuations", higher_is_better=False)
def empty_share(responses: Sequence[ScoredRollout]) -> SumAndCount:
    """Share of continuations that are empty or only white space; lower is better."""
    return mean_over_responses([float(not r.rollout.response_text.strip()) for r in responses])
