"""What a constraint is, and how tables of settings become one.

A graded value above 0.5 is the verdict "satisfied". Every kind keeps that exact, so conjunction is
the minimum, disjunction the maximum and negation the complement. Parsing loads no model.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, cast, runtime_checkable

from pydantic import Field

from acft.config import Config
from acft.errors import FAILURES, AcftError, ConfigError, ConstraintError, place_of, written_at
from acft.registry import Registry
from acft.schema import SATISFIED_ABOVE
from acft.scorers import Scorer, check_scorer_name
from acft.scoring import Asked, checked_numbers

Table = Mapping[str, Any]
Tables = Annotated[tuple[dict[str, Any], ...], Field(strict=False, min_length=1)]
Grades = list[float]
Grader = Callable[[Sequence[str], Sequence[str]], Grades]
"""Prompts and responses to one graded value for each response."""
GetScorer = Callable[[str], Scorer]

MAX_DEPTH = 8
"""Tables inside tables."""

JUST_ABOVE_HALF = SATISFIED_ABOVE + 2**-24
"""The smallest value that is the verdict "satisfied", in float32 too, in which oracles learn it."""


@runtime_checkable
class Constraint(Protocol):
    """A demand on responses."""

    @property
    def scorers(self) -> tuple[str, ...]:
        """Names of the scorers it asks."""
        ...

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> Grades:
        """Satisfaction in [0, 1] of each response, in the same order; above 0.5 = satisfied."""
        ...

    def describe(self) -> str:
        """The demand in words."""
        ...


@runtime_checkable
class LeafSettings(Protocol):
    """Settings of a kind that judges responses itself."""

    def scorer_names(self) -> tuple[str, ...]:
        """Scorers it asks; empty for kinds that only look at the text."""
        ...

    def describe(self) -> str:
        """The demand in words."""
        ...

    def grader(self, get_scorer: GetScorer, /) -> Grader:
        """The judgement; loads the scorers."""
        ...


@runtime_checkable
class CombinationSettings(Protocol):
    """Settings of a kind that combines the judgements of other tables."""

    def parts(self) -> tuple[tuple[str, Table], ...]:
        """Where each combined table stands in this one, and the table."""
        ...

    def describe_parts(self, parts: Sequence[str]) -> str:
        """The demand in words, from those of the parts."""
        ...

    def combine(self, values: Sequence[float]) -> float:
        """Satisfaction of one response from its satisfaction under each part."""
        ...


SORTS = (LeafSettings, CombinationSettings)
CONSTRAINTS: Registry[type[Config]] = Registry("constraint", "acft.constraints", type)
"""Classes of settings; their objects are ``LeafSettings`` or ``CombinationSettings``."""


@dataclass(frozen=True)
class ParsedConstraint:
    """Checked settings of a constraint and of those inside it; nothing is loaded yet."""

    kind: str
    settings: LeafSettings | CombinationSettings
    parts: tuple["ParsedConstraint", ...] = ()

    def scorer_names(self) -> tuple[str, ...]:
        """Scorers that this constraint and its parts ask, each once, in order."""
        if isinstance(self.settings, CombinationSettings):
            names = [name for part in self.parts for name in part.scorer_names()]
            return tuple(dict.fromkeys(names))
        return self.settings.scorer_names()

    def describe(self) -> str:
        """The demand in words."""
        if isinstance(self.settings, CombinationSettings):
            return self.settings.describe_parts([part.describe() for part in self.parts])
        return self.settings.describe()

    def grader(self, get_scorer: GetScorer) -> Grader:
        """The judgement, whose values are checked; loads the scorers."""
        judge = self._judge(get_scorer)
        asked = Asked(
            f"constraint {self.kind!r}", "its file has to be mended", written_at(self._own(judge)),
            ConstraintError,
        )  # fmt: skip

        def grade(prompts: Sequence[str], responses: Sequence[str]) -> Grades:
            return checked_numbers(lambda: judge(prompts, responses), len(responses), asked)

        return grade

    def _own(self, judge: Grader) -> Callable[..., Any]:
        """The function of the kind's file that gives the numbers."""
        return self.settings.combine if isinstance(self.settings, CombinationSettings) else judge

    def _judge(self, get_scorer: GetScorer) -> Grader:
        if not isinstance(self.settings, CombinationSettings):
            judge: Any = self.settings.grader(get_scorer)
            if not callable(judge):
                raise ConstraintError(
                    f"grader of constraint {self.kind!r} gave {judge!r}; it must return a function "
                    f"of prompts and responses{written_at(self.settings.grader)}"
                )
            return cast("Grader", judge)
        combine = self.settings.combine
        graders = [part.grader(get_scorer) for part in self.parts]

        def grade(prompts: Sequence[str], responses: Sequence[str]) -> Grades:
            columns = [grader(prompts, responses) for grader in graders]
            return [combine(values) for values in zip(*columns, strict=True)]

        return grade


@dataclass(frozen=True)
class _Built:
    """A constraint whose scorers are loaded."""

    parsed: ParsedConstraint
    grader: Grader

    @property
    def scorers(self) -> tuple[str, ...]:
        return self.parsed.scorer_names()

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> Grades:
        if len(prompts) != len(responses):
            raise ValueError(f"{len(prompts)} prompts but {len(responses)} responses")
        return self.grader(prompts, responses)

    def describe(self) -> str:
        return self.parsed.describe()


