"""Mean of the three scorers that work offline: least variance between families of texts."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from acft.scorers import jigsaw_tcc, jigsaw_toxblock, profanity_svm
from acft.scorers.base import SCORERS, Scorer, ScorerEntry

NAME = "offline_mean"
PARTS = (jigsaw_toxblock.NAME, jigsaw_tcc.NAME, profanity_svm.NAME)


@dataclass(frozen=True)
class MeanScorer:
    """Mean of several scorers."""

    parts: tuple[Scorer, ...]
    name: str = NAME

    @property
    def version(self) -> str:
        """Versions of the parts."""
        return "+".join(part.version for part in self.parts)

    @property
    def sha256(self) -> str:
        """Hash of the parts' hashes."""
        return hashlib.sha256("".join(part.sha256 for part in self.parts).encode()).hexdigest()

    def score(self, texts: Sequence[str]) -> list[float]:
        """Mean of the parts' scores for each text."""
        columns = [part.score(texts) for part in self.parts]
        return [sum(row) / len(row) for row in zip(*columns, strict=True)]


def _load(device: str) -> Scorer:
    return _combine([SCORERS.get(part).load(device) for part in PARTS])


def _combine(parts: Sequence[Scorer]) -> Scorer:
    return MeanScorer(tuple(parts))


def _problem() -> str:
    return "; ".join(filter(None, (SCORERS.get(part).problem() for part in PARTS)))


SCORERS.add(NAME)(
    ScorerEntry(
        load=_load,
        summary="Mean of jigsaw_toxblock, jigsaw_tcc and profanity_svm.",
        licence="MIT",
        is_packaged=True,
        where="make assets",
        problem=_problem,
        parts=PARTS,
        combine=_combine,
    )
)
