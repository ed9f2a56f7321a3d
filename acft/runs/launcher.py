"""Asking for runs: launch, stop, resume. The supervisor (supervisor.py) does the starting."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from acft.atomic import replace_bytes
from acft.checkpoints import DamagedCheckpointError, verify
from acft.errors import DataError, RunError
from acft.eventlog import effective, read_events
from acft.events import BestCheckpoint, Finished, RoundFinished, Started
from acft.runs.devices import candidates, devices
from acft.runs.directory import (
    all_runs,
    amend_status,
    create_run,
    find_run,
    home_of,
    not_writable,
    read_launch,
    refuse_links,
    sealed_rounds,
    status_after,
    write_status,
)
from acft.runs.locks import FileLock
from acft.runs.mirror import require_clients
from acft.runs.process import this_process
from acft.runs.status import RESUMABLE, RunState, current_state
from acft.schema import BEGINNING, STOP_MODES, Launch, RunPaths, Status

if TYPE_CHECKING:
    from acft.runs.spec import Spec

LAUNCH_LOCK = "launch.lock"
LOCK_SECONDS = 10.0
REQUEST_SECONDS = 24 * 3600.0
"""A repeated request is recognised for so long."""


@dataclass(frozen=True)
class RunInfo:
    """One line of the list of runs."""

    paths: RunPaths
    status: Status
    state: RunState

    @property
    def run_id(self) -> str:
        """The run's name."""
        return self.paths.root.name


def launch(
    runs_dir: Path,
    text: str,
    overrides: Sequence[str] = (),
    *,
    request_id: str = "",
    cloned_from: str = "",
    sweep: str = "",
    experiment: str = "",
    subject: str = "",
    mirror: Sequence[str] = (),
    where: str = "",
) -> str:
    """Id of a new queued run; of the existing one when the same request comes again.

    Args:
        runs_dir: Directory of all runs.
        text: Settings as TOML.
        overrides: ``section.key=value`` on top of them.
        request_id: Chosen by who asks; empty means that every call is a new request.
        cloned_from: Run whose settings these were.
        sweep: Name of the grid it belongs to.
        experiment: Name of the settings file.
        subject: What an evaluation measures.
        mirror: Trackers that get a copy of the metrics.
        where: File or run that messages name.

    Raises:
        ConfigError: The settings have problems or a tracker is missing; nothing is created.
        RunError: The folder cannot be written to, or the request's id is one of other settings.
    """
    from acft.runs.spec import parse_spec  # noqa: PLC0415 - imports torch

    spec = parse_spec(text, overrides, where, has_files=True)
    require_clients(mirror)
    record = dataclasses.replace(
        _launch_record(spec, experiment), request_id=request_id, cloned_from=cloned_from,
        sweep=sweep, subject=subject, mirror=tuple(mirror),
    )  # fmt: skip
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(runs_dir / LAUNCH_LOCK):
            if earlier := _requested(runs_dir, request_id, record):
                return earlier
            status = Status(state="queued", kind=record.kind, created=record.created)
            return create_run(runs_dir, text, record, status).root.name
    except OSError as error:
        raise not_writable(runs_dir, error) from error


def create_here(
    runs_dir: Path,
    spec: "Spec",
    experiment: str = "",
    subject: str = "",
    mirror: Sequence[str] = (),
) -> RunPaths:
    """Directory of a new run that this process is about to do itself."""
    require_clients(mirror)
    record = _launch_record(spec, experiment)
    record = dataclasses.replace(record, subject=subject, mirror=tuple(mirror))
    status = _claimed(
        Status(state="starting", kind=record.kind, created=record.created), record.device
    )
    return create_run(runs_dir, spec.text, record, status)


def runs(runs_dir: Path) -> list[RunInfo]:
    """Every run with its true state, newest first."""
    return [RunInfo(paths, *current_state(paths)) for paths in reversed(all_runs(runs_dir))]


def stop(runs_dir: Path, run_id: str, mode: str = "save") -> RunState:
    """The state after asking a run to stop; a queued run stops at once.

    Raises:
        RunError: The run is over, or the mode is unknown.
    """
    if mode not in STOP_MODES:
        raise RunError(f"stop mode {mode!r} is unknown (allowed: {', '.join(STOP_MODES)})")
    paths = find_run(runs_dir, run_id)
    _, state = current_state(paths)
    if state.state == "queued":
        amend_status(paths, _not_started, wait_seconds=LOCK_SECONDS)
        _, state = current_state(paths)
        if state.state == "stopped":
            return state
    if not state.is_live:
        raise RunError(f"run {run_id} is {state.label}; there is nothing to stop")
    replace_bytes(paths.stop_request, f"{mode}\n".encode())
    return current_state(paths)[1]


def resume(runs_dir: Path, run_id: str, from_round: int | None = None) -> int:
    """The round after which the run, now queued again, goes on; 0 is the beginning.

    Raises:
        RunError: The run cannot be resumed in its state, or has no such round.
        DamagedCheckpointError: The checkpoint is damaged; earlier ones are named.
    """
    point = _go_on(find_run(runs_dir, run_id), from_round, lambda queued: queued)
    return point.round if point else 0


