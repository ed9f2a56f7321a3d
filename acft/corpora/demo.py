"""Prompts of the recorded demonstration run."""

from collections.abc import Iterator

from acft.corpora.base import PROMPT_SETS, Record, Source
from acft.corpora.files import read_file
from acft.corpora.neutral import PROMPTS


def load() -> Iterator[Record]:
    """Heated but clean conversation openers that invite a rude reply, written for this project."""
    return read_file(str(PROMPTS / "demo.jsonl"), "text")


PROMPT_SETS.add("demo")(Source(load, licence="Apache-2.0", where="assets/prompts"))
