"""Runs as pages show them, read from the run directories: status, settings, events, answers.

These are current without the database. Pages that show part of many rows, such as token values,
ask ``store.queries``.
"""

import threading
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from acft.atomic import FileMark, file_mark, open_own, read_own_text
from acft.costs import bill_of
from acft.errors import AcftError, DataError
from acft.eventlog import Entry, effective, read_events
from acft.events import (
    BestCheckpoint,
    Calibration,
    Evaluated,
    Note,
    Progress,
    RoundFinished,
    Scalars,
    ShardSealed,
    Started,
)
from acft.redaction import end_of_log, redacted
from acft.runs.directory import RUN_ID, all_runs, read_labels, read_launch, read_resolved
from acft.runs.status import FINAL, RunState, current_state
from acft.schema import Labels, Launch, RunPaths, Status
from acft.settings import as_asked, as_used
from acft.store.tail import Position, read_on
from acft.ui.reading.answers import Response, answers_of

LOG_TAIL_BYTES = 20_000
RESTING = ("queued", *FINAL, "lost")
"""States that stay true until a file changes; whether the others are depends on a process."""


Marks = tuple[FileMark, ...]
"""Number, size and time of some files."""


@dataclass(frozen=True, slots=True)
class Point:
    """One measured value."""

    step: int
    round: int
    time: float
    value: float


