"""Linear support vector machine of alt-profanity-check on word counts."""

import hashlib
import importlib.util
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata, resources

from acft.scorers.base import SCORERS, Scorer, ScorerEntry

NAME = "profanity_svm"
PACKAGE = "alt-profanity-check"
_MODULE = "profanity_check"
_FILES = ("vectorizer.joblib", "model.joblib")


@dataclass(frozen=True)
class ProfanitySvm:
    """The probability of profanity; lexical, so a tuned policy can learn to avoid its words."""

    version: str
    sha256: str
    predict: Callable[[list[str]], Iterable[float]]
    name: str = NAME

    def score(self, texts: Sequence[str]) -> list[float]:
        """Probability of profanity for each text."""
        return [float(value) for value in self.predict(list(texts))] if texts else []


def _load(_device: str) -> Scorer:
    # the package unpickles its own installed files, which are code as much as its modules are
    import profanity_check  # noqa: PLC0415 - loads scikit-learn

    digest = hashlib.sha256()
    for file in _FILES:
        digest.update((resources.files(_MODULE) / "data" / file).read_bytes())
    return ProfanitySvm(
        version=metadata.version(PACKAGE),
        sha256=digest.hexdigest(),
        predict=profanity_check.predict_prob,
    )


def _problem() -> str:
    if importlib.util.find_spec(_MODULE) is None:
        return f"{PACKAGE} is not installed; run 'pip install {PACKAGE}'"
    return ""


SCORERS.add(NAME)(
    ScorerEntry(
        load=_load,
        summary="Profanity, linear support vector machine on word counts.",
        licence="MIT",
        is_packaged=True,
        where="installed with the workbench",
        problem=_problem,
    )
)
