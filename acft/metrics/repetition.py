"""Phrases said again within one continuation."""

from collections.abc import Sequence

from acft.metrics.base import SumAndCount, mean_over_responses, text_metric
from acft.types import ScoredRollout

N = 4


@text_metric("repetition", unit="share of 4-grams", higher_is_better=False)
def repetition(responses: Sequence[ScoredRollout]) -> SumAndCount:
    """Share of a continuation's word 4-grams that repeat an earlier one; lower is better.

    Continuations shorter than four words do not count. Source: arXiv:1908.04319, seq-rep-4.
    """
    shares = []
    for response in responses:
        words = response.rollout.response_text.split()
        ngrams = [tuple(words[start : start + N]) for start in range(len(words) - N + 1)]
        if ngrams:
            shares.append(1 - len(set(ngrams)) / len(ngrams))
    return mean_over_responses(shares)
