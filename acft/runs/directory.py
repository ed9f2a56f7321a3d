"""Run directories: made in one step, found, and what their small records say.

``schema.py`` names the files and states the rules; everything written here is replaced atomically.
"""

import dataclasses
import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from acft.atomic import (
    TEMPORARY,
    read_own_text,
    replace_bytes,
    replace_json,
    sync_folder,
    temporary,
)
from acft.errors import DataError, RunError
from acft.eventlog import Entry, effective, read_events
from acft.events import (
    BestCheckpoint,
    Finished,
    RoundFinished,
    Scalars,
    Started,
    field_checks,
    is_number,
)
from acft.registry import did_you_mean
from acft.runs.locks import FileLock
from acft.schema import STATES, Labels, Launch, RunPaths, Status, folders

RUN_ID = re.compile(r"\d{8}-\d{6}-[a-z2-7]{4}")
"""Date and time (UTC) of creation, then four random characters; no user text."""
DAMAGES = (OSError, ValueError, TypeError, AttributeError, RecursionError)
"""What reading a record that somebody spoilt can raise."""
ID_LETTERS = "234567abcdefghijklmnopqrstuvwxyz"  # sorted
ID_STEP_SECONDS = len(ID_LETTERS) ** -2
TAKEN = (errno.EEXIST, errno.ENOTEMPTY)
STALE_SECONDS = 3600.0
"""Unfinished folders older than this are remains of a dead process."""

Record = TypeVar("Record")


def new_run_id(now: float) -> str:
    """A name that sorts by creation time, to a thousandth of a second."""
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y%m%d-%H%M%S")
    letters = len(ID_LETTERS)
    within = divmod(int(now % 1 * letters**2), letters)
    chosen = (*within, secrets.randbelow(letters), secrets.randbelow(letters))
    return f"{moment}-{''.join(ID_LETTERS[index] for index in chosen)}"


def create_run(runs_dir: Path, spec_text: str, launch: Launch, status: Status) -> RunPaths:
    """A new run directory; it appears complete or not at all.

    Raises:
        RunError: The folder cannot be written to.
    """
    try:
        return _create_run(runs_dir, spec_text, launch, status)
    except OSError as error:
        raise not_writable(runs_dir, error) from error


def not_writable(runs_dir: Path, error: OSError) -> RunError:
    """The error of a folder that takes no new run."""
    way_out = "free space or choose" if error.errno == errno.ENOSPC else "choose"
    return RunError(
        f"cannot create a run in {str(runs_dir)!r}: {error.strerror}; {way_out} another folder "
        "with --runs"
    )


def _create_run(runs_dir: Path, spec_text: str, launch: Launch, status: Status) -> RunPaths:
    runs_dir.mkdir(parents=True, exist_ok=True)
    unfinished = RunPaths(temporary(runs_dir / new_run_id(launch.created)))
    unfinished.root.mkdir()
    try:
        unfinished.shards.mkdir()
        unfinished.checkpoints.mkdir()
        replace_bytes(unfinished.spec, spec_text.encode())
        replace_json(unfinished.launch, dataclasses.asdict(launch))
        replace_json(unfinished.labels, dataclasses.asdict(Labels()))
        write_status(unfinished, status)
        run = _under_a_free_id(unfinished.root, runs_dir, launch.created)
    except OSError:
        shutil.rmtree(unfinished.root, ignore_errors=True)
        raise
    sync_folder(runs_dir)
    return run


def _under_a_free_id(unfinished: Path, runs_dir: Path, created: float) -> RunPaths:
    """A complete run directory; an id that is taken leads to that of a moment later."""
    while True:
        run = RunPaths(runs_dir / new_run_id(created))
        try:
            unfinished.rename(run.root)
        except OSError as error:
            if error.errno not in TAKEN:
                raise
            created += ID_STEP_SECONDS
        else:
            return run