def build_constraint(tables: Sequence[Table], get_scorer: GetScorer) -> Constraint:
    """The constraint that all tables hold, with its scorers loaded.

    Raises:
        ConfigError: A table is wrong; the message has one line for each problem.
        ModelError: A scorer cannot be loaded, or a kind's own code gives no judgement.
    """
    parsed = parse_constraints(tables)
    whole = parsed[0]
    if len(parsed) > 1:
        whole = ParsedConstraint("all_of", _settings("all_of", {"constraints": tables}), parsed)
    return _Built(whole, whole.grader(get_scorer))


def parse_constraints(tables: Sequence[Table]) -> tuple[ParsedConstraint, ...]:
    """Checked settings of each table; nothing is loaded.

    Raises:
        ConfigError: No table, or any number of problems; the message has one line for each.
    """
    if not tables:
        raise ConfigError("[constraint] has no table; add one with a kind, such as 'scorer'")
    problems: list[str] = []
    parsed = [
        _parse(table, f"constraint.{index}", 1, problems) for index, table in enumerate(tables)
    ]
    if problems:
        raise ConfigError("\n".join(problems))
    return tuple(item for item in parsed if item is not None)


def _parse(table: Table, where: str, depth: int, problems: list[str]) -> ParsedConstraint | None:
    """The parsed table, or None after adding what is wrong with it to ``problems``."""
    if depth > MAX_DEPTH:
        problems.append(f"[{where}] is table number {depth} inside another; {MAX_DEPTH} allowed")
        return None
    kind = table.get("kind")
    if not isinstance(kind, str):
        allowed = ", ".join(CONSTRAINTS.names())
        problems.append(f"[{where}] kind = {kind!r}: not a kind of constraint (allowed: {allowed})")
        return None
    try:
        CONSTRAINTS.get(kind)
    except ConfigError as error:
        problems.append(f"[{where}] kind = {kind!r}: {error}")
        return None
    try:
        settings = _settings(kind, table, where)
    except ConfigError as error:
        problems.append(str(error))
        return None
    parts: list[ParsedConstraint | None] = []
    n_before = len(problems)
    if isinstance(settings, CombinationSettings):
        parts = [
            _parse(part, f"{where}.{place}", depth + 1, problems)
            for place, part in settings.parts()
        ]
    parsed = ParsedConstraint(kind, settings, tuple(part for part in parts if part is not None))
    if len(problems) == n_before:  # else its words would lack those of a part
        problems += [f"[{where}] {problem}" for problem in _unusable(parsed)]
    return parsed


def _unusable(parsed: ParsedConstraint) -> Iterator[str]:
    """One sentence for each answer of a kind's own code that nobody can use."""
    if isinstance(parsed.settings, CombinationSettings):
        yield from _answer(parsed, "describe_parts", parsed.describe, str, "a text")[1]
        return
    yield from _answer(parsed, "describe", parsed.describe, str, "a text")[1]
    wanted = "a tuple of names, () where it asks no scorer"
    asking = parsed.settings.scorer_names
    names, problems = _answer(parsed, "scorer_names", asking, (tuple, list), wanted)
    yield from problems
    for name in () if problems else names:
        try:
            check_scorer_name(str(name))
        except ConfigError as error:
            yield f"scorer_names of constraint {parsed.kind!r}: {error}{written_at(asking)}"


def _answer(
    parsed: ParsedConstraint,
    method: str,
    ask: Callable[[], Any],
    sort: type | tuple[type, ...],
    wanted: str,
) -> tuple[Any, list[str]]:
    """What a kind's own code answers, and the sentence that refuses it where it cannot be used."""
    who = f"{method} of constraint {parsed.kind!r}"
    place = written_at(getattr(parsed.settings, method))
    try:
        answer = ask()
    except AcftError as error:
        return None, [f"{who} failed: {error}{place}"]
    except FAILURES as error:
        return None, [f"{who} failed: {type(error).__name__}: {error}{place_of(error)}"]
    if isinstance(answer, sort):
        return answer, []
    return None, [f"{who} gave {answer!r}; it must give {wanted}{place}"]


def _settings(kind: str, values: Table, where: str = "") -> LeafSettings | CombinationSettings:
    holder = CONSTRAINTS.get(kind)
    wanted = [f"{sort.__name__} ({', '.join(_methods(sort))})" for sort in SORTS]
    is_one = any(all(hasattr(holder, name) for name in _methods(sort)) for sort in SORTS)
    if not (is_one and issubclass(holder, Config)):
        raise ConfigError(
            f"constraint {kind!r} cannot be used: its class {holder.__module__}.{holder.__name__} "
            f"must be a Config with the methods of {' or of '.join(wanted)}"
        )
    settings: Any = holder.parse({key: val for key, val in values.items() if key != "kind"}, where)
    return settings


def _methods(sort: type) -> list[str]:
    return sorted(name for name in vars(sort) if not name.startswith("_"))
