"""Scoring many texts: each distinct text once, results checked and remembered."""

import hashlib
import math
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from acft.errors import AcftError, ModelError, failing_as, place_outside
from acft.scorers import SCORERS, Scorer, load_scorer

Scores = dict[str, list[float]]
"""Raw scores by scorer name, in the order of the texts."""

CACHE_LIMIT = 500_000
"""Remembered scores; about 60 MB."""


@dataclass(frozen=True)
class Asked:
    """Whose code gives numbers, for messages about them."""

    name: str
    """With which messages begin."""
    hint: str
    """What may be wrong where a value is out of range."""
    place: str = ""
    """Such as `` (FILE, line 3)``: where it is written, if that helps."""
    error: type[ModelError] = ModelError
    """What is raised."""


class TextCounts:
    """How many texts scorers were asked about; jobs in several threads may add at once."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, scorer: str, judged: int, remembered: int) -> None:
        """Count one question."""
        with self._lock:
            self._counts[f"texts/{scorer}"] += judged
            self._counts[f"remembered/{scorer}"] += remembered

    def put(self, taken: Mapping[str, int]) -> None:
        """Count what was taken from here or elsewhere."""
        with self._lock:
            self._counts.update(taken)

    def take(self) -> dict[str, int]:
        """``texts/<scorer>`` and ``remembered/<scorer>`` since the last call."""
        with self._lock:
            taken, self._counts = self._counts, Counter()
        return dict(taken)


class ScoreCache:
    """Scores already computed, by scorer, weights and text; the least recently used go first.

    Jobs in several threads may ask at once.
    """

    def __init__(self, limit: int = CACHE_LIMIT, counts: TextCounts | None = None) -> None:
        self._limit = limit
        self._counts = counts or TextCounts()
        self._scores: OrderedDict[bytes, float] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._scores)

    def score(self, scorer: Scorer, texts: Sequence[str]) -> list[float]:
        """A number in [0, 1] for each text; the scorer sees every new distinct text once.

        Raises:
            ModelError: The scorer failed, or gave a wrong number of scores, NaN or a value
                outside [0, 1].
        """
        keys = {text: _key(scorer, text) for text in dict.fromkeys(texts)}
        with self._lock:
            known = {text: self._recall(key) for text, key in keys.items() if key in self._scores}
        new = [text for text in keys if text not in known]
        self._counts.add(scorer.name, len(new), len(texts) - len(new))
        if new:
            known.update(zip(new, checked_scores(scorer, new), strict=True))
        with self._lock:
            for text in new:
                self._remember(keys[text], known[text])
        return [known[text] for text in texts]

    def _recall(self, key: bytes) -> float:
        self._scores.move_to_end(key)
        return self._scores[key]

    def _remember(self, key: bytes, value: float) -> None:
        self._scores[key] = value
        if len(self._scores) > self._limit:
            self._scores.popitem(last=False)


class CachedScorer:
    """A scorer whose results are checked and remembered."""

    def __init__(self, scorer: Scorer, cache: ScoreCache) -> None:
        self.name = scorer.name
        self.version = scorer.version
        self.sha256 = scorer.sha256
        self._scorer = scorer
        self._cache = cache

    def score(self, texts: Sequence[str]) -> list[float]:
        """A number in [0, 1] for each text, in the same order; 1 = toxic."""
        return self._cache.score(self._scorer, texts)


class ScorerPool:
    """Scorers by name, each loaded when first asked for, all with one cache.

    One that is made of others is made of those in the pool.
    """

    def __init__(
        self,
        device: str = "cpu",
        load: Callable[[str, str], Scorer] = load_scorer,
        counts: TextCounts | None = None,
    ) -> None:
        self._device = device
        self._load = load
        self._cache = ScoreCache(counts=counts)
        self._scorers: dict[str, CachedScorer] = {}

    def __call__(self, name: str) -> CachedScorer:
        """The scorer of that name.

        Raises:
            ConfigError: No scorer is called that.
            ModelError: It cannot be loaded; says what to do.
        """
        if name not in self._scorers:
            self._scorers[name] = CachedScorer(self._loaded(name), self._cache)
        return self._scorers[name]

    def _loaded(self, name: str) -> Scorer:
        entry = SCORERS.get(name) if name in SCORERS.names() else None
        if entry is None or entry.combine is None:
            return self._load(name, self._device)
        return entry.combine([self(part) for part in entry.parts])


def score_texts(scorers: Sequence[Scorer], texts: Sequence[str]) -> Scores:
    """Scores of every text by every scorer; scorers of a ``ScorerPool`` remember them."""
    return {scorer.name: scorer.score(texts) for scorer in scorers}


def checked_scores(scorer: Scorer, texts: Sequence[str]) -> list[float]:
    """The scorer's own answer, after checking it.

    Raises:
        ModelError: The scorer failed, or gave a wrong number of scores, NaN or a value outside
            [0, 1].
    """
    asked = Asked(f"scorer {scorer.name!r}", "its weights or its label may be wrong")
    return checked_numbers(lambda: scorer.score(texts), len(texts), asked)


def checked_numbers(ask: Callable[[], Iterable[Any]], n_texts: int, asked: Asked) -> list[float]:
    """What somebody's code answers about texts: a float in [0, 1] for each.

    Raises:
        ModelError: It failed, or gave no list, a wrong number of values, no numbers, NaN or a value
            outside [0, 1]; of the sort that ``asked`` names.
    """
    who, wanted = asked.name, f"it must give a list of {n_texts} numbers{asked.place}"

    def failed(error: Exception) -> AcftError:
        place = place_outside(error, __file__) or asked.place
        said = f"{type(error).__name__}: {error}{place}"
        return asked.error(f"{who} failed on {n_texts} texts: {said}")

    with failing_as(failed):
        answer = ask()
        given = [*answer] if isinstance(answer, Iterable) else None
        wrong = [value for value in given or () if not (math.isfinite(value) and 0 <= value <= 1)]
    if given is None:
        raise asked.error(f"{who} gave {answer!r} for {n_texts} texts; {wanted}")
    if len(given) != n_texts:
        raise asked.error(f"{who} gave {len(given)} values for {n_texts} texts; {wanted}")
    if wrong:
        raise asked.error(
            f"{who} gave {wrong[0]!r} among others, {len(wrong)} of {n_texts} values are not in "
            f"[0, 1]; {asked.hint}{asked.place}"
        )
    return [float(value) for value in given]


def _key(scorer: Scorer, text: str) -> bytes:
    identity = "\x1f".join((scorer.name, scorer.version, scorer.sha256, text))
    return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).digest()