def find_run(runs_dir: Path, run_id: str) -> RunPaths:
    """The directory of a run.

    Raises:
        RunError: No such run; ids are compared as names, so no path can be smuggled in.
    """
    names = [paths.root.name for paths in all_runs(runs_dir)]
    if run_id not in names:
        raise RunError(
            f"no run {run_id!r} in {str(runs_dir)!r}{did_you_mean(run_id, names)}; "
            "``acft runs`` lists them"
        )
    return RunPaths(runs_dir / run_id)


def all_runs(runs_dir: Path) -> list[RunPaths]:
    """Every run directory, oldest first; links are not followed."""
    return [RunPaths(runs_dir / name) for name in folders(runs_dir, RUN_ID)]


def refuse_links(paths: RunPaths) -> None:
    """Returns if everything that is written for a run is written into its own folder.

    Raises:
        DataError: A link leads out of it; what it leads to would be overwritten, or deleted as the
            remains of an earlier attempt.
    """
    with os.scandir(paths.root) as entries:
        links = sorted(entry.name for entry in entries if entry.is_symlink())
    if links:
        raise DataError(
            f"the folder of run {paths.root.name} has the link {links[0]!r}, and what that leads "
            "to would be overwritten or deleted; put a copy of it there instead"
        )


def remove_remains(runs_dir: Path, now: float) -> None:
    """Deletes folders of runs that were never completely created."""
    for path in runs_dir.glob(f"{TEMPORARY}*"):
        if now - path.lstat().st_mtime > STALE_SECONDS and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


def write_status(paths: RunPaths, status: Status) -> None:
    """Replaces ``status.json``."""
    replace_json(paths.status, dataclasses.asdict(status))


def read_status(paths: RunPaths) -> Status:
    """The recorded status; told from the events when ``status.json`` is missing or damaged."""
    try:
        status = _record(Status, json.loads(read_own_text(paths.status)))
    except DAMAGES:
        return status_from_events(paths)
    if status.state not in STATES:
        return status_from_events(paths)
    return status


def amend_status(
    paths: RunPaths, change: Callable[[Status], Status | None], wait_seconds: float = 0.0
) -> bool:
    """Whether the status of a run without worker was changed; None from ``change`` leaves it.

    The change sees the status as it is under the run's lock, so two of them never cross.
    """
    lock = FileLock(paths.lock, wait_seconds)
    if not lock.acquire():
        return False
    try:
        changed = change(read_status(paths))
        if changed is not None:
            write_status(paths, changed)
        return changed is not None
    finally:
        lock.release()


def status_from_events(paths: RunPaths) -> Status:
    """What the events alone say about the run's state.

    Queued when they say nothing, the run could be started and never was; else failed for want of
    its files.
    """
    status = Status(state="queued", created=_created(paths))
    try:
        everything = read_events(paths.events)
    except OSError as error:
        said = f"cannot read its events: {error}"
        return dataclasses.replace(status, state="failed", failure="data", message=said)
    missing = [file.name for file in (paths.launch, paths.spec) if not file.is_file()]
    if not everything and missing:
        said = f"{' and '.join(missing)} missing, and no status; this is no run, delete its folder"
        status = dataclasses.replace(status, state="failed", failure="data", message=said)
    if not everything and paths.resolved.is_file():
        said = f"it had started, but {paths.events.name} and {paths.status.name} are gone"
        status = dataclasses.replace(status, state="failed", failure="data", message=said)
    status = status_after(effective(everything), status)
    return dataclasses.replace(status, events=len(everything))


def sealed_rounds(paths: RunPaths) -> dict[int, RoundFinished]:
    """The rounds of a run that are sealed and count, by number, in order."""
    counted = (entry.event for entry in effective(read_events(paths.events)))
    return {event.round: event for event in counted if isinstance(event, RoundFinished)}


def status_after(entries: Iterable[Entry], status: Status) -> Status:
    """The status brought forward by events that count."""
    for entry in entries:
        status = _after(entry, status)
    return status


