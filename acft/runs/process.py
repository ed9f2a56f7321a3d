"""Which process is meant by a recorded pid, whether it lives, and signals to none but it."""

import functools
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

FIRST_OWN_PID = 2
"""Zero, one and negative numbers address groups, the init process or everybody."""
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
START_TOLERANCE_SECONDS = 0.011
"""Linux counts process starts in ticks of 10 ms."""


@dataclass(frozen=True)
class Identity:
    """One process and no other, for all time."""

    pid: int
    started: float
    boot_id: str


def this_process() -> Identity:
    """The running process."""
    started = start_time(os.getpid())
    assert started is not None
    return Identity(os.getpid(), started, this_boot())


@functools.cache
def this_boot() -> str:
    """Names this start of this machine and the namespace in which pids are counted."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"{socket.gethostname()}/{psutil.boot_time():.0f}"


def start_time(pid: int) -> float | None:
    """Start of a process, None when there is none or only its remains wait for the parent.

    Linux: seconds since boot, so that no change of the date moves it. Elsewhere: since the epoch.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return None if Path("/proc/self").exists() else _start_time_elsewhere(pid)
    except OSError:
        return None
    state, ticks = fields[0], int(fields[19])
    return None if state in "ZX" else ticks / CLOCK_TICKS


def _start_time_elsewhere(pid: int) -> float | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


def is_alive(who: Identity) -> bool:
    """Whether exactly this process runs here; a reused pid or one of another boot does not."""
    if who.pid < FIRST_OWN_PID or who.boot_id != this_boot():
        return False
    started = start_time(who.pid)
    return started is not None and abs(started - who.started) < START_TOLERANCE_SECONDS


def terminate(who: Identity) -> bool:
    """Whether the process was there to be asked to end."""
    return _send(who, signal.SIGTERM)


def kill(who: Identity) -> bool:
    """Whether the process was there to be killed; its descendants are killed with it."""
    descendants: list[psutil.Process] = []
    if is_alive(who):
        with suppress(psutil.Error):
            descendants = psutil.Process(who.pid).children(recursive=True)
    is_sent = _send(who, signal.SIGKILL)
    for child in descendants if is_sent else []:
        with suppress(psutil.Error):
            child.kill()  # psutil compares start times itself
    return is_sent


def _send(who: Identity, number: signal.Signals) -> bool:
    if who.pid < FIRST_OWN_PID or who.pid == os.getpid():
        return False
    with suppress(ProcessLookupError, PermissionError), _pinned(who.pid) as deliver:
        if is_alive(who):
            deliver(number)
            return True
    return False


@contextmanager
def _pinned(pid: int) -> Iterator[Callable[[signal.Signals], None]]:
    """A way to signal whatever process has the pid now, even if the pid is reused meanwhile."""
    if not hasattr(os, "pidfd_open"):
        yield functools.partial(os.kill, pid)
        return
    descriptor = os.pidfd_open(pid)
    try:
        yield functools.partial(signal.pidfd_send_signal, descriptor)
    finally:
        os.close(descriptor)
