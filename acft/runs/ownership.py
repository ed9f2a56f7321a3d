"""Who supervises a runs directory: one process at a time, known to all others by name."""

import dataclasses
import json
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from acft.atomic import replace_json
from acft.runs.locks import FileLock
from acft.runs.process import Identity, is_alive, this_boot, this_process

LOCK = "supervisor.lock"
RECORD = "supervisor.json"
HAND_OVER = "supervisor.handover"
"""Names the workbench that asks a detached supervisor to give way; void once that is dead."""
HAND_OVER_SECONDS = 10.0
PROBE_SECONDS = 0.2
"""Longer than anybody holds the lock who only looks whether it is free."""


@dataclass(frozen=True)
class Owner:
    """The supervising process."""

    role: str
    """app or detached."""
    pid: int
    pid_started: float
    boot_id: str
    host: str
    since: float
    """Seconds since the epoch."""

    @property
    def process(self) -> Identity:
        """Which process it is."""
        return Identity(self.pid, self.pid_started, self.boot_id)

    @property
    def label(self) -> str:
        """For messages: what it is, where, since when."""
        what = "the workbench" if self.role == "app" else "a detached supervisor"
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"{what} with pid {self.pid} on {self.host} (since {since})"


class Ownership:
    """This process's claim on a runs directory."""

    def __init__(self, runs_dir: Path, role: str) -> None:
        self._runs_dir = runs_dir
        self._role = role
        self._lock = FileLock(runs_dir / LOCK, wait_seconds=0.5)

    @property
    def is_held(self) -> bool:
        """Whether this process supervises now."""
        return self._lock.is_held

    def claim(self) -> bool:
        """Whether this process supervises from now on; a workbench displaces a detached one."""
        self._runs_dir.mkdir(parents=True, exist_ok=True)
        if self._lock.acquire() or (self._role == "app" and self._displace()):
            who = this_process()
            record = Owner(
                self._role, who.pid, who.started, who.boot_id, socket.gethostname(), time.time()
            )
            replace_json(self._runs_dir / RECORD, dataclasses.asdict(record))
            return True
        return False

    def release(self) -> None:
        """Gives the directory up."""
        self._lock.release()

    def is_asked_to_hand_over(self) -> bool:
        """Whether a workbench waits for this detached supervisor to end."""
        return self._role == "detached" and _is_wanted(self._runs_dir / HAND_OVER)

    def _displace(self) -> bool:
        current = owner(self._runs_dir)
        if current is not None and current.role == "app":
            return False
        request = self._runs_dir / HAND_OVER
        replace_json(request, dataclasses.asdict(this_process()))
        try:
            deadline = time.monotonic() + HAND_OVER_SECONDS
            while not self._lock.acquire():
                if time.monotonic() >= deadline:
                    return False
        finally:
            request.unlink(missing_ok=True)
        return True


def _is_wanted(request: Path) -> bool:
    """Whether who wrote the request still waits; a workbench killed meanwhile left it behind."""
    try:
        return is_alive(Identity(**json.loads(request.read_text(encoding="utf-8"))))
    except (OSError, ValueError, TypeError):
        return False


def owner(runs_dir: Path) -> Owner | None:
    """Who supervises the directory now; None when nobody does."""
    if not (runs_dir / LOCK).exists():
        return None
    if _is_free(runs_dir, 0.0):
        return None
    recorded = _recorded(runs_dir)
    # One that ended before did not take its record away: somebody looks, too, or claims right now.
    if recorded.boot_id == this_boot() and not is_alive(recorded.process):
        return None if _is_free(runs_dir, PROBE_SECONDS) else _recorded(runs_dir)
    return recorded


def _is_free(runs_dir: Path, wait_seconds: float) -> bool:
    probe = FileLock(runs_dir / LOCK, wait_seconds)
    is_free = probe.acquire()
    probe.release()
    return is_free


def _recorded(runs_dir: Path) -> Owner:
    try:
        return Owner(**json.loads((runs_dir / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Owner("detached", 0, 0.0, "", "unknown host", 0.0)
