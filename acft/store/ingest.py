"""Run directories → rows: what was not read yet, once each, in one transaction per piece."""

# ruff: noqa: S608 - only names from constants and quoted literals are formatted into SQL

import dataclasses
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from acft.events import Evaluated, Scalars, ShardSealed, Started
from acft.schema import RunPaths
from acft.store import shards
from acft.store.connection import Store
from acft.store.facts import Signature, read_facts, run_directories, run_key, signature
from acft.store.journal import load_journal
from acft.store.shards import Shard
from acft.store.tail import Chunk, Line, Position, read_on

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.8
UNDONE_WITH_ROUNDS = ("metrics", "evaluations")
BULK = ("rollouts", "scores", "guidance", "sequences")
ALL_TABLES = ("runs", "positions", "events", "shards", *UNDONE_WITH_ROUNDS, *BULK)


@dataclass(frozen=True)
class Retention:
    """How much token-level guidance the database keeps; the shards on disk are never touched."""

    guidance_rounds: int = 0
    """Guidance of this many latest rounds of each run; 0 = all."""


KEEP_ALL = Retention()


class Ingester:
    """Brings a store up to date with its folder of runs, once or all the time."""

    def __init__(
        self,
        store: Store,
        retention: Retention = KEEP_ALL,
        *,
        tables: Collection[str] = BULK,
        only: Collection[str] = (),
        better: Callable[[], Store | None] = lambda: None,
    ) -> None:
        """Prepares to read.

        Args:
            store: What is brought up to date.
            retention: How much guidance is kept.
            tables: Large tables to fill; ``sequences`` comes with ``guidance``.
            only: Runs to read; all when empty.
            better: Asked before each pass of the thread for a database to go on with instead.
        """
        self._store = store
        self._only = only
        self._retention = retention
        self._tables = tables
        self._better = better
        self._signatures: dict[str, Signature] = {}
        self._facts: dict[str, dict[str, Any]] = {}
        self._sizes: dict[str, tuple[int, int]] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.problem = ""
        """Why the last pass did not end well; empty when it did."""

    def poll(self) -> int:
        """Number of events taken in by one pass over all runs.

        Raises:
            Exception: The first trouble met, with a note that names its run; all others were read.
        """
        if not self._store.root.is_dir():
            return 0
        paths = {
            run.root.name: run
            for run in run_directories(self._store.root)
            if not self._only or run.root.name in self._only
        }
        for (run_id,) in self._store.rows("SELECT run_id FROM runs"):
            if run_id not in paths:
                self._forget(run_id)
        n_events, errors = 0, []
        for run in paths.values():
            try:
                n_events += self._ingest_run(run)
            except Exception as error:  # noqa: BLE001 - one run's trouble must not hide the others
                error.add_note(f"in run {run.root.name}")
                errors.append(error)
        if errors:
            raise errors[0]
        return n_events

    def start(self) -> None:
        """Starts a thread that polls until ``stop``."""
        load_journal(self._store)
        self._stop.clear()
        self._thread = threading.Thread(target=self._keep_polling, name="ingest", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after the pass it is in."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _keep_polling(self) -> None:
        while not self._stop.is_set():
            try:
                self._move()
                self.poll()
                self.problem = ""
            except Exception as error:  # noqa: BLE001 - a thread that dies leaves old pages unmarked
                # Nothing of the piece was committed, so the next pass takes it up again.
                problem = _in_words(error)
                if problem != self.problem:
                    logger.warning("the store cannot be brought up to date: %s", problem)
                self.problem = problem
            self._stop.wait(POLL_SECONDS)

    def _move(self) -> None:
        """Goes on in a better database where there is one; the passes fill in what it lacks."""
        if (store := self._better()) is not None:
            self._store.become(store)
            self._signatures, self._facts, self._sizes = {}, {}, {}
            load_journal(self._store)

    def _ingest_run(self, paths: RunPaths) -> int:
        run_id = paths.root.name
        self._ingest_facts(paths)
        size = _size(paths.events)
        if self._sizes.get(run_id) == size:
            return 0
        n_events = 0
        is_last = False
        while not is_last and not self._stop.is_set():
            chunk = self._ingest_chunk(paths)
            n_events += len(chunk.lines)
            is_last = chunk.is_last
        if is_last:
            self._sizes[run_id] = size
        return n_events

    def _ingest_facts(self, paths: RunPaths) -> None:
        now = signature(paths)
        if self._signatures.get(paths.root.name) == now:
            return
        run_id = paths.root.name
        facts, before = read_facts(paths), self._facts.get(run_id)
        changed = {k: v for k, v in facts.items() if before is None or before[k] != v}
        with self._store.write() as connection:
            if before is None:
                connection.execute("DELETE FROM runs WHERE run_id = ?", [run_id])
                columns, values = ", ".join(changed), ", ".join(f"${name}" for name in changed)
                connection.execute(f"INSERT INTO runs ({columns}) VALUES ({values})", changed)
            elif changed:
                # A heartbeat changes few columns; replacing the row takes seven times as long.
                pairs = ", ".join(f"{name} = ${name}" for name in changed)
                connection.execute(
                    f"UPDATE runs SET {pairs} WHERE run_id = $run_id", {**changed, "run_id": run_id}
                )
        self._facts[run_id] = facts
        self._signatures[paths.root.name] = now

    def _ingest_chunk(self, paths: RunPaths) -> Chunk:
        run_id = paths.root.name
        start, known_problem = self._position(run_id)
        chunk = read_on(paths.events, start)
        if chunk is None:
            logger.info("the event file of run %s lost lines; reading it again", run_id)
            self._forget(run_id, keep=("runs",))
            chunk = read_on(paths.events, Position())
        assert chunk is not None, "a file always continues nothing"
        is_first_look = run_id not in self._sizes  # the retention may have been set anew
        if chunk.lines or chunk.problem != known_problem or is_first_look:
            with self._store.write() as connection:
                piece = _Piece(connection, paths)
                piece.insert(chunk, self._tables)
                piece.apply(self._retention)
        return chunk

    def _position(self, run_id: str) -> tuple[Position, str]:
        rows = self._store.rows(
            "SELECT byte_offset, seq, tail, problem FROM positions WHERE run_id = $run_id",
            {"run_id": run_id},
        )
        if not rows:
            return Position(), ""
        offset, seq, tail, problem = rows[0]
        return Position(offset, seq, tail), problem

    def _forget(self, run_id: str, keep: Iterable[str] = ()) -> None:
        with self._store.write() as connection:
            for table in set(ALL_TABLES) - set(keep):
                connection.execute(f"DELETE FROM {table} WHERE run_id = ?", [run_id])
        self._sizes.pop(run_id, None)
        if "runs" not in keep:
            self._signatures.pop(run_id, None)
            self._facts.pop(run_id, None)


class _Piece:
    """The insertion of some consecutive lines of one run, inside one transaction."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, paths: RunPaths) -> None:
        self._connection = connection
        self._paths = paths
        self._run_id = paths.root.name
        self._run_key = run_key(self._run_id)

    def insert(self, chunk: Chunk, tables: Collection[str]) -> None:
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


def _in_words(error: Exception) -> str:
    text = (str(error) or type(error).__name__).splitlines()[0]
    return " ".join([text, *getattr(error, "__notes__", ())])


def _size(path: Path) -> tuple[int, int]:
    try:
        facts = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return (facts.st_size, facts.st_mtime_ns)
