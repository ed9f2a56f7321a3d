"""Run directories → rows: what was not read yet, once each, in one transaction per piece."""

# ruff: noqa: S608 - only names from constants and quoted literals are formatted into SQL

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

from acft.atomic import FileMark, file_mark
from acft.schema import FINAL, RunPaths
from acft.store.connection import Store, StoreError
from acft.store.facts import Signature, read_facts, run_directories, signature
from acft.store.insertion import BULK, KEEP_ALL, UNDONE_WITH_ROUNDS, Insertion, Retention
from acft.store.journal import load_journal
from acft.store.tail import Chunk, Position, read_on

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.8
SETTLED_NANOSECONDS = 2_000_000_000
"""What has an older time gets another one when it changes; clocks are coarse."""
MOVE_SECONDS = 30.0
"""Until a better database is asked for again when it could not be had: making it takes long."""
ALL_TABLES = ("runs", "positions", "events", "shards", *UNDONE_WITH_ROUNDS, *BULK)


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
        self._read_to: dict[str, FileMark] = {}
        self._resting: dict[str, Signature] = {}
        """Runs that have ended and been taken in: their folders and files as they were then."""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.problem = ""
        """Why the last pass did not end well; empty when it did."""

    def poll(self) -> int:
        """Number of events taken in by one pass over all runs.

        Raises:
            StoreError: A run cannot be taken in; names the first such, and all others were read.
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
        n_events, troubles = 0, []
        for run in paths.values():
            try:
                n_events += self._ingest_run(run)
            except Exception as error:  # noqa: BLE001 - one run's trouble must not hide the others
                told = f"run {run.root.name} cannot be taken in: {_in_words(error)}"
                troubles.append(StoreError(f"{told}; mend its folder or move it away"))
                troubles[-1].__cause__ = error
        if troubles:
            raise troubles[0]
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
        unmoved, retry = "", 0.0
        while not self._stop.is_set():
            if time.monotonic() >= retry:
                unmoved = _trouble(self._move)
                retry = time.monotonic() + MOVE_SECONDS if unmoved else 0.0
            # Pages need what is new even where a better database cannot be had.
            problem = "; ".join(filter(None, [unmoved, _trouble(self.poll)]))
            if problem and problem != self.problem:
                logger.warning("the store cannot be brought up to date: %s", problem)
            self.problem = problem
            self._stop.wait(POLL_SECONDS)

    def _move(self) -> None:
        """Goes on in a better database where there is one; the passes fill in what it lacks."""
        if (store := self._better()) is None:
            return
        try:
            load_journal(store)
        except BaseException:
            store.close()
            raise
        self._store.become(store)
        self._signatures, self._facts, self._read_to, self._resting = {}, {}, {}, {}
        load_journal(self._store)  # again: a vote may have come in between

    def _ingest_run(self, paths: RunPaths) -> int:
        run_id, now = paths.root.name, time.time_ns()
        # Taken first: what changes meanwhile is read again. A folder does not tell of files in it
        # that are written over in place.
        files = (paths.root, paths.events, paths.status, paths.labels)
        marks = tuple(map(file_mark, files))
        if self._resting.get(run_id) == marks:
            return 0
        n_events = self._ingest_news(paths)
        is_over = self._facts[run_id]["state"] in FINAL
        changed = max(mark.changed for mark in marks)
        if is_over and not n_events and now - changed > SETTLED_NANOSECONDS:
            self._resting[run_id] = marks
        return n_events

    def _ingest_news(self, paths: RunPaths) -> int:
        run_id = paths.root.name
        self._ingest_facts(paths)
        mark = file_mark(paths.events)
        if self._read_to.get(run_id) == mark:
            return 0
        n_events = 0
        is_last = False
        while not is_last and not self._stop.is_set():
            chunk = self._ingest_chunk(paths)
            n_events += len(chunk.lines)
            is_last = chunk.is_last
        if is_last:
            self._read_to[run_id] = mark
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
        is_first_look = run_id not in self._read_to  # the retention may have been set anew
        if chunk.lines or chunk.problem != known_problem or is_first_look:
            with self._store.write() as connection:
                insertion = Insertion(connection, paths)
                insertion.insert(chunk, self._tables)
                insertion.apply(self._retention)
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
        self._read_to.pop(run_id, None)
        self._resting.pop(run_id, None)
        if "runs" not in keep:
            self._signatures.pop(run_id, None)
            self._facts.pop(run_id, None)


def _trouble(action: Callable[[], object]) -> str:
    """Why an action failed, empty when it did not."""
    try:
        action()
    except Exception as error:  # noqa: BLE001 - a thread that dies leaves old pages unmarked
        # Nothing of the piece was committed, so the next pass takes it up again.
        return _in_words(error)
    return ""


def _in_words(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