def resume_here(runs_dir: Path, run_id: str, from_round: int | None = None) -> RunPaths:
    """Directory of a run that this process is about to go on with.

    Raises:
        RunError: As ``resume``.
        DataError: As ``resume``.
    """
    paths = find_run(runs_dir, run_id)
    device = read_launch(paths).device
    _go_on(paths, from_round, lambda queued: _claimed(queued, device))
    return paths


def _go_on(
    paths: RunPaths, from_round: int | None, change: Callable[[Status], Status]
) -> RoundFinished | None:
    """The round after which the run goes on; ``change`` says in which state it waits for that."""
    _resumable(paths)
    refuse_links(paths)
    home_of(paths)
    # The threads of a killed process may take seconds to end, and hold its lock until then.
    lock = FileLock(paths.lock, LOCK_SECONDS)
    if not lock.acquire():
        name = paths.root.name
        raise RunError(f"run {name} still has a process working on it; stop it first")
    try:
        status = _resumable(paths)
        point = resume_point(paths, from_round)
        paths.stop_request.unlink(missing_ok=True)
        write_status(paths, change(_requeued(paths, status, point)))
    finally:
        lock.release()
    return point


def _resumable(paths: RunPaths) -> Status:
    status, state = current_state(paths)
    if state.state not in RESUMABLE:
        name, allowed = paths.root.name, _listed(RESUMABLE)
        is_done = state.state == "finished"
        more = f"; for another run of its settings: acft launch {name}" if is_done else ""
        raise RunError(f"run {name} is {state.label}; only {allowed} runs resume{more}")
    return status


def resume_point(paths: RunPaths, from_round: int | None = None) -> RoundFinished | None:
    """The sealed and verified round to continue from; None is the beginning.

    Raises:
        RunError: The round was never sealed.
        DamagedCheckpointError: Its checkpoint is damaged.
    """
    sealed = sealed_rounds(paths)
    wanted = max(sealed, default=0) if from_round is None else from_round
    if wanted == 0 and wanted not in sealed:
        return None
    if wanted not in sealed:
        raise RunError(
            f"run {paths.root.name} has no sealed round {wanted} "
            f"(sealed: {_listed(sorted(sealed)) or 'none'})"
        )
    try:
        verify(paths.root / sealed[wanted].checkpoint)
    except DamagedCheckpointError as error:
        earlier = _listed([number for number in sorted(sealed) if number < wanted])
        raise DamagedCheckpointError(f"{error}; sealed before it: {earlier or 'none'}") from None
    return sealed[wanted]


def _claimed(status: Status, device: str) -> Status:
    """The status of a run that this process is about to do on its kind of device."""
    who = this_process()
    return dataclasses.replace(
        status, state="starting", pid=who.pid, pid_started=who.started, boot_id=who.boot_id,
        heartbeat=time.time(), device=candidates(device, devices())[0].name,
    )  # fmt: skip


def _launch_record(spec: "Spec", experiment: str) -> Launch:
    return Launch(
        created=time.time(),
        kind=spec.kind,
        device=spec.settings.device,
        overrides=spec.overrides,
        working_directory=str(Path.cwd()),
        experiment=experiment,
        fingerprint=spec.fingerprint,
    )


def _requested(runs_dir: Path, request_id: str, asked: Launch) -> str:
    """Id of the run that an earlier, equal request made."""
    for paths in reversed(all_runs(runs_dir)) if request_id else ():
        try:
            record = read_launch(paths)
        except DataError:
            continue  # without its record nobody can tell who asked for it
        if record.request_id == request_id:
            if record.fingerprint not in ("", asked.fingerprint):
                raise RunError(
                    f"request {request_id!r} has started {paths.root.name} already, with other "
                    "settings; name another request"
                )
            return paths.root.name
        if asked.created - record.created > REQUEST_SECONDS:
            break
    return ""


def _requeued(paths: RunPaths, status: Status, point: RoundFinished | None) -> Status:
    """The status of a run that waits to go on after a sealed round."""
    everything = read_events(paths.events)
    entries = effective(everything)
    places = [entry.seq for entry in entries if entry.event == point]
    fresh = Status(state="queued", kind=status.kind, created=status.created)
    past = [entry for entry in entries if places and entry.seq <= places[-1]]
    # The event that prefers a round follows the round's end.
    past += [
        entry
        for entry in entries[len(past) :]
        if isinstance(entry.event, BestCheckpoint) and point and entry.event.round == point.round
    ]
    kept = status_after((e for e in past if not isinstance(e.event, (Started, Finished))), fresh)
    return dataclasses.replace(
        kept,
        rounds=status.rounds,
        steps=status.steps,
        events=len(everything),
        resumed_from=point.checkpoint if point else BEGINNING,
    )


def _not_started(status: Status) -> Status | None:
    if status.state != "queued":
        return None
    message = "stopped before it started"
    return dataclasses.replace(status, state="stopped", message=message, ended=time.time())


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))
