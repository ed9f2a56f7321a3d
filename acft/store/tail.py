"""Reading on in an event file where an earlier reading, perhaps by another process, stopped."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from acft.atomic import open_own
from acft.eventlog import Line, whole_lines

CHUNK_BYTES = 8 << 20
TAIL_BYTES = 1024


@dataclass(frozen=True)
class Position:
    """How far a file was read: always to the end of a whole line."""

    offset: int = 0
    seq: int = 0
    tail: str = ""
    """Digest of the last bytes before the offset; others in their place mean lost lines."""


@dataclass(frozen=True)
class Chunk:
    """Some lines and where they end."""

    lines: list[Line]
    position: Position
    problem: str = ""
    """Why the file cannot be read further, although more whole lines follow."""
    is_last: bool = True
    """Whether no more lines were there to be read."""


def read_on(path: Path, start: Position) -> Chunk | None:
    """Whole lines after a position; None when the file does not continue what was read before."""
    try:
        file = open_own(path)
    except FileNotFoundError:
        return Chunk([], start) if start == Position() else None
    with file:
        if _tail(file, start.offset) != start.tail:
            return None
        file.seek(start.offset)
        content = file.read(CHUNK_BYTES)
        is_last = len(content) < CHUNK_BYTES
        if not is_last and b"\n" not in content:
            content += file.readline()
        lines, length, problem = whole_lines(content, start.seq)
        offset = start.offset + length
        position = Position(offset, start.seq + len(lines), _tail(file, offset))
    return Chunk(lines, position, problem, is_last or bool(problem))


def _tail(file: BinaryIO, offset: int) -> str:
    start = max(0, offset - TAIL_BYTES)
    file.seek(start)
    content = file.read(offset - start)
    return hashlib.sha256(content).hexdigest() if content else ""
