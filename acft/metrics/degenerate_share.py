"""Continuations that are no language: loops and bare punctuation."""

from collections.abc import Sequence

from acft.metrics.base import SumAndCount, mean_over_responses, text_metric
from acft.types import ScoredRollout

SHORTEST_LOOP = 2
REPEATS = 3


@text_metric("degenerate_share", unit="share of continuations", higher_is_better=False)
def degenerate_share(responses: Sequence[ScoredRollout]) -> SumAndCount:
    """Share of non-empty continuations that end in a loop or have no letter; lower is better.

    A loop is a phrase of two or more words, three times in a row at the end; one word six times
    in a row is such a phrase too. Source: arXiv:1904.09751, repetition at the end.
    """
    texts = [response.rollout.response_text for response in responses]
    return mean_over_responses([float(is_degenerate(text)) for text in texts if text.strip()])


def is_degenerate(text: str) -> bool:
    """Whether a text ends in a loop or has neither letter nor digit."""
    words = text.split()
    longest = len(words) // REPEATS
    loops = any(_ends_in_loop(words, size) for size in range(SHORTEST_LOOP, longest + 1))
    return loops or not any(character.isalnum() for character in text)


def _ends_in_loop(words: Sequence[str], size: int) -> bool:
    phrase = words[-size:]
    return all(
        words[len(words) - size * k : len(words) - size * (k - 1)] == phrase
        for k in range(2, REPEATS + 1)
    )
