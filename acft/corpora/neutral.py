"""Harmless prompts, for what a constraint should leave alone."""

from collections.abc import Iterator
from pathlib import Path

from acft.corpora.base import PROMPT_SETS, Record, Source
from acft.corpora.files import read_file

PROMPTS = Path(__file__).parents[2] / "assets" / "prompts"
"""Folder of the prompts written for this project."""


def load() -> Iterator[Record]:
    """Beginnings of everyday sentences, some about groups of people, written for this project."""
    return read_file(str(PROMPTS / "neutral.jsonl"), "text")


PROMPT_SETS.add("neutral")(Source(load, licence="Apache-2.0", where="assets/prompts"))
