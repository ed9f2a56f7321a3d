"""What a run says while it works: frozen records, one JSON line each.

The kinds and their fields are part of the run directory's contract (schema.py holds its version).
"""

import dataclasses
import functools
import json
import math
import sys
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, TypeGuard

from acft.errors import DataError, NonFiniteError


@dataclass(frozen=True)
class Event:
    """Base of all events."""

    kind: ClassVar[str]


class Phase(StrEnum):
    """What a run may be doing."""

    LOAD = "load"
    """Opening models and texts."""
    CORPUS = "corpus"
    """The base policy writes its corpus."""
    SAMPLE_ORACLE = "sample_oracle"
    """Drawing and judging responses that train the oracle."""
    SAMPLE_VALIDATION = "sample_validation"
    """Drawing and judging responses that test the oracle."""
    SAMPLE_TRAIN = "sample_train"
    """Drawing and judging responses that train the policy, without an oracle."""
    FILTER = "filter"
    """Judging the documents of the corpus."""
    GUIDE = "guide"
    """Computing the guidance of the corpus."""
    FIT_ORACLE = "fit_oracle"
    FIT_POLICY = "fit_policy"
    VALIDATE = "validate"
    """Drawing and judging responses to validation prompts."""
    EVALUATE = "evaluate"
    """Measuring on test prompts, or with a suite."""
    PERPLEXITY = "perplexity"
    JUDGE = "judge"
    """A judge model reads responses."""


@dataclass(frozen=True)
class Progress(Event):
    """How far the run is: ``done`` of ``total`` units of work in a phase."""

    kind: ClassVar[str] = "progress"
    phase: str
    """What is being done, one of ``Phase``; runs of other versions may know others."""
    done: int
    total: int
    round: int
    unit: str = "steps"


POLICY = "policy/"
"""Beginning of the names of what is measured at a step of the policy."""


@dataclass(frozen=True)
class Scalars(Event):
    """Numbers measured at one moment, by ``area/quantity`` name."""

    kind: ClassVar[str] = "scalars"
    round: int
    step: int
    """Optimiser steps of the policy finished so far, over all rounds; of ``oracle/`` quantities
    the epoch of the oracle's training, the number of the strength tried, or 0."""
    values: dict[str, float]

    @property
    def is_of_policy(self) -> bool:
        """Whether ``step`` counts optimiser steps of the policy."""
        return any(name.startswith(POLICY) for name in self.values)


@dataclass(frozen=True)
class Calibration(Event):
    """How well the oracle predicts the constraint on rollouts held out by prompt."""

    kind: ClassVar[str] = "calibration"
    round: int
    oracle_version: int
    n_rollouts: int
    n_prompts: int
    metrics: dict[str, float | None]
    """auc, auc_last_third, auc_within_prompt, auc_prefix, auc_prefix_last_third, brier,
    brier_constant, bce, bce_constant."""
    reliability: list[dict[str, float]]
    """One entry for each bin: its edges ``low`` and ``high``, the means ``predicted`` and
    ``observed``, the number ``n`` of positions and of ``groups`` (prompts) behind them, and the
    ``stderr`` of ``observed``. Older files have neither ``groups`` nor ``stderr``."""
    by_position: list[dict[str, float | None]]
    """For each response position: ``position``, ``auc``, ``brier``, ``n``."""


@dataclass(frozen=True)
class ShardSealed(Event):
    """A Parquet shard is complete and will never change."""

    kind: ClassVar[str] = "shard"
    table: str
    """rollouts, scores or guidance."""
    name: str
    """File name inside ``shards/``."""
    rows: int
    sha256: str
    round: int


@dataclass(frozen=True)
class RoundFinished(Event):
    """A round is complete and its checkpoint is sealed; a run resumes from here."""

    kind: ClassVar[str] = "round"
    round: int
    checkpoint: str
    """Folder inside the run directory."""
    policy_version: int
    oracle_version: int


@dataclass(frozen=True)
class BestCheckpoint(Event):
    """The checkpoint that validation prefers by toxicity and utility together."""

    kind: ClassVar[str] = "best"
    round: int
    checkpoint: str
    reason: str


CHANGE, DIFFERENCE, BEYOND_CONTROL = "_change", "_difference", "_change_beyond_control"
COMPARISONS = (BEYOND_CONTROL, CHANGE, DIFFERENCE)
"""Endings of metrics that compare a policy with base."""


@dataclass(frozen=True)
class Evaluated(Event):
    """One measured value of a suite for one policy."""

    kind: ClassVar[str] = "evaluated"
    suite: str
    metric: str
    subject: str
    """base, policy, guided or a checkpoint's name."""
    value: float | None
    n: int
    stderr: float | None = None
    low: float | None = None
    """Lower end of the 95 % interval where one was computed."""
    high: float | None = None
    """Upper end; an interval of which only one end is told has no limit at the other."""
    policy_version: int = 0
    scorer_version: str = ""
    """Version and weight hash of the scorer that judged, where one did."""


