"""The space that runs take on the disk: how much, for whom there is room, and what may go."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from acft.atomic import temporary
from acft.errors import RunError
from acft.eventlog import effective, read_events
from acft.events import BestCheckpoint, RoundFinished
from acft.runs.directory import all_runs, find_run, read_labels, read_status, refuse_links
from acft.runs.locks import FileLock
from acft.runs.sizes import size
from acft.runs.status import current_state
from acft.schema import LOCK, RunPaths

LEAST_FREE_BYTES = 300 * 1024**2
"""What must be free for anything new, also where no earlier run tells what it will take: about a
checkpoint of a small model with its optimiser's state."""


@dataclass(frozen=True)
class Space:
    """What a run takes on the disk, in bytes."""

    total: int
    checkpoints: int
    shards: int
    spare: int
    """Of checkpoints other than the best and the last, which ``delete_checkpoints`` frees."""


@dataclass(frozen=True)
class CleanUp:
    """Something that may be deleted."""

    run_id: str
    bytes: int
    why: str


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

    A size that nobody knows is 0; the disk must have ``LEAST_FREE_BYTES`` for it all the same.

    Raises:
        RunError: It does not; says what may be deleted.
    """
    runs_dir.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(runs_dir).free
    if max(needed_bytes, LEAST_FREE_BYTES) > free:
        is_known = needed_bytes > LEAST_FREE_BYTES
        needs = f"about {size(needed_bytes)}" if is_known else f"at least {size(LEAST_FREE_BYTES)}"
        raise RunError(
            f"the run needs {needs} and the disk of {str(runs_dir)!r} has "
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
    kept = {paths.root / name for name in _needed_checkpoints(paths) if name}
    # The folder may be missing: what copies runs often leaves empty folders out.
    spare = set(paths.checkpoints.glob("*")) - kept
    return sorted(folder for folder in spare if folder.is_dir() and not folder.is_symlink())


def _needed_checkpoints(paths: RunPaths) -> set[str]:
    """The best, the last and, where a run was to go on from another, that one too."""
    status = read_status(paths)
    needed = {status.checkpoint, status.best_checkpoint, status.resumed_from}
    if status.resumed_from:  # unless it does go on, the rounds after that point still count
        events = [entry.event for entry in effective(read_events(paths.events))]
        sealed = [event.checkpoint for event in events if isinstance(event, RoundFinished)]
        preferred = [event.checkpoint for event in events if isinstance(event, BestCheckpoint)]
        needed |= {*sealed[-1:], *preferred[-1:]}
    return needed


@contextmanager
def _quiet(paths: RunPaths) -> Iterator[None]:
    """Within it, nobody works on the run.

    Raises:
        RunError: Somebody does.
    """
    _refuse_live(paths)
    with FileLock(paths.lock):
        _refuse_live(paths)  # it may have been started before it was locked
        yield


def _refuse_live(paths: RunPaths) -> None:
    _, state = current_state(paths)
    if state.is_live:
        raise RunError(f"run {paths.root.name} is {state.label}; stop it first")


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
