"""Everything a worker writes into its run directory: events, shards, checkpoints."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from acft.atomic import sha256, sync_file, sync_folder, temporary
from acft.checkpoints import seal
from acft.errors import NonFiniteError
from acft.eventlog import Entry, EventWriter, effective, read_events
from acft.events import Event, RoundFinished, ShardSealed
from acft.schema import TABLES, RunPaths
from acft.training.outputs import Checkpoint, Output, Rows

Listener = Callable[[Entry], None]


class Recorder:
    """Writes what a method yields; tells a listener of every event after it is written."""

    def __init__(self, paths: RunPaths, listen: Listener = lambda _: None) -> None:
        self._paths = paths
        self._listen = listen
        self._events = EventWriter(paths.events)

    @property
    def seq(self) -> int:
        """Number of the last event."""
        return self._events.seq

    def take(self, output: Output) -> None:
        """Writes one thing that a method yielded."""
        if isinstance(output, Rows):
            if output.rows:
                self.event(self._seal_rows(output))
        elif isinstance(output, Checkpoint):
            self.event(self._seal_checkpoint(output))
        else:
            self.event(output)

    def event(self, event: Event) -> None:
        """Appends an event."""
        self._listen(self._events.append(event))

    def sync(self) -> None:
        """Waits until all events are on the disk."""
        self._events.sync()

    def close(self) -> None:
        """Ends writing."""
        self._events.close()

    def _seal_rows(self, output: Rows) -> ShardSealed:
        table = _table(output.table, output.rows)
        path = self._paths.shards / f"{output.table}-{self.seq + 1:06d}.parquet"
        unfinished = temporary(path)
        try:
            pq.write_table(table, unfinished, compression="zstd")
            sync_file(unfinished)
            digest = sha256(unfinished)
            unfinished.rename(path)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
        return ShardSealed(output.table, path.name, table.num_rows, digest, output.round)

    def _seal_checkpoint(self, output: Checkpoint) -> RoundFinished:
        folder = self._paths.checkpoint(output.round)
        seal(folder, output.save)
        name = folder.relative_to(self._paths.root).as_posix()
        return RoundFinished(output.round, name, output.policy_version, output.oracle_version)


def remove_unnamed(paths: RunPaths) -> list[Path]:
    """Deletes shards and checkpoints that no effective event names, and says which.

    They are remains of a process that died, or of rounds that are about to be done again.
    """
    named: set[Path] = set()
    for entry in effective(read_events(paths.events)):
        if isinstance(entry.event, ShardSealed):
            named.add(paths.shards / entry.event.name)
        elif isinstance(entry.event, RoundFinished):
            named.add(paths.root / entry.event.checkpoint)
    remains: set[Path] = set()
    for folder in (paths.shards, paths.checkpoints):
        folder.mkdir(exist_ok=True)  # what copies runs often leaves empty folders out
        remains |= {*folder.iterdir()} - named
    for path in remains:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    return sorted(remains)


def _table(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    schema = TABLES[name]
    unknown = set().union(*rows) - set(schema.names)
    if unknown:
        raise ValueError(f"table {name!r} has no columns {sorted(unknown)}; see schema.py")
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    for field in schema:
        # ``all`` of no values is None.
        if pa.types.is_floating(field.type):
            is_finite = pc.all(pc.is_finite(table.column(field.name))).as_py()  # pyright: ignore[reportAttributeAccessIssue] - made at import
            if is_finite is False:
                raise NonFiniteError(f"column {field.name!r} of a {name!r} shard is not finite")
    return table
