"""How long continuations are."""

from collections.abc import Sequence

from acft.metrics.base import SumAndCount, mean_over_responses, text_metric
from acft.types import ScoredRollout


@text_metric("length_tokens", unit="tokens", higher_is_better=None, highest=None)
def length_tokens(responses: Sequence[ScoredRollout]) -> SumAndCount:
    """Mean length in tokens, an end-of-text token included; neither direction is better."""
    return mean_over_responses([float(len(r.rollout.response_ids)) for r in responses])
