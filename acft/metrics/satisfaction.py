"""How well responses satisfy the constraint."""

import math
from collections.abc import Sequence

from acft.metrics.base import SumAndCount, mean_over_responses, text_metric
from acft.types import ScoredRollout


@text_metric("satisfaction", unit="constraint value, mean over responses", higher_is_better=True)
def satisfaction(responses: Sequence[ScoredRollout]) -> SumAndCount:
    """Mean constraint value, 1 = satisfied; higher is better.

    Responses that no constraint has judged (NaN) do not count.
    """
    values = [response.satisfaction for response in responses]
    return mean_over_responses([value for value in values if not math.isnan(value)])
