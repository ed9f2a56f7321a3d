"""The runs behind a table as one small file: to publish beside it, or to join parts made elsewhere.

The file has of each run what tables read: settings, provenance, events and measurements by prompt.
It has no weights, no sampled texts, and no path of the folder that the runs lay in.
"""

import dataclasses
import io
import json
import lzma
import re
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path

from acft.atomic import read_own_text, replace_bytes, replace_json, temporary
from acft.benchmarks.results import DRAWN, MEASUREMENTS
from acft.errors import DataError
from acft.eventlog import effective, read_events
from acft.events import Note, Progress, ShardSealed, to_json
from acft.runs.directory import RUN_ID, read_launch, read_status, write_labels
from acft.schema import (
    CHECKPOINTS,
    EVENTS,
    LAUNCH,
    RESOLVED,
    SPEC,
    STATUS,
    Labels,
    RunPaths,
    Status,
)

LEFT_OUT = (Note, Progress, ShardSealed)
"""Kinds of events that say nothing to a table."""
NAMES = re.compile(
    "|".join(
        [
            *map(re.escape, (SPEC, LAUNCH, RESOLVED, STATUS, EVENTS)),
            rf"{CHECKPOINTS}/round-\d+/({re.escape(MEASUREMENTS)}|{re.escape(DRAWN)})",
        ]
    )
)
"""Files of a run that a packed table can have."""
TOTAL_BYTES = 1 << 28
"""No table's measurements are larger; more is an attack on the disk."""
HEADER_BYTES = 1 << 24
"""Room for what the archive adds to them."""


def pack(runs: Iterable[RunPaths], file: Path) -> None:
    """Writes the file; the same runs give the same bytes."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:xz") as archive:
        for paths in sorted(runs, key=lambda paths: paths.root.name):
            for name, kept in _kept(paths):
                member = tarfile.TarInfo(f"{paths.root.name}/{name}")
                member.size = len(kept)
                archive.addfile(member, io.BytesIO(kept))
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_bytes(file, content.getvalue())


def unpack(file: Path, runs_dir: Path) -> list[str]:
    """Ids of the runs that were added to the folder; those that it has already stay as they are.

    All runs are added or none.

    Raises:
        DataError: The file cannot be read, is damaged, or has something that no table reads.
    """
    staging = temporary(runs_dir / file.name)
    try:
        with (
            lzma.open(file) as content,
            tarfile.open(fileobj=_Capped(content), mode="r|") as archive,
        ):
            found = sorted({_extract(member, archive, staging) for member in _checked(archive)})
        for run_id in found:
            _accept(RunPaths(staging / run_id))
        added = [run_id for run_id in found if not (runs_dir / run_id).exists()]
        for run_id in added:
            (staging / run_id).rename(runs_dir / run_id)
    except DataError as error:
        raise DataError(f"{str(file)!r} is no packed table: {error}") from None
    except (OSError, EOFError, tarfile.TarError, lzma.LZMAError) as error:
        raise DataError(f"cannot read {str(file)!r} as a packed table: {error}") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return added


class _Capped(io.BufferedIOBase):
    """Content that is unpacked no further than that of a table goes, whatever its headers say."""

    def __init__(self, content: lzma.LZMAFile) -> None:
        self._content = content
        self._left = TOTAL_BYTES + HEADER_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes."""
        found = self._content.read(-1 if size is None else size)
        self._left -= len(found)
        if self._left < 0:
            raise DataError(f"it is larger than {TOTAL_BYTES >> 20} MiB")
        return found


def _checked(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members, as long as they are what a table reads and together of a possible size."""
    size = 0
    for member in archive:
        run_id, _, name = member.name.partition("/")
        size += member.size
        if not (RUN_ID.fullmatch(run_id) and NAMES.fullmatch(name) and member.isreg()):
            raise DataError(f"it has {member.name!r}")
        if size > TOTAL_BYTES:
            raise DataError(f"with {member.name!r} it is larger than {TOTAL_BYTES >> 20} MiB")
        yield member


def _extract(member: tarfile.TarInfo, archive: tarfile.TarFile, folder: Path) -> str:
    """Id of the run that the member belongs to, once it is written."""
    place, content = folder / member.name, archive.extractfile(member)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"" if content is None else content.read())
    return member.name.partition("/")[0]


def _accept(paths: RunPaths) -> None:
    """Completes a run directory, with nothing in it that could make anybody start or send it.

    Raises:
        DataError: The run has not finished, or says not how it came about.
    """
    if not paths.spec.is_file() or read_status(paths).state != "finished":
        raise DataError(f"its run {paths.root.name} has no settings or did not finish")
    launch = dataclasses.replace(read_launch(paths), working_directory="", mirror=())
    replace_json(paths.launch, dataclasses.asdict(launch))
    for folder in (paths.shards, paths.checkpoints):
        folder.mkdir(exist_ok=True)
    write_labels(paths, Labels())


def _kept(paths: RunPaths) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file of a run that tables read."""
    status, launch = read_status(paths), read_launch(paths)
    where = json.dumps(f"{paths.root.parent.resolve()}/")[1:-1]
    # a folder in an override is quoted twice: as TOML, and that as JSON
    places = "|".join(map(re.escape, (json.dumps(where)[1:-1], where)))

    def without_places(text: str) -> bytes:
        return re.sub(rf"(?<=[\"'])(?:{places})", "", text).encode()

    launch = dataclasses.replace(launch, request_id="", working_directory="")
    yield SPEC, without_places(read_own_text(paths.spec))
    yield LAUNCH, without_places(json.dumps(dataclasses.asdict(launch), indent=2))
    if paths.resolved.is_file():
        yield RESOLVED, without_places(read_own_text(paths.resolved))
    yield STATUS, json.dumps(dataclasses.asdict(_without_process(status)), indent=2).encode()
    entries = [e for e in effective(read_events(paths.events)) if not isinstance(e.event, LEFT_OUT)]
    lines = [to_json(e.event, seq, e.time) for seq, e in zip(count(1), entries, strict=False)]
    yield EVENTS, without_places("".join(f"{line}\n" for line in lines))
    for name in (MEASUREMENTS, DRAWN):
        measured = paths.root / status.checkpoint / name
        if status.checkpoint and measured.is_file():
            yield f"{status.checkpoint}/{name}", measured.read_bytes()


def _without_process(status: Status) -> Status:
    """The status without what belongs to the machine: its process and the folder it wrote to."""
    return Status(
        status.state, status.kind, created=status.created, started=status.started,
        ended=status.ended, round=status.round, rounds=status.rounds, step=status.step,
        steps=status.steps, checkpoint=status.checkpoint, best_checkpoint=status.best_checkpoint,
    )  # fmt: skip
