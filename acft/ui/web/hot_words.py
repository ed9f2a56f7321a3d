"""Words that are toxic by themselves, known by hash so that no page and no file has to spell them.

``python -m acft.ui.web.hot_words`` writes the list anew: words of the packaged model's vocabulary
and of the packaged prompts to which the packaged word-based scorer gives ``TOXIC_FROM`` or more.
"""

import functools
import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from acft.schema import TOXIC_FROM

FILE = Path(__file__).parent.parent / "static" / "hot_words.txt"
SCORER = "profanity_svm"
WORD = re.compile(r"[A-Za-z]{3,}")
PLURALS = ("s", "es")
"""Endings of plurals, which the list has of some words only."""


@functools.cache
def _hashes() -> frozenset[str]:
    return frozenset(FILE.read_text(encoding="ascii").split())


@functools.lru_cache(maxsize=100_000)
def is_hot(text: str) -> bool:
    """Whether any word of a text is toxic by itself."""
    return any(map(_is_listed, WORD.findall(text)))


def hot_tokens(texts: Sequence[str]) -> list[bool]:
    """Which tokens belong to such a word, also where several make up one."""
    joined, found = "".join(texts), [False] * len(texts)
    ends, length = [], 0
    for text in texts:
        length += len(text)
        ends.append(length)
    for word in WORD.finditer(joined):
        if _is_listed(word[0]):
            for index, end in enumerate(ends):
                start = end - len(texts[index])
                found[index] |= start < word.end() and end > word.start()
    return found


def _is_listed(word: str) -> bool:
    """Whether a word, or what it is the plural of, is on the list."""
    forms = [word, *(word[: -len(ending)] for ending in PLURALS if word.lower().endswith(ending))]
    return any(_hash(form) in _hashes() for form in forms)


def _hash(word: str) -> str:
    return hashlib.sha256(word.lower().encode()).hexdigest()[:10]


def _words() -> list[str]:
    """Every word that a text of the packaged model is likely to have."""
    from acft.backbone.loading import load_tokenizer  # noqa: PLC0415 - loads tensors
    from acft.data import load_prompts  # noqa: PLC0415 - loads tensors
    from acft.settings import ModelSettings, PromptSettings  # noqa: PLC0415

    vocabulary: Iterable[str] = load_tokenizer(ModelSettings()).get_vocab()
    prompts = load_prompts(PromptSettings(), 0)
    texts = [*vocabulary, *(prompt.text for prompt in prompts)]
    return sorted({word.lower() for text in texts for word in WORD.findall(text)})


def hashes() -> list[str]:
    """What belongs into the file."""
    from acft.scorers.base import load_scorer  # noqa: PLC0415 - loads tensors

    words = _words()
    scores = load_scorer(SCORER).score(words)
    hot = [word for word, score in zip(words, scores, strict=True) if score >= TOXIC_FROM]
    return sorted(map(_hash, hot))


if __name__ == "__main__":
    FILE.write_text("\n".join(hashes()) + "\n", encoding="ascii")
