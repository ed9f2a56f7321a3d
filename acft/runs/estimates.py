"""What a run will need, told from finished ones like it."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acft.costs import bill
from acft.errors import DataError
from acft.eventlog import effective, read_events
from acft.runs.comparison import values_of
from acft.runs.directory import all_runs, read_labels, read_status
from acft.runs.recording import TAG as RECORDED
from acft.runs.space import space
from acft.schema import BEGINNING, RunPaths, Status

if TYPE_CHECKING:
    from acft.runs.spec import Spec


@dataclass(frozen=True)
class Estimate:
    """What a run will need, told from finished ones with the same model and method."""

    seconds: float
    bytes: int
    runs: tuple[str, ...]
    """The runs this is told from."""


@dataclass(frozen=True)
class _Rate:
    """What a finished run took for each step, or for each round where none is taken."""

    run_id: str
    seconds: float
    bytes: float


def estimate(runs_dir: Path, spec: "Spec") -> Estimate | None:
    """Time and disk a run will need; None when no finished run of this machine resembles it."""
    return estimates(runs_dir, [spec])[0]


def estimates(runs_dir: Path, specs: Sequence["Spec"]) -> list[Estimate | None]:
    """Time and disk each run will need, as ``estimate``; the runs directory is read once."""
    kinds = [(*_resembling(spec.values), spec.steps > 0) for spec in specs]
    rates: dict[tuple[Any, ...], list[_Rate]] = {kind: [] for kind in kinds}
    for paths in all_runs(runs_dir):
        status = read_status(paths)
        done = status.step or status.round
        if status.state != "finished" or status.kind != "training" or not done:
            continue
        if RECORDED in read_labels(paths).tags:  # on another machine, and packed without much
            continue
        try:
            alike = rates.get((*_resembling(values_of(paths)), status.step > 0))
        except DataError:
            continue  # one that is damaged foretells nothing
        if alike is not None:
            taken = space(paths).total
            seconds = _seconds(paths, status)
            alike.append(_Rate(paths.root.name, seconds / done, taken / done))
    return [_estimate(rates[kind], spec) for kind, spec in zip(kinds, specs, strict=True)]


def _estimate(rates: Sequence[_Rate], spec: "Spec") -> Estimate | None:
    if not rates:
        return None
    work = spec.steps or spec.settings.schedule.rounds
    return Estimate(
        statistics.median(rate.seconds for rate in rates) * work,
        int(statistics.median(rate.bytes for rate in rates) * work),
        tuple(rate.run_id for rate in rates),
    )


def _resembling(values: dict[str, Any]) -> tuple[Any, ...]:
    """What runs must share for one to tell the cost of the other."""
    return tuple(
        values.get(name) for name in ("model.name", "method.name", "adapter.kind", "device")
    )


def _seconds(paths: RunPaths, status: Status) -> float:
    """Time that all rounds took together; the status has that of the last attempt."""
    if status.resumed_from in ("", BEGINNING):
        return status.ended - status.started
    costs = bill(entry.event for entry in effective(read_events(paths.events)))
    return sum(value for name, value in costs.items() if name.startswith("seconds/"))
