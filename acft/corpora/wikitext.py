"""Wikitext, the general half of the paper's corpus."""

from collections.abc import Iterator

from acft.corpora.base import CORPORA, Record, Source
from acft.corpora.hub import read_hub


def load() -> Iterator[Record]:
    """Paragraphs of good Wikipedia articles, without headings; Wikitext-103.

    Source: arXiv:1609.07843.
    """
    for record in read_hub("Salesforce/wikitext:wikitext-103-raw-v1", text_field="text"):
        if not record.text.strip().startswith("="):
            yield record


CORPORA.add("wikitext")(
    Source(
        load,
        licence="CC BY-SA 3.0 and GFDL",
        where="hub data set Salesforce/wikitext",
        needs_network=True,
    )
)
