"""A run's event file: appended to without gaps, read while it grows, cleaned of what was redone.

``schema.py`` states the rules.
"""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from acft.atomic import open_own
from acft.errors import DataError
from acft.events import (
    Event,
    Finished,
    Progress,
    RoundFinished,
    Scalars,
    Started,
    from_json,
    to_json,
)

UNSYNCED = (Progress, Scalars)
"""Kinds too frequent to wait for the disk; ``EventWriter.sync`` takes them along."""
TAIL_BYTES = 64 * 1024
"""Longer than any line that tells of an end."""


@dataclass(frozen=True)
class Entry:
    """One line of an event file."""

    seq: int
    time: float
    """Seconds since the epoch."""
    event: Event


@dataclass(frozen=True)
class Line:
    """One entry and the text it was read from."""

    entry: Entry
    text: str


class EventWriter:
    """Appends events to a file; numbering goes on where an earlier process stopped.

    What follows the last whole event is cut off first. More than a torn line is kept beside the
    file under a new name, so that nothing readable by a person is destroyed.
    """

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("ab+", buffering=0)
        self.seq, self._end = _cut_damage(self._file, path)

    def append(self, event: Event) -> Entry:
        """The entry just written; a failed write leaves no partial line behind."""
        moment = time.time()
        line = to_json(event, self.seq + 1, moment).encode() + b"\n"
        try:
            _write_all(self._file, line)
            if not isinstance(event, UNSYNCED):
                self.sync()
        except OSError:
            self._file.truncate(self._end)
            raise
        self.seq += 1
        self._end += len(line)
        return Entry(self.seq, moment, event)

    def sync(self) -> None:
        """Waits until all events are on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Ends writing."""
        self._file.close()


def read_events(path: Path) -> list[Entry]:
    """All whole entries of a file; none when it does not exist yet."""
    try:
        with open_own(path) as file:
            content = file.read()
    except FileNotFoundError:
        return []
    lines, _, _ = whole_lines(content, 0)
    return [line.entry for line in lines]


def whole_lines(content: bytes, seq: int) -> tuple[list[Line], int, str]:
    """Lines numbered from ``seq + 1`` on that start the content, their bytes, and why they end.

    The reason is empty where no more whole lines follow.
    """
    lines: list[Line] = []
    length = 0
    for raw in content.split(b"\n")[:-1]:
        number = seq + len(lines) + 1
        try:
            text = raw.decode()
            entry = Entry(*from_json(text))
        except (DataError, UnicodeDecodeError):
            return lines, length, f"line {number} of the event file is not an event of this version"
        if entry.seq != number:
            return lines, length, f"line {number} of the event file has the number {entry.seq}"
        lines.append(Line(entry, text))
        length += len(raw) + 1
    return lines, length, ""


def last_entry(path: Path) -> Entry | None:
    """The last whole entry of a file, however long the file is; None where it has none."""
    try:
        with open_own(path) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = file.read().split(b"\n")[:-1]
        return Entry(*from_json(lines[-1].decode()))
    except (OSError, IndexError, UnicodeDecodeError, DataError):
        return None


def effective(entries: Iterable[Entry]) -> list[Entry]:
    """The entries that count: without those of rounds that a later attempt did again."""
    kept: list[Entry] = []
    for entry in entries:
        if isinstance(entry.event, Started):
            kept = _undo(kept, entry.event.resumed_from_round)
        kept.append(entry)
    return kept


def _write_all(file: BinaryIO, line: bytes) -> None:
    # An unbuffered write may stop short on a nearly full disk without an error.
    while line:
        line = line[file.write(line) :]


def _undo(entries: list[Entry], after_round: int) -> list[Entry]:
    end = 0
    for index, entry in enumerate(entries):
        if isinstance(entry.event, RoundFinished) and entry.event.round == after_round:
            end = index + 1
    history = [e for e in entries[end:] if isinstance(e.event, (Started, Finished))]
    return entries[:end] + history


def _cut_damage(file: BinaryIO, path: Path) -> tuple[int, int]:
    file.seek(0)
    content = file.read()
    lines, length, _ = whole_lines(content, 0)
    remains = content[length:]
    if b"\n" in remains:
        path.with_name(f"{path.name}.damaged-{len(lines) + 1}").write_bytes(remains)
    if remains:
        file.truncate(length)
        os.fsync(file.fileno())
    return len(lines), length
