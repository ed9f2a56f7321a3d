"""Consecutive lines of one run → rows of every table, inside one transaction."""

# ruff: noqa: S608 - only names from constants and quoted literals are formatted into SQL

import dataclasses
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from acft.eventlog import Line
from acft.events import Evaluated, Scalars, ShardSealed, Started
from acft.schema import RunPaths
from acft.store import shards
from acft.store.facts import run_key
from acft.store.shards import Shard
from acft.store.tail import Chunk

logger = logging.getLogger(__name__)

UNDONE_WITH_ROUNDS = ("metrics", "evaluations")
BULK = ("rollouts", "scores", "guidance", "sequences")


@dataclass(frozen=True)
class Retention:
    """How much token-level guidance the database keeps; the shards on disk are never touched."""

    guidance_rounds: int = 0
    """Guidance of this many latest rounds of each run; 0 = all."""


KEEP_ALL = Retention()


class Insertion:
    """The insertion of some consecutive lines of one run, inside one transaction."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, paths: RunPaths) -> None:
        self._connection = connection
        self._paths = paths
        self._run_id = paths.root.name
        self._run_key = run_key(self._run_id)

    def insert(self, chunk: Chunk, tables: Collection[str]) -> None:
        """Adds rows for all lines, without the large tables that are not in ``tables``."""
        self._insert_events(chunk.lines)
        self._insert_metrics(chunk.lines)
        self._insert_evaluations(chunk.lines)
        undone: set[int] = set()
        for line in chunk.lines:
            if isinstance(line.entry.event, Started):
                undone |= self._undo(line.entry.seq, line.entry.event.resumed_from_round)
        self._load_shards(
            [
                (line.entry.seq, line.entry.event)
                for line in chunk.lines
                if isinstance(line.entry.event, ShardSealed) and line.entry.seq not in undone
            ],
            tables,
        )
        position = chunk.position
        self._connection.execute(
            "INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?, ?)",
            [self._run_id, position.offset, position.seq, position.tail, chunk.problem],
        )

    def apply(self, retention: Retention) -> None:
        """Leaves out guidance of old rounds, and brings back what is no longer old.

        An undone round can make an earlier one recent again, and so can another retention.
        """
        found = self._connection.execute(
            "SELECT shard_seq, name, rows, sha256, round, state, "
            "$rounds = 0 OR round > max(round) OVER () - $rounds AS is_wanted "
            "FROM shards WHERE run_id = $run_id AND table_name = 'guidance'",
            {"run_id": self._run_id, "rounds": retention.guidance_rounds},
        ).fetchall()
        old = [seq for seq, *_, state, wanted in found if state == "loaded" and not wanted]
        back = [
            (seq, ShardSealed("guidance", name, rows, digest, round_index))
            for seq, name, rows, digest, round_index, state, wanted in found
            if state == "dropped" and wanted
        ]
        if not old and not back:
            return
        self._delete_rows(old)
        self._connection.execute(
            "UPDATE shards SET state = 'dropped' "
            "WHERE run_id = $run_id AND list_contains($seqs, shard_seq)",
            {"run_id": self._run_id, "seqs": old},
        )
        self._delete_from_ledger([seq for seq, _ in back])
        self._load_shards(back, BULK)

    def _insert_events(self, lines: Sequence[Line]) -> None:
        self._insert(
            "events",
            {
                "run_key": [self._run_key] * len(lines),
                "seq": [line.entry.seq for line in lines],
                "time": [line.entry.time for line in lines],
                "kind": [line.entry.event.kind for line in lines],
                "round": [getattr(line.entry.event, "round", None) for line in lines],
                "body": [line.text for line in lines],
                "is_undone": [False] * len(lines),
            },
        )

    def _insert_metrics(self, lines: Sequence[Line]) -> None:
        points = [
            (line.entry, line.entry.event, name, float(value))
            for line in lines
            if isinstance(line.entry.event, Scalars)
            for name, value in line.entry.event.values.items()
        ]
        self._insert(
            "metrics",
            {
                "run_key": [self._run_key] * len(points),
                "seq": [entry.seq for entry, _, _, _ in points],
                "time": [entry.time for entry, _, _, _ in points],
                "round": [event.round for _, event, _, _ in points],
                "step": [event.step for _, event, _, _ in points],
                "name": [name for _, _, name, _ in points],
                "value": [value for _, _, _, value in points],
            },
        )

    def _insert_evaluations(self, lines: Sequence[Line]) -> None:
        found = [
            (line.entry.seq, line.entry.event)
            for line in lines
            if isinstance(line.entry.event, Evaluated)
        ]
        columns: dict[str, list[Any]] = {"seq": [seq for seq, _ in found]}
        for field in dataclasses.fields(Evaluated):
            columns[field.name] = [getattr(event, field.name) for _, event in found]
        self._insert("evaluations", columns)

    def _insert(self, table: str, columns: dict[str, list[Any]]) -> None:
        n_rows = len(columns["seq"])
        if not n_rows:
            return
        batch = pa.table({"run_id": [self._run_id] * n_rows, **columns})
        self._connection.register("batch", batch)
        self._connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM batch")
        self._connection.unregister("batch")

    def _undo(self, seq: int, after_round: int) -> set[int]:
        """Numbers of the events that the attempt started at ``seq`` does again."""
        rows = self._connection.execute(
            "UPDATE events SET is_undone = true "
            "WHERE run_key = $run_key AND seq < $seq AND NOT is_undone "
            "AND kind NOT IN ('started', 'finished') AND seq > coalesce((SELECT max(seq) "
            "FROM events WHERE run_key = $run_key AND kind = 'round' AND round = $round "
            "AND seq < $seq AND NOT is_undone), 0) RETURNING seq",
            {"run_key": self._run_key, "seq": seq, "round": after_round},
        ).fetchall()
        undone = [number for (number,) in rows]
        if not undone:
            return set()
        for table in UNDONE_WITH_ROUNDS:
            self._connection.execute(
                f"DELETE FROM {table} WHERE run_id = $run_id AND list_contains($seqs, seq)",
                {"run_id": self._run_id, "seqs": undone},
            )
        self._delete_rows(undone)
        self._delete_from_ledger(undone)
        return set(undone)

    def _delete_from_ledger(self, shard_seqs: list[int]) -> None:
        self._connection.execute(
            "DELETE FROM shards WHERE run_id = $run_id AND list_contains($seqs, shard_seq)",
            {"run_id": self._run_id, "seqs": shard_seqs},
        )

    def _delete_rows(self, shard_seqs: list[int]) -> None:
        for table in BULK:
            self._connection.execute(
                f"DELETE FROM {table} WHERE run_key = $run_key AND list_contains($seqs, shard_seq)",
                {"run_key": self._run_key, "seqs": shard_seqs},
            )

    def _load_shards(
        self, sealed: Sequence[tuple[int, ShardSealed]], tables: Collection[str]
    ) -> None:
        found = [
            (event, Shard(seq, event.table, self._file(event.name), event.rows, event.sha256))
            for seq, event in sealed
            if event.table in tables
        ]
        problems = shards.problems([shard for _, shard in found])
        good = [shard for (_, shard), problem in zip(found, problems, strict=True) if not problem]
        shards.load(self._connection, self._run_id, self._run_key, good)
        for (event, shard), problem in zip(found, problems, strict=True):
            if problem:
                logger.warning("shard %s of run %s: %s", event.name, self._run_id, problem)
            self._connection.execute(
                "INSERT INTO shards VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    self._run_id, shard.seq, event.table, event.name, event.round, event.rows,
                    event.sha256, "refused" if problem else "loaded", problem,
                ],
            )  # fmt: skip

    def _file(self, name: str) -> Path:
        return self._paths.shards / Path(name).name
