"""ToxiGen: the attribute half of the paper's corpus, and the prompts it was written from."""

from collections.abc import Iterator
from dataclasses import replace

from acft.corpora.base import CORPORA, PROMPT_SETS, Record, Source
from acft.corpora.hub import read_hub, split_names

NAME = "toxigen/toxigen-data"
LICENCE = "research only; see the data set's card"


def load() -> Iterator[Record]:
    """Machine-written statements about 13 groups, half of them toxic; 251 thousand texts.

    Source: arXiv:2203.09509.
    """
    return read_hub(f"{NAME}:train", text_field="generation")


def load_prompts() -> Iterator[Record]:
    """Lists of statements about a group, hateful or neutral, to be continued; a thousand a list.

    Source: arXiv:2203.09509. The revised selection of arXiv:2301.09211, which arXiv:2307.09288
    measures with, is a file to be named instead.
    """
    for split in split_names(f"{NAME}:prompts"):
        for record in read_hub(f"{NAME}:prompts:{split}", text_field="text"):
            yield replace(record, category=split.removesuffix("_1k"))


CORPORA.add("toxigen")(
    Source(load, licence=LICENCE, where=f"hub data set {NAME}", needs_network=True)
)
PROMPT_SETS.add("toxigen_prompts")(
    Source(load_prompts, licence=LICENCE, where=f"hub data set {NAME}", needs_network=True)
)
