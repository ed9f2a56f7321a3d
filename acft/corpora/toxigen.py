"""ToxiGen, the attribute half of the paper's corpus."""

from collections.abc import Iterator

from acft.corpora.base import CORPORA, Record, Source
from acft.corpora.hub import read_hub


def load() -> Iterator[Record]:
    """Machine-written statements about 13 groups, half of them toxic; 251 thousand texts.

    Source: arXiv:2203.09509.
    """
    return read_hub("toxigen/toxigen-data:train", text_field="generation")


CORPORA.add("toxigen")(
    Source(
        load,
        licence="research only; see the data set's card",
        where="hub data set toxigen/toxigen-data",
        needs_network=True,
    )
)
