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

from acft.atomic import replace_bytes, temporary
from acft.benchmarks.results import DRAWN, MEASUREMENTS
from acft.errors import DataError
from acft.eventlog import effective, read_events
from acft.events import Note, Progress, ShardSealed, to_json
from acft.runs.directory import RUN_ID, read_launch, read_status
from acft.schema import (
    CHECKPOINTS,
    EVENTS,
    LABELS,
    LAUNCH,
    RESOLVED,
    SHARDS,
    SPEC,
    STATUS,
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
MEMBER_BYTES = 1 << 28
"""No measurements are larger; more is an attack on the disk."""


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

    Raises:
        DataError: The file cannot be read, is damaged, or has something that no table reads.
    """
    runs: dict[str, dict[str, bytes]] = {}
    try:
        with tarfile.open(file, mode="r:xz") as archive:
            for member in archive:
                run_id, _, name = member.name.partition("/")
                is_known = RUN_ID.fullmatch(run_id) and NAMES.fullmatch(name)
                if not (is_known and member.isreg() and member.size <= MEMBER_BYTES):
                    raise DataError(f"{str(file)!r} is no packed table: it has {member.name!r}")
                content = archive.extractfile(member)
                runs.setdefault(run_id, {})[name] = b"" if content is None else content.read()
    except (OSError, EOFError, tarfile.TarError, lzma.LZMAError) as error:
        raise DataError(f"cannot read {str(file)!r} as a packed table: {error}") from None
    added = [run_id for run_id in sorted(runs) if not (runs_dir / run_id).exists()]
    for run_id in added:
        _create(runs_dir / run_id, runs[run_id])
    return added


def _create(root: Path, files: dict[str, bytes]) -> None:
    """A run directory that appears complete or not at all."""
    unfinished = temporary(root)
    try:
        for folder in (SHARDS, CHECKPOINTS):
            (unfinished / folder).mkdir(parents=True)
        for name, content in files.items():
            (unfinished / name).parent.mkdir(parents=True, exist_ok=True)
            (unfinished / name).write_bytes(content)
        (unfinished / LABELS).write_text("{}", encoding="utf-8")
        unfinished.rename(root)
    except OSError:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _kept(paths: RunPaths) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file of a run that tables read."""
    status, launch = read_status(paths), read_launch(paths)
    where = json.dumps(f"{paths.root.parent.resolve()}/")[1:-1]
    # a folder in an override is quoted twice: as TOML, and that as JSON
    places = [json.dumps(where)[1:-1], where]

    def without_places(text: str) -> bytes:
        for place in places:
            text = text.replace(place, "")
        return text.encode()

    launch = dataclasses.replace(launch, request_id="", working_directory="")
    yield SPEC, paths.spec.read_bytes()
    yield LAUNCH, without_places(json.dumps(dataclasses.asdict(launch), indent=2))
    if paths.resolved.is_file():
        yield RESOLVED, without_places(paths.resolved.read_text(encoding="utf-8"))
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
