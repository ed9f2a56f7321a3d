"""Files that are either old or new, never half: write beside, wait for the disk, rename.

And files that are themselves, never somebody else's: the folder of a run may come from anybody.
"""

import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

TEMPORARY = ".tmp-"
"""How names of unfinished files and folders begin."""


PARTIAL = ".acft-partial-"
"""How names of folders begin in which something is made that may take minutes; nobody else's do."""
STALE_SECONDS = 86_400.0
"""Nothing takes that long to be made."""


class FileMark(NamedTuple):
    """What changes whenever a file is replaced or written to; likewise of a folder's names."""

    changed: int = 0
    """Nanoseconds since the epoch."""
    size: int = 0
    """Bytes."""
    inode: int = 0


ABSENT = FileMark()
"""Of what is not there or cannot be looked at."""


def file_mark(path: Path) -> FileMark:
    """The mark of a file or folder as it is now."""
    try:
        found = path.stat()
    except OSError:
        return ABSENT
    return FileMark(found.st_mtime_ns, found.st_size, found.st_ino)


def temporary(path: Path) -> Path:
    """A fresh name in the same folder for what will become ``path``."""
    return path.with_name(f"{TEMPORARY}{uuid.uuid4().hex[:8]}-{path.name}")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A fresh folder beside ``path`` that takes its name at the end; gone where anything fails.

    An empty folder of that name gives way.
    """
    unfinished = temporary(path)
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        unfinished.rename(path)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    sync_folder(path.parent)


def partial_folder(parent: Path) -> tempfile.TemporaryDirectory[str]:
    """A fresh folder beside what it will become, since a rename is atomic in one file system only.

    Those of processes that were killed long ago are removed.
    """
    for remains in parent.glob(f"{PARTIAL}*"):
        with suppress(OSError):  # another process is faster
            if time.time() - remains.lstat().st_mtime > STALE_SECONDS:
                shutil.rmtree(remains)
    return tempfile.TemporaryDirectory(prefix=PARTIAL, dir=parent)


def replace_bytes(path: Path, content: bytes) -> None:
    """Makes ``path`` hold ``content`` in one step, durably."""
    unfinished = temporary(path)
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def replace_json(path: Path, value: Any) -> None:
    """Makes ``path`` hold ``value`` as JSON in one step, durably."""
    replace_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def sync_file(path: Path) -> None:
    """Waits until a file's content is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Waits until a folder's list of names is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_own(path: Path) -> BufferedReader:
    """A file to be read, in bytes, which is where its name says.

    Raises:
        OSError: It cannot be read, is a link that may lead to what its author may not read, or is
            no file, such as a pipe that nobody ever writes to.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return os.fdopen(descriptor, "rb")


def read_own_text(path: Path) -> str:
    """The text of a file as ``open_own`` opens it.

    Raises:
        OSError: As there.
        UnicodeDecodeError: It is no text.
    """
    with open_own(path) as file:
        return file.read().decode()


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
