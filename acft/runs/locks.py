"""A lock on a file: held by one process at a time, given back by the kernel when that dies."""

import fcntl
import os
import threading
import time
from pathlib import Path
from types import TracebackType

from acft.errors import RunError

RETRY_SECONDS = 0.05


class FileLock:
    """An exclusive lock; also between the threads of one process.

    Record locks are used because child processes do not inherit them: no orphan keeps one.
    """

    _held_here: set[str] = set()  # noqa: RUF012 - the kernel does not tell holders in one process apart
    _guard = threading.Lock()

    def __init__(self, path: Path, wait_seconds: float = 10.0) -> None:
        self.path = path
        self._wait_seconds = wait_seconds
        self._descriptor: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether the lock is ours."""
        return self._descriptor is not None

    def acquire(self) -> bool:
        """Whether the lock is now ours; waits up to the configured time for it."""
        deadline = time.monotonic() + self._wait_seconds
        while not self._try():
            if time.monotonic() >= deadline:
                return False
            time.sleep(RETRY_SECONDS)
        return True

    def release(self) -> None:
        """Gives the lock back."""
        if self._descriptor is None:
            return
        with self._guard:
            os.close(self._descriptor)
            self._descriptor = None
            self._held_here.discard(self._name)

    def _try(self) -> bool:
        with self._guard:
            # Closing any descriptor of the file would drop this process's lock on it.
            if self._name in self._held_here:
                return False
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                return False
            self._descriptor = descriptor
            self._held_here.add(self._name)
            return True

    @property
    def _name(self) -> str:
        return os.path.realpath(self.path)

    def __enter__(self) -> "FileLock":
        if not self.acquire():
            raise RunError(f"{str(self.path)!r} is locked by another process; try again later")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
