"""The state of a run: one pure function of what is recorded and what can be seen."""

import dataclasses
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from acft.eventlog import last_entry
from acft.events import Finished
from acft.runs.directory import all_runs, amend_status, read_status, stop_request
from acft.runs.process import Identity, is_alive, this_boot
from acft.runs.stopping import outlook
from acft.schema import FINAL, RunPaths, Status

HEARTBEAT_SECONDS = 2.0
STALLED_SECONDS = 15.0
"""A living worker that has been silent for longer is called stalled."""
FRESH_SECONDS = 10.0
"""A worker on another machine counts as alive while its heartbeat is at most so old."""
RESUMABLE = ("stopped", "failed", "lost")


@dataclass(frozen=True)
class Seen:
    """What an observer sees of a run at one moment."""

    is_here: bool
    """The recorded process belongs to this boot of this machine, so its pid can be looked up."""
    is_alive: bool
    """Exactly the recorded process runs here."""
    heartbeat_age: float
    """Seconds since the last sign of life; negative when the clock was set back."""
    stop_mode: str = ""
    """How the run was asked to stop, empty when it was not."""
    stop_age: float = 0.0
    """Seconds since it was asked to."""
    ending: Finished | None = None
    """The worker's last word, where it died after writing that and before its status."""


@dataclass(frozen=True)
class RunState:
    """What may be said about a run."""

    state: str
    """One of ``schema.STATES``."""
    is_stalled: bool = False
    failure: str = ""
    """One of ``schema.FAILURES`` when the state is failed."""
    message: str = ""

    @property
    def is_live(self) -> bool:
        """Whether a process works on it."""
        return self.state in ("starting", "running", "stopping")

    @property
    def label(self) -> str:
        """State with its reason, such as ``failed (oom)`` or ``running, stalled``."""
        if self.failure:
            return f"{self.state} ({self.failure})"
        return f"{self.state}, stalled" if self.is_stalled else self.state


def run_state(status: Status, seen: Seen) -> RunState:
    """The truth about a run."""
    if status.state == "queued" or status.state in FINAL:
        return RunState(status.state, failure=status.failure, message=status.message)
    if seen.is_alive if seen.is_here else abs(seen.heartbeat_age) <= FRESH_SECONDS:
        return _alive(status, seen)
    if seen.ending is not None:
        ending = seen.ending
        return RunState(ending.state, failure=ending.failure, message=ending.message)
    if seen.is_here:
        return _died(status, seen)
    return RunState("lost", message=f"its machine or container restarted or is gone{_rest(status)}")


def _alive(status: Status, seen: Seen) -> RunState:
    state = "stopping" if seen.stop_mode else status.state
    is_stalled = seen.heartbeat_age > STALLED_SECONDS
    parts = [
        f"alive, but silent for {seen.heartbeat_age:.0f} s" if is_stalled else "",
        outlook(seen.stop_mode, seen.stop_age) if seen.stop_mode else "",
    ]
    message = "; ".join(filter(None, parts)) or status.message
    return RunState(state, is_stalled=is_stalled, message=message)


def _died(status: Status, seen: Seen) -> RunState:
    if seen.stop_mode:
        return RunState("stopped", message=f"ended after the request to stop{_rest(status)}")
    message = "the worker process ended without a word, as after kill -9 or too little memory"
    return RunState("failed", failure="killed", message=message + _rest(status))


def _rest(status: Status) -> str:
    if not status.checkpoint:
        return "; no round was sealed, resuming starts from the beginning"
    return f"; {status.checkpoint} is sealed, resuming continues from there"


def observe(paths: RunPaths, status: Status) -> Seen:
    """What is seen of a run now."""
    is_here = status.boot_id == this_boot()
    # The monotonic clock does not follow changes of the date, but starts anew with each boot.
    if is_here and status.heartbeat_clock:
        age = time.monotonic() - status.heartbeat_clock
    else:
        age = time.time() - status.heartbeat
    alive = is_alive(Identity(status.pid, status.pid_started, status.boot_id))
    ending = None if alive else _last_word(paths, status)
    mode, asked = stop_request(paths)
    stop_age = max(0.0, time.time() - asked) if mode else 0.0
    return Seen(is_here, alive, age, mode, stop_age, ending)


def record_ends(runs_dir: Path) -> None:
    """Does ``record_end`` for every run, where this user may write."""
    for paths in all_runs(runs_dir):
        with suppress(OSError):
            record_end(paths)


def record_end(paths: RunPaths) -> None:
    """Writes down how a run ended that could not do so itself, and that nobody was waiting for."""
    if not _is_unrecorded_end(*current_state(paths)):
        return

    def change(status: Status) -> Status | None:
        state = run_state(status, observe(paths, status))
        if not _is_unrecorded_end(status, state):
            return None
        return dataclasses.replace(
            status, state=state.state, failure=state.failure, message=state.message,
            ended=status.heartbeat or time.time(),
        )  # fmt: skip

    amend_status(paths, change)


def _is_unrecorded_end(status: Status, state: RunState) -> bool:
    return state.state in (*FINAL, "lost") and status.state != state.state


def _last_word(paths: RunPaths, status: Status) -> Finished | None:
    """How this attempt ended, if its events say so; the status knows the ends of those before."""
    last = last_entry(paths.events)
    if last is None or last.seq <= status.events or not isinstance(last.event, Finished):
        return None
    return last.event


def current_state(paths: RunPaths) -> tuple[Status, RunState]:
    """The recorded status and the true state of a run now."""
    status = read_status(paths)
    return status, run_state(status, observe(paths, status))
