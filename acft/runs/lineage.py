"""Runs among each other: clones, differences, labels, the space they take, and clean-up."""

import dataclasses
import os
import shutil
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acft.atomic import temporary
from acft.config import flat
from acft.costs import bill
from acft.errors import ConfigError, DataError, RunError
from acft.eventlog import effective, read_events
from acft.runs.directory import (
    all_runs,
    find_run,
    read_labels,
    read_resolved,
    read_status,
    refuse_links,
    write_labels,
)
from acft.runs.locks import FileLock
from acft.runs.recording import TAG as RECORDED
from acft.runs.sizes import size
from acft.runs.status import RESUMABLE, current_state
from acft.schema import BEGINNING, LOCK, Labels, RunPaths, Status
from acft.settings import as_used

if TYPE_CHECKING:
    from acft.runs.spec import Spec

LABELLING = "labels.lock"
"""In a folder of runs: held by whoever reads and writes labels, so that no edit undoes another."""


@dataclass(frozen=True)
class Difference:
    """One setting in which two runs differ; None where a run does not have it."""

    name: str
    first: Any
    second: Any


@dataclass(frozen=True)
class Space:
    """What a run takes on the disk, in bytes."""

    total: int
    checkpoints: int
    shards: int
    spare: int
    """Of checkpoints other than the best and the last, which ``delete_checkpoints`` frees."""


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


@dataclass(frozen=True)
class CleanUp:
    """Something that may be deleted."""

    run_id: str
    bytes: int
    why: str


def differences(runs_dir: Path, first: str, second: str) -> list[Difference]:
    """Settings in which two runs differ, by dotted name."""
    left, right = (_values(find_run(runs_dir, name)) for name in (first, second))
    names = sorted(left.keys() | right.keys())
    pairs = [Difference(name, left.get(name), right.get(name)) for name in names]
    return [pair for pair in pairs if pair.first != pair.second]


def by_fingerprint(runs_dir: Path, *, with_resumable: bool = False) -> dict[str, tuple[str, str]]:
    """Id and state by fingerprint, of all runs that are or may yet be done; finished ones win.

    Args:
        runs_dir: Directory of all runs.
        with_resumable: Also runs that ended early after a sealed round, where no other run is or
            may yet be done; of several the one that came furthest.
    """
    found: dict[str, tuple[str, str]] = {}
    ended: dict[str, tuple[int, str, str]] = {}
    for paths in all_runs(runs_dir):
        fingerprint = _fingerprint(paths)
        status, seen = current_state(paths)
        if not fingerprint:
            continue
        if seen.state in RESUMABLE:
            if with_resumable and status.checkpoint:
                this = (status.round, paths.root.name, seen.state)
                ended[fingerprint] = max(this, ended.get(fingerprint, this))
        elif found.get(fingerprint, ("", ""))[1] != "finished":
            found[fingerprint] = (paths.root.name, seen.state)
    return {name: (run_id, state) for name, (_, run_id, state) in ended.items()} | found


def label(
    runs_dir: Path,
    run_id: str,
    *,
    tags: Sequence[str] | None = None,
    notes: str | None = None,
    archived: bool | None = None,
) -> Labels:
    """The run's labels after setting those that are given."""
    paths = find_run(runs_dir, run_id)
    given: dict[str, Any] = {"notes": notes, "archived": archived}
    if tags is not None:
        given["tags"] = tuple(sorted({tag.strip() for tag in tags} - {""}))
    changed = {name: value for name, value in given.items() if value is not None}
    # The run's own lock is held by its worker, and labels may be edited while that works.
    with FileLock(runs_dir / LABELLING):
        labels = dataclasses.replace(read_labels(paths), **changed)
        write_labels(paths, labels)
    return labels


def space(paths: RunPaths) -> Space:
    """What a run takes on the disk now."""
    checkpoints, shards = _bytes(paths.checkpoints), _bytes(paths.shards)
    spare = sum(_bytes(folder) for folder in _spare_checkpoints(paths))
    return Space(_bytes(paths.root), checkpoints, shards, spare)


def delete(runs_dir: Path, run_id: str, confirmation: str) -> int:
    """Bytes freed by deleting a run that nobody works on.

    Args:
        runs_dir: Directory of all runs.
        run_id: The run.
        confirmation: The run's id once more; anything else deletes nothing.

    Raises:
        RunError: The confirmation is wrong, or the run is live.
    """
    paths = find_run(runs_dir, run_id)
    if confirmation != run_id:
        raise RunError(f"deleting {run_id} needs its id as confirmation, not {confirmation!r}")
    with _quiet(paths), _unexported(paths):
        freed = space(paths).total
        doomed = temporary(paths.root)
        paths.root.rename(doomed)
    shutil.rmtree(doomed)
    return freed


def delete_checkpoints(runs_dir: Path, run_id: str) -> int:
    """Bytes freed by deleting all checkpoints of a run but the last and the best."""
    paths = find_run(runs_dir, run_id)
    refuse_links(paths)
    with _quiet(paths), _unexported(paths):
        spare = _spare_checkpoints(paths)
        freed = sum(_bytes(folder) for folder in spare)
        for folder in spare:
            shutil.rmtree(folder)
    return freed


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
            alike = rates.get((*_resembling(_values(paths)), status.step > 0))
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


