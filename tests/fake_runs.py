"""Runs of the fake method: made, done in this process or by a supervisor, waited for."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from acft.eventlog import Entry
from acft.runs import launcher
from acft.runs.devices import Device
from acft.runs.directory import create_run, find_run
from acft.runs.spawn import environment
from acft.runs.status import current_state
from acft.runs.supervisor import Supervisor
from acft.runs.worker import run_worker
from acft.schema import Launch, RunPaths, Status
from tests import fake_method

SPEC = """
title = "fake"
[method]
name = "fake"
[schedule]
rounds = 3
[optimizer]
steps_per_round = 4
warmup_steps = 0
"""
PATIENCE_SECONDS = 60.0
POLL_SECONDS = 0.01


def create(runs_dir: Path, *overrides: str) -> RunPaths:
    """A queued run that nobody starts."""
    now = time.time()
    launch = Launch(created=now, device="cpu", overrides=overrides)
    return create_run(runs_dir, SPEC, launch, Status(state="queued", created=now))


def launched(runs_dir: Path, *overrides: str) -> RunPaths:
    """The same, as a launch makes it."""
    return find_run(runs_dir, launcher.launch(runs_dir, SPEC, overrides))


def do(paths: RunPaths, listen: Callable[[Entry], None] = lambda _: None) -> int:
    """The worker's exit code; the run is done in this process."""
    fake_method.register()
    return run_worker(paths, listen)


@contextmanager
def supervised(runs_dir: Path, slots: int = 1) -> Iterator[Supervisor]:
    """A supervisor thread that starts fake workers."""
    supervisor = Supervisor(runs_dir, command=fake_method.WORKER, places=[Device("cpu", slots)])
    assert supervisor.start()
    try:
        yield supervisor
    finally:
        supervisor.close()


def wait_until(
    condition: Callable[[], bool],
    what: Callable[[], str] | str = "",
    seconds: float = PATIENCE_SECONDS,
) -> None:
    """Returns as soon as the condition holds; fails the test if it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        is_late = time.monotonic() > deadline
        assert not is_late, f"waited in vain: {what() if callable(what) else what}"
        time.sleep(POLL_SECONDS)


def become(paths: RunPaths, *labels: str, seconds: float = PATIENCE_SECONDS) -> str:
    """The label of the run's state as soon as it is one of these."""
    label = ""

    def is_so() -> bool:
        nonlocal label
        label = current_state(paths)[1].label
        return label in labels

    wait_until(is_so, lambda: f"{labels}, is {label}", seconds)
    return label


def app(runs_dir: Path) -> subprocess.Popen[bytes]:
    """A process that supervises like a workbench; started, not yet owner."""
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), str(runs_dir)], env=environment()
    )


def main() -> None:
    """Supervises until killed."""
    supervisor = Supervisor(
        Path(sys.argv[1]), command=fake_method.WORKER, places=[Device("cpu", 4)]
    )
    wait_until(supervisor.start, "ownership")
    threading.Event().wait()


if __name__ == "__main__":
    main()


def label(paths: RunPaths) -> str:
    """The run's state as people read it."""
    return current_state(paths)[1].label


def becomes(paths: RunPaths, wanted: str) -> None:
    """Returns as soon as the run is in that state."""
    wait_until(lambda: label(paths) == wanted, lambda: f"{wanted}, is {label(paths)}")