def _after(entry: Entry, status: Status) -> Status:
    event = entry.event
    if isinstance(event, Started):
        return _started(status, event, entry.time)
    if isinstance(event, Scalars):
        return dataclasses.replace(status, step=event.step) if event.is_of_policy else status
    if isinstance(event, RoundFinished):
        return dataclasses.replace(status, round=event.round, checkpoint=event.checkpoint)
    if isinstance(event, BestCheckpoint):
        return dataclasses.replace(status, best_checkpoint=event.checkpoint)
    if isinstance(event, Finished):
        ended = {"failure": event.failure, "message": event.message, "ended": entry.time}
        return dataclasses.replace(status, state=event.state, **ended)
    return status


def _started(status: Status, event: Started, moment: float) -> Status:
    started = event.facts.get("pid_started")
    return dataclasses.replace(
        status,
        state="running",
        pid=event.pid,
        pid_started=float(started) if is_number(started) else 0.0,
        boot_id=str(event.facts.get("boot_id", "")),
        started=moment,
        heartbeat=moment,
        failure="",
        message="",
        ended=0.0,
    )


def _created(paths: RunPaths) -> float:
    """Creation time told from the run's name, in seconds since the epoch; 0 for other names."""
    if not RUN_ID.fullmatch(paths.root.name):
        return 0.0
    moment = datetime.strptime(paths.root.name[:15], "%Y%m%d-%H%M%S")  # noqa: DTZ007 - made UTC next
    return moment.replace(tzinfo=UTC).timestamp()


def read_resolved(paths: RunPaths) -> dict[str, Any]:
    """Settings, facts and versions as recorded when a run started; empty where none can be read."""
    try:
        values = json.loads(read_own_text(paths.resolved))
    except DAMAGES:
        return {}
    return values if isinstance(values, dict) else {}


def read_launch(paths: RunPaths) -> Launch:
    """How the run came about.

    Raises:
        DataError: The record is missing or damaged.
    """
    try:
        return _record(Launch, json.loads(read_own_text(paths.launch)))
    except DAMAGES as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"cannot read {str(paths.launch)!r}: {why}") from None


def home_of(paths: RunPaths) -> Path:
    """Where relative names in a run's settings start.

    Raises:
        DataError: How the run came about cannot be read, or that folder is gone.
    """
    home = Path(read_launch(paths).working_directory or ".")
    if not home.is_dir():
        raise DataError(
            f"run {paths.root.name} was started in {str(home)!r}, where its settings look for "
            "files and which is no longer there; make that folder again, or launch the run anew "
            f"from another: acft launch {paths.root.name}"
        )
    return home


def read_labels(paths: RunPaths) -> Labels:
    """Tags and notes; none when the file is missing or damaged, since nothing depends on them."""
    try:
        return _record(Labels, json.loads(read_own_text(paths.labels)))
    except DAMAGES:
        return Labels()


def write_labels(paths: RunPaths, labels: Labels) -> None:
    """Replaces tags, notes and archived flag."""
    replace_json(paths.labels, dataclasses.asdict(labels))


def stop_request(paths: RunPaths) -> tuple[str, float]:
    """Mode and time of the request to stop (seconds since the epoch), or an empty mode and 0."""
    try:
        mode = read_own_text(paths.stop_request).strip()
        return mode or "save", paths.stop_request.stat().st_mtime
    except OSError:
        return "", 0.0


def _record(kind: type[Record], values: Any) -> Record:
    """A record from JSON, which knows no tuples; fields of newer versions are ignored.

    Raises:
        TypeError: A field is missing, or of another type or size than the record's.
    """
    checks = field_checks(kind)
    found = {name: value for name, value in values.items() if name in checks}
    for name, value in found.items():
        if not checks[name](value):
            raise TypeError(f"{name} = {str(value)[:80]!r} is of another type or size")
    return kind(**{n: tuple(v) if isinstance(v, list) else v for n, v in found.items()})