def clean_up_advice(runs_dir: Path, quota_bytes: int) -> list[CleanUp]:
    """What to delete first to come below a quota; empty when the runs are below it."""
    sizes = {paths.root.name: space(paths) for paths in all_runs(runs_dir)}
    excess = sum(taken.total for taken in sizes.values()) - quota_bytes
    advice: list[CleanUp] = []
    for candidate in _candidates(runs_dir, sizes):
        if excess <= 0:
            break
        advice.append(candidate)
        excess -= candidate.bytes
    return advice


def check_room(runs_dir: Path, needed_bytes: int, quota_bytes: int = 0) -> None:
    """Returns if a run of this size fits on the disk and into the quota (0 = none).

    Raises:
        RunError: It does not; says what may be deleted.
    """
    runs_dir.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(runs_dir).free
    if needed_bytes > free:
        raise RunError(
            f"the run needs about {size(needed_bytes)} and the disk of {str(runs_dir)!r} has "
            f"{size(free)} free; delete runs or choose another directory"
        )
    used = sum(space(paths).total for paths in all_runs(runs_dir)) if quota_bytes else 0
    if used + needed_bytes <= quota_bytes or not quota_bytes:
        return
    advice = clean_up_advice(runs_dir, quota_bytes - needed_bytes)
    ways = [f"{item.run_id} ({size(item.bytes)}, {item.why})" for item in advice]
    if used + needed_bytes - sum(item.bytes for item in advice) > quota_bytes:
        ways.append("finished runs that are no longer needed")
    raise RunError(
        f"runs take {size(used)} and would exceed the quota of {size(quota_bytes)}; "
        f"delete (acft delete): {', '.join(ways)}"
    )


def _candidates(runs_dir: Path, sizes: dict[str, Space]) -> list[CleanUp]:
    """Everything that may go, the least regretted first."""
    archived, failed, spare = [], [], []
    for paths in all_runs(runs_dir):
        name = paths.root.name
        _, state = current_state(paths)
        if state.is_live or state.state == "queued":
            continue
        if read_labels(paths).archived:
            archived.append(CleanUp(name, sizes[name].total, "archived"))
        elif state.state in ("failed", "lost"):
            failed.append(CleanUp(name, sizes[name].total, state.label))
        else:
            freed = sizes[name].spare
            spare.append(CleanUp(name, freed, "checkpoints other than best and last"))
    return [*archived, *failed, *(item for item in spare if item.bytes)]


def _spare_checkpoints(paths: RunPaths) -> list[Path]:
    status = read_status(paths)
    kept = {paths.root / name for name in (status.checkpoint, status.best_checkpoint) if name}
    # The folder may be missing: what copies runs often leaves empty folders out.
    spare = set(paths.checkpoints.glob("*")) - kept
    return sorted(folder for folder in spare if folder.is_dir() and not folder.is_symlink())


def _resembling(values: dict[str, Any]) -> tuple[Any, ...]:
    """What runs must share for one to tell the cost of the other."""
    return tuple(
        values.get(name) for name in ("model.name", "method.name", "adapter.kind", "device")
    )


def _values(paths: RunPaths) -> dict[str, Any]:
    """Every setting of a run by dotted name, from its record or, before it started, its spec.

    Raises:
        DataError: Neither can be read.
    """
    if used := as_used(read_resolved(paths)):
        return flat(used)
    from acft.runs.spec import spec_of  # noqa: PLC0415 - imports torch

    try:
        return spec_of(paths).values
    except ConfigError as error:
        raise DataError(f"the settings of run {paths.root.name} cannot be read: {error}") from None


def _seconds(paths: RunPaths, status: Status) -> float:
    """Time that all rounds took together; the status has that of the last attempt."""
    if status.resumed_from in ("", BEGINNING):
        return status.ended - status.started
    costs = bill(entry.event for entry in effective(read_events(paths.events)))
    return sum(value for name, value in costs.items() if name.startswith("seconds/"))


def _fingerprint(paths: RunPaths) -> str:
    """Of the run's settings as they are understood now; empty where they are unknown.

    The recorded one would change with every setting that a later version adds.
    """
    from acft.runs.spec import spec_of  # noqa: PLC0415 - imports torch

    try:
        return spec_of(paths).fingerprint
    except (ConfigError, DataError):
        return ""


def _quiet(paths: RunPaths) -> FileLock:
    """The lock of a run that nobody works on."""
    _, state = current_state(paths)
    if state.is_live:
        raise RunError(f"run {paths.root.name} is {state.label}; stop it first")
    return FileLock(paths.lock)


@contextmanager
def _unexported(paths: RunPaths) -> Iterator[None]:
    """Within it, nobody writes an export into the run's folder.

    Raises:
        RunError: Somebody does.
    """
    if not paths.exports.is_dir():  # whoever makes it finds what is gone
        yield
        return
    lock = FileLock(paths.exports / LOCK, wait_seconds=0.0)
    if not lock.acquire():
        raise RunError(f"run {paths.root.name} is being exported; wait until that is done")
    try:
        yield
    finally:
        lock.release()


def _bytes(folder: Path) -> int:
    """Bytes of all files; what a worker removes meanwhile counts nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += Path(place, name).lstat().st_size
    return total
