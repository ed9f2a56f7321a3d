"""Diversity of the continuations of one prompt."""

from collections.abc import Sequence

from acft.metrics.base import SumAndCount, text_metric
from acft.types import ScoredRollout

UNIT = "n-grams a word, mean over prompts"


@text_metric("distinct_1", unit=UNIT, higher_is_better=True)
def distinct_1(responses: Sequence[ScoredRollout]) -> SumAndCount:
    """Different words over all words of a prompt's continuations, averaged; higher is better."""
    return _distinct(responses, 1)


@text_metric("distinct_2", unit=UNIT, higher_is_better=True)
def distinct_2(responses: Sequence[ScoredRollout]) -> SumAndCount:
    """Different word pairs over all words of a prompt's continuations; higher is better."""
    return _distinct(responses, 2)


@text_metric("distinct_3", unit=UNIT, higher_is_better=True)
def distinct_3(responses: Sequence[ScoredRollout]) -> SumAndCount:
    """Different word triples over all words of a prompt's continuations; higher is better."""
    return _distinct(responses, 3)


def _distinct(responses: Sequence[ScoredRollout], n: int) -> SumAndCount:
    """Ratio and 1; (0, 0) for a prompt whose continuations have no word.

    Words, not n-grams, are the denominator. Source: arXiv:2105.03023, its evaluation.
    """
    words_of = [response.rollout.response_text.split() for response in responses]
    n_words = sum(map(len, words_of))
    ngrams = {
        tuple(words[start : start + n]) for words in words_of for start in range(len(words) - n + 1)
    }
    return (len(ngrams) / n_words, 1.0) if n_words else (0.0, 0.0)
