"""How long a text may be that models read for somebody who waits."""

from acft.errors import DataError

MAX_LETTERS = 4000


def bounded(name: str, text: str) -> str:
    """The text.

    Raises:
        DataError: It is too long.
    """
    if len(text) > MAX_LETTERS:
        raise DataError(
            f"the {name} has {len(text):,} letters; at most {MAX_LETTERS:,} are read; shorten it"
        )
    return text
