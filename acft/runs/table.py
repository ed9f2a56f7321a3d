"""A paper-style table of finished runs: a row for each variant, a column for each measurement."""

import fnmatch
import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from acft.errors import DataError
from acft.eventlog import effective, read_events
from acft.events import Evaluated
from acft.runs.directory import all_runs, read_labels, read_launch, read_status
from acft.schema import Launch, RunPaths

AS_WRITTEN = "as written"
SEED = "seed="


@dataclass(frozen=True)
class Cell:
    """A measurement, over seeds where several runs differ in nothing else."""

    value: float | None
    """Mean over the runs; None when it could not be measured."""
    runs: int
    stderr: float | None = None
    """Of the mean over two or more runs."""
    low: float | None = None
    """Ends of the 95 % interval that a single run reported."""
    high: float | None = None

    @property
    def text(self) -> str:
        """Value with its uncertainty."""
        if self.value is None:
            return "–"
        if self.stderr is not None:
            return f"{self.value:.3g} ± {self.stderr:.2g} ({self.runs} runs)"
        if self.low is not None and self.high is not None:
            return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"
        return f"{self.value:.3g}"


@dataclass(frozen=True)
class Row:
    """One variant of the experiment and whom of it was measured."""

    variant: str
    """The changed settings, without the seed."""
    subject: str
    cells: dict[str, Cell]


@dataclass(frozen=True)
class ResultTable:
    """Everything measured in an experiment."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def markdown(self) -> str:
        """The table as Markdown."""
        head = ["variant", "subject", *self.columns]
        lines = [head, ["---"] * len(head)]
        for row in self.rows:
            cells = [row.cells[name].text if name in row.cells else "" for name in self.columns]
            lines.append([row.variant, row.subject, *cells])
        return "\n".join("| " + " | ".join(map(_escape, line)) + " |" for line in lines)


def result_table(runs_dir: Path, experiment: str, patterns: Sequence[str] = ("*",)) -> ResultTable:
    """The measurements of all finished runs of an experiment, sweep or tag.

    Args:
        runs_dir: Directory of all runs.
        experiment: Name of the settings file without its ending, of a sweep or of a tag.
        patterns: Columns to keep, as ``suite/scorer quantity`` with wildcards. Measurements of
            single prompt categories (``quantity@category``) need a pattern with ``@``.

    Raises:
        DataError: No finished run of that name has measured anything.
    """
    found: dict[tuple[str, str], dict[str, list[Evaluated]]] = defaultdict(dict)
    for paths, launch in _members(runs_dir, experiment):
        variant = _variant(runs_dir, launch)
        for event in _measurements(paths):
            column = f"{event.suite} {event.metric}"
            if _is_wanted(column, patterns):
                cells = found[variant, event.subject]
                cells.setdefault(column, []).append(event)
    if not found:
        raise DataError(
            f"no finished run of {experiment!r} in {str(runs_dir)!r} has measurements; name an "
            "experiment, sweep or tag, and check --metric"
        )
    columns = dict.fromkeys(column for cells in found.values() for column in cells)
    rows = [
        Row(variant, subject, {name: _cell(events) for name, events in cells.items()})
        for (variant, subject), cells in found.items()
    ]
    return ResultTable(tuple(columns), tuple(rows))


def _members(runs_dir: Path, experiment: str) -> Iterator[tuple[RunPaths, Launch]]:
    for paths in all_runs(runs_dir):
        if read_status(paths).state != "finished":
            continue
        try:
            launch = read_launch(paths)
        except DataError:
            continue  # nobody can tell what it belongs to
        if experiment in (launch.experiment, launch.sweep, *read_labels(paths).tags):
            yield paths, launch


def _variant(runs_dir: Path, launch: Launch) -> str:
    """Changed settings without the seed; an evaluation's are those of the run it measured."""
    subject = RunPaths(runs_dir / launch.subject)
    if launch.subject and subject.launch.is_file():
        launch = read_launch(subject)
    changes = [change for change in launch.overrides if not change.startswith(SEED)]
    return ", ".join(changes) or AS_WRITTEN


def _measurements(paths: RunPaths) -> list[Evaluated]:
    events = [entry.event for entry in effective(read_events(paths.events))]
    return [event for event in events if isinstance(event, Evaluated)]


def _is_wanted(column: str, patterns: Sequence[str]) -> bool:
    return any(
        fnmatch.fnmatch(column, pattern) and ("@" in pattern or "@" not in column)
        for pattern in patterns
    )


def _cell(events: Sequence[Evaluated]) -> Cell:
    values = [event.value for event in events if event.value is not None]
    if not values:
        return Cell(None, len(events))
    if len(values) == 1:
        only = next(event for event in events if event.value is not None)
        return Cell(values[0], 1, low=only.low, high=only.high)
    stderr = statistics.stdev(values) / math.sqrt(len(values))
    return Cell(statistics.fmean(values), len(values), stderr)


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
