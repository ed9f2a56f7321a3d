"""Finding words of a list in texts; shared by the constraints on words."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field


def _without_blanks(words: tuple[str, ...]) -> tuple[str, ...]:
    if not all(word.strip() for word in words):
        raise ValueError("an empty word would be found everywhere")
    return words


Words = Annotated[
    tuple[str, ...], Field(strict=False, min_length=1), AfterValidator(_without_blanks)
]


def whole_word(word: str) -> re.Pattern[str]:
    """Finds a word or phrase as a whole, whatever the case and the kind of white space in it."""
    phrase = r"\s+".join(re.escape(part) for part in word.split())
    return re.compile(rf"(?<!\w){phrase}(?!\w)", re.IGNORECASE)
