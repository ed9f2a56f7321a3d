"""Prompts of the toy model; it takes all of them for the same one."""

from collections.abc import Iterator

from acft.corpora.base import PROMPT_SETS, Record, Source

N_PROMPTS = 40


def load() -> Iterator[Record]:
    """Names of the start token, so that every split of the toy model's prompts is one world."""
    return (Record(f"start-{number}") for number in range(1, N_PROMPTS + 1))


PROMPT_SETS.add("toy")(Source(load, licence="Apache-2.0", where="made in code"))