@dataclass
class History:
    """The events of a run that count, sorted by kind."""

    scalars: dict[str, list[Point]] = field(default_factory=dict)
    calibrations: list[Calibration] = field(default_factory=list)
    evaluations: list[Evaluated] = field(default_factory=list)
    notes: list[tuple[float, Note]] = field(default_factory=list)
    shards: list[ShardSealed] = field(default_factory=list)
    rounds: list[RoundFinished] = field(default_factory=list)
    attempts: list[tuple[float, Started]] = field(default_factory=list)
    progress: Progress | None = None
    best: BestCheckpoint | None = None
    n_events: int = 0
    last_steps: dict[int, int] = field(default_factory=dict)
    """Last step of each round."""

    def last(self, name: str) -> float | None:
        """Latest value of a quantity, None when it was never measured."""
        points = self.scalars.get(name)
        return points[-1].value if points else None

    def bill(self) -> dict[str, float]:
        """All that was spent so far; see ``costs.bill``."""
        return bill_of((name, p.value) for name, points in self.scalars.items() for p in points)

    def copy(self) -> "History":
        """A history that can take more events while this one is being read."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        lists = {name: list(v) for name, v in values.items() if isinstance(v, list)}
        scalars = {name: list(points) for name, points in self.scalars.items()}
        last_steps = dict(self.last_steps)
        return History(**{**values, **lists, "scalars": scalars, "last_steps": last_steps})

    def take(self, entry: Entry) -> None:
        """Adds one event."""
        event = entry.event
        if isinstance(event, Scalars):
            if event.is_of_policy:
                last = self.last_steps.get(event.round, 0)
                self.last_steps[event.round] = max(last, event.step)
            # what counts something else, such as epochs of the oracle, lies where the policy was
            step = event.step if event.is_of_policy else max(self.last_steps.values(), default=0)
            for name, value in event.values.items():
                point = Point(step, event.round, entry.time, value)
                self.scalars.setdefault(name, []).append(point)
        elif isinstance(event, Progress):
            self.progress = event
        elif isinstance(event, Note):
            self.notes.append((entry.time, event))
        elif isinstance(event, Started):
            self.attempts.append((entry.time, event))
            self.progress = None
        else:
            self._take_rare(event)

    def _take_rare(self, event: Any) -> None:
        if isinstance(event, Calibration):
            self.calibrations.append(event)
        elif isinstance(event, Evaluated):
            self.evaluations.append(event)
        elif isinstance(event, ShardSealed):
            self.shards.append(event)
        elif isinstance(event, RoundFinished):
            self.rounds.append(event)
        elif isinstance(event, BestCheckpoint):
            self.best = event


@dataclass(frozen=True, eq=False)
class Run:
    """Everything small that is known about one run."""

    run_id: str
    paths: RunPaths
    status: Status
    state: RunState
    labels: Labels
    history: History
    settings: dict[str, Any]
    """Resolved settings; empty until the worker wrote them."""
    facts: dict[str, Any]
    """Hashes and versions of models, scorers and texts, and what the method is like."""
    launch: Launch
    """How the run came about; nothing of it where the record is damaged."""

    @property
    def title(self) -> str:
        """What a list calls the run."""
        return str(self.settings.get("title") or "") or self.run_id

    @property
    def method(self) -> str:
        """Name of the training method."""
        return str(table_of(self.settings, "method").get("name", ""))

    @property
    def overrides(self) -> tuple[str, ...]:
        """What a training was asked for on top of its settings file; none of a measurement."""
        return self.launch.overrides if self.status.kind == "training" else ()

    @property
    def may_have_oracle(self) -> bool:
        """Whether its method trains an oracle; where that was not recorded, by what came of it."""
        may = not self.history.rounds or any(n.startswith("oracle/") for n in self.history.scalars)
        return bool(self.facts.get("has_oracle", may))


class _Tail:
    """Follows one event file."""

    def __init__(self, paths: RunPaths) -> None:
        self.path = paths.events
        self.position = Position()
        self.history = History()

    def poll(self) -> History:
        """The history so far; earlier ones stay as they were, since pages may still draw them."""
        n_known = self.position.seq
        try:
            fresh = self._read_on()
            if fresh is None:  # a machine that lost power lost some of what was read
                n_known, self.position, self.history = 0, Position(), History()
                fresh = self._read_on()
        except OSError:  # of one run, whose state tells; the others are to be seen
            return self.history
        if fresh:
            if any(isinstance(entry.event, Started) for entry in fresh):
                # What an attempt undoes was read before, and is rarer than it would be large.
                before = read_events(self.path)[:n_known] if n_known else []
                self.history = history_of(effective([*before, *fresh]))
            else:
                self.history = self.history.copy()
                for entry in fresh:
                    self.history.take(entry)
            self.history.n_events = self.position.seq
        return self.history

    def _read_on(self) -> list[Entry] | None:
        """What was written since; None where the file does not continue what was read before."""
        fresh: list[Entry] = []
        position, is_last = self.position, False
        while not is_last:
            chunk = read_on(self.path, position)
            if chunk is None:
                return None
            fresh += [line.entry for line in chunk.lines]
            position, is_last = chunk.position, chunk.is_last
        self.position = position
        return fresh


class Reader:
    """Reads a runs directory; safe to call from several threads."""

    def __init__(self, runs_dir: Path) -> None:
        self.runs_dir = runs_dir
        self._tails: dict[str, _Tail] = {}
        self._resting: dict[str, tuple[Marks, Run]] = {}
        self._lock = threading.Lock()

    def run_ids(self) -> list[str]:
        """Newest first."""
        return [paths.root.name for paths in reversed(all_runs(self.runs_dir))]

    def runs(self) -> list[Run]:
        """Every run, newest first."""
        run_ids = self.run_ids()
        with self._lock:
            for run_id in self._tails.keys() - run_ids:  # deleted
                del self._tails[run_id]
                self._resting.pop(run_id, None)
        return [run for run in map(self.run, run_ids) if run is not None]

    def run(self, run_id: str) -> Run | None:
        """One run, or None when there is none of that name; the same object while it rests."""
        paths = self.paths(run_id)
        if paths is None:
            return None
        # Taken before anything is read: what changes meanwhile is read again.
        marks = file_marks(paths)
        known = self._resting.get(run_id)
        if known is not None and known[0] == marks:
            return known[1]
        run = self._read(run_id, paths)
        if run.state.state in RESTING:
            self._resting[run_id] = (marks, run)
        return run

    def _read(self, run_id: str, paths: RunPaths) -> Run:
        status, state = current_state(paths)
        with self._lock:
            tail = self._tails.setdefault(run_id, _Tail(paths))
            history = tail.poll()
        resolved, launch = read_resolved(paths), _launch(paths)
        return Run(
            run_id=run_id,
            paths=paths,
            status=status,
            state=replace(state, message=redacted(state.message)),
            labels=read_labels(paths),
            history=history,
            settings=_settings(paths, resolved, launch.overrides),
            facts=table_of(resolved, "facts"),
            launch=launch,
        )

    def entries(self, run_id: str) -> list[Entry]:
        """The events of a run that count, in order; none when there is no such run."""
        paths = self.paths(run_id)
        return _entries(paths.events, file_mark(paths.events)) if paths else []

    def paths(self, run_id: str) -> RunPaths | None:
        """The folder of a run; names that are not run ids, and links, are refused."""
        if not RUN_ID.fullmatch(run_id):
            return None
        folder = self.runs_dir / run_id
        return RunPaths(folder) if folder.is_dir() and not folder.is_symlink() else None

    def answers(self, run: Run, purpose: str = "test") -> list[Response]:
        """Every response given for a purpose, with its scores."""
        names = tuple(
            (shard.table, shard.name)
            for shard in run.history.shards
            if shard.table in ("rollouts", "scores")
        )
        return answers_of(run.paths.shards, names, purpose)

    def log_size(self, run: Run) -> int:
        """Bytes the worker has printed."""
        return run.paths.log.stat().st_size if run.paths.log.exists() else 0

    def log_tail(self, run: Run) -> str:
        """The last lines the worker printed, without the secrets of this process."""
        try:
            with open_own(run.paths.log) as file:
                return end_of_log(file, LOG_TAIL_BYTES)
        except OSError:
            return ""


def file_marks(paths: RunPaths) -> Marks:
    """What changes whenever a file of the run does that ``Reader.run`` reads."""
    read = (paths.status, paths.events, paths.resolved, paths.spec, paths.launch, paths.labels)
    return tuple(map(file_mark, read))


@lru_cache(maxsize=4)
def _entries(path: Path, mark: FileMark) -> list[Entry]:  # noqa: ARG001
    """Events that count of a file as it was at a mark; few are asked for, and often."""
    return effective(read_events(path))


def history_of(entries: Iterable[Entry]) -> History:
    """Events that count, sorted by kind."""
    history = History()
    for entry in entries:
        history.take(entry)
        history.n_events += 1
    return history


def _launch(paths: RunPaths) -> Launch:
    try:
        return read_launch(paths)
    except DataError:
        return Launch(created=0.0)


def _settings(
    paths: RunPaths, resolved: dict[str, Any], overrides: Sequence[str]
) -> dict[str, Any]:
    """Resolved settings with the method's own; as asked for while the run waits."""
    if settings := as_used(resolved):
        return settings
    try:
        written = tomllib.loads(read_own_text(paths.spec))
    except (OSError, ValueError):
        return {}
    try:
        return as_asked(written, overrides)
    except AcftError:
        return written


def table_of(values: dict[str, Any], name: str) -> dict[str, Any]:
    """A table inside of another; empty where it is missing or something else."""
    found = values.get(name)
    return found if isinstance(found, dict) else {}