@dataclass(frozen=True)
class Note(Event):
    """Something a reader of the run should know, in plain words."""

    kind: ClassVar[str] = "note"
    level: str
    """info or warning."""
    text: str
    round: int = 0
    step: int = 0


@dataclass(frozen=True)
class Started(Event):
    """A worker process took up the run."""

    kind: ClassVar[str] = "started"
    pid: int
    resumed_from_round: int = 0
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished(Event):
    """The worker ended by itself: finished, stopped or failed."""

    kind: ClassVar[str] = "finished"
    state: str
    failure: str = ""
    message: str = ""


KINDS: dict[str, type[Event]] = {
    record.kind: record
    for record in (
        Progress, Scalars, Calibration, ShardSealed, RoundFinished, BestCheckpoint,
        Evaluated, Note, Started, Finished,
    )
}  # fmt: skip


LARGEST = sys.float_info.max
COUNT_END = 2**31
"""Counts of a run stay below it; the database keeps them in 32 bits."""


def to_json(event: Event, seq: int, time: float) -> str:
    """One self-contained JSON line, without the newline.

    Raises:
        NonFiniteError: A value is NaN or infinite; names the event and the field.
        DataError: A field has another type or size than its readers take, who would end here.
    """
    fields = dataclasses.asdict(event)
    where = _non_finite(fields)
    if where:
        raise NonFiniteError(f"event {event.kind!r} has a value that is not finite at {where}")
    head = {"seq": seq, "time": time, "kind": event.kind}
    line = json.dumps(head | fields, allow_nan=False)
    from_json(line)
    return line


def from_json(line: str) -> tuple[int, float, Event]:
    """Sequence number, time (seconds since the epoch) and event of one line.

    Fields this version does not know are ignored, so that newer directories still open.

    Raises:
        DataError: The line is not JSON, of an unknown kind, or a field has another type or size.
    """
    try:
        values = json.loads(line)
        record = KINDS[values["kind"]]
        fields = _checked(values, field_checks(record))
        return values["seq"], float(values["time"]), record(**fields)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(f"not an event line: {line[:120]!r} ({error})") from None


def _checked(values: dict[str, Any], checks: dict[str, Callable[[Any], bool]]) -> dict[str, Any]:
    """The fields that this version knows."""
    fields = {name: values[name] for name in checks if name in values}
    wrong = [name for name, value in fields.items() if not checks[name](value)]
    wrong += ["seq"] * (not is_count(values["seq"]))
    wrong += ["time"] * (not is_number(values["time"]))
    if wrong:
        raise TypeError(f"of another type or size: {', '.join(wrong)}")
    return fields


@functools.cache
def field_checks(record: type) -> dict[str, Callable[[Any], bool]]:
    """By field of a record: whether a value read from JSON is of its type and can be held."""
    hints = typing.get_type_hints(record)
    return {field.name: _check(hints[field.name]) for field in dataclasses.fields(record)}


def _check(hint: Any) -> Callable[[Any], bool]:
    outer, inner = typing.get_origin(hint), typing.get_args(hint)
    if outer is dict:
        return _items(dict, dict.values, inner[1])
    if outer in (list, tuple):  # JSON knows no tuples
        return _items(list, iter, inner[0])
    if outer is types.UnionType:
        checks = [_check(part) for part in inner]
        return lambda value: any(check(value) for check in checks)
    return NUMBERS.get(hint, lambda value: type(value) is hint)


def is_count(value: Any) -> bool:
    """Whether a value read from JSON is a whole number that every reader can hold."""
    return type(value) is int and -COUNT_END < value < COUNT_END


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value read from JSON is a finite number."""
    return type(value) in (int, float) and -LARGEST <= value <= LARGEST


NUMBERS: dict[Any, Callable[[Any], bool]] = {int: is_count, float: is_number}
"""By the type of a field; ``bool`` is none of them."""


def _items(outer: type, items: Callable[[Any], Any], hint: Any) -> Callable[[Any], bool]:
    if hint is Any:
        return lambda value: type(value) is outer
    check = _check(hint)
    return lambda value: type(value) is outer and all(map(check, items(value)))


def _non_finite(value: Any, path: str = "") -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return path
    children: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        children = [(f"{path}.{key}".lstrip("."), item) for key, item in value.items()]
    elif isinstance(value, (list, tuple)):
        children = [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    return next(filter(None, (_non_finite(item, name) for name, item in children)), "")
