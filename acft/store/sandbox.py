"""Free SQL over copies: a short-lived process loads shards into memory, locks itself, answers.

Three walls, each enough alone against reading or writing files: only SELECT and EXPLAIN are let
through, DuckDB refuses external access and changes of its settings, and the database the workbench
uses is never opened. Time, memory, disk, rows and text are capped; the operating system's limits
stand behind DuckDB's.
"""

import json
import math
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from acft.store.connection import Store, StoreError, open_memory_store
from acft.store.ingest import BULK, Ingester
from acft.store.journal import load_journal

PACKAGE_PARENT = Path(__file__).resolve().parents[2]
INHERITED = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT")
ALLOWED = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
EXPLAIN = re.compile(
    r"\s*EXPLAIN\b\s*(?:ANALYZE\b\s*)?(?:\(\s*(?:ANALYZE|FORMAT)\b[\w\s,]*\)\s*)?", re.IGNORECASE
)
"""The beginning of an EXPLAIN. Its options hold words only: a comment or a text among them could
hide where they end, and with it what is explained."""
START_SECONDS = 10.0
"""Allowed for the start of the process, on top of the query's own time."""
LOAD_SECONDS = 60.0
OVERHEAD_BYTES = 3 << 30
"""Address space of the interpreter and its libraries, on top of DuckDB's memory."""
RESULT_CHARACTERS = 8_000_000
SQL_CHARACTERS = 100_000
GRACE_SECONDS = 2.0
"""DuckDB ends a query at its time by itself, but looks at the clock only between pieces of work;
the operating system ends the process so much later."""
HINT = re.compile(r"^(?:Candidate bindings: |Did you mean )(.+?)\??$", re.MULTILINE)
"""How DuckDB names what might have been meant."""
OVER_TIME = "maximum execution time"
"""Part of what DuckDB says when it ends a query."""
TOO_MUCH_MEMORY = "the query needs more memory than it may use; select less"
TAKES_ALL = {"query", "query_table", "json_execute_serialized_sql", "shards"}
"""Words of a query that may read tables it does not name, and the ledger of what is loaded."""

ALTERNATIVES = """
CREATE TABLE alternatives AS
SELECT shards.run_id, shards.shard_seq, file.sequence_id, file.step, file.position,
    file.alternatives
FROM read_parquet($paths) AS file
JOIN shards ON shards.run_id = $run_ids[list_position($paths, file.filename)]
    AND shards.shard_seq = $seqs[list_position($paths, file.filename)]
WHERE file.alternatives IS NOT NULL
"""
NO_ALTERNATIVES = """
CREATE TABLE alternatives (run_id VARCHAR, shard_seq INTEGER, sequence_id VARCHAR, step INTEGER,
    position INTEGER, alternatives VARCHAR)
"""


class QueryError(StoreError):
    """A query is not allowed, wrong, or exceeds what it may use."""

    kind = "config"


class CapError(QueryError):
    """A query needs more than it may use; one that selects less may be answered."""


@dataclass(frozen=True)
class Caps:
    """What one query may use."""

    seconds: float = 10.0
    memory_mib: int = 1024
    disk_mib: int = 4096
    threads: int = 2
    rows: int = 1000
    cell_characters: int = 2000


@dataclass(frozen=True)
class Result:
    """Rows of plain values."""

    columns: list[str]
    rows: list[list[Any]]
    is_cut: bool
    """Whether there were more rows than allowed."""
    seconds: float
    """Time of the query itself, without start and loading."""


DEFAULT_CAPS = Caps()


def run_query(
    root: Path, sql: str, run_ids: Sequence[str] = (), caps: Caps = DEFAULT_CAPS
) -> Result:
    """What a query gives over the sealed shards and events of some runs.

    Tables are those of the store, and ``alternatives``, which is read only when it is named.

    Args:
        root: Folder of all run directories.
        sql: One SELECT or EXPLAIN.
        run_ids: Runs to load; all when empty.
        caps: What the query may use.

    Raises:
        QueryError: The query is refused, wrong or too large; says which.
        CapError: It needs more than it may use.
    """
    if len(sql) > SQL_CHARACTERS:
        raise QueryError(
            f"the query has {len(sql):,} characters; at most {SQL_CHARACTERS:,} are read"
        )
    with tempfile.TemporaryDirectory(prefix="acft-sql-") as folder:
        request = {
            "root": str(root.resolve()), "sql": sql, "run_ids": list(run_ids),
            "caps": asdict(caps), "folder": folder,
        }  # fmt: skip
        answer = _in_process(request, folder, START_SECONDS + LOAD_SECONDS + caps.seconds)
    if "error" in answer:
        raise (CapError if answer["is_over"] else QueryError)(answer["error"])
    return Result(**answer)


def check_statement(sql: str) -> None:
    """Refuses everything but one SELECT or EXPLAIN, without running anything.

    Raises:
        QueryError: The text is not SQL, or another or more than one statement.
    """
    parser = duckdb.connect(":memory:")
    try:
        statements = parser.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryError(_told(error)) from None
    finally:
        parser.close()
    if len(statements) != 1:
        raise QueryError(f"{len(statements)} statements; write exactly one SELECT")
    kind = statements[0].type
    if kind not in ALLOWED:
        raise QueryError(f"{kind.name} is refused here; only SELECT and EXPLAIN are answered")
    if kind == duckdb.StatementType.EXPLAIN:
        explained = EXPLAIN.match(sql)
        if explained is None:
            raise QueryError("write EXPLAIN or EXPLAIN ANALYZE first, and a SELECT after it")
        check_statement(sql[explained.end() :])


def lock(connection: duckdb.DuckDBPyConnection, caps: Caps) -> None:
    """Takes away everything but reading what is loaded; cannot be undone."""
    connection.execute(f"SET max_execution_time = {int(caps.seconds * 1000)}")
    connection.execute("SET allow_community_extensions = false")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def main() -> None:
    """Body of the process: a request on standard input, an answer on standard output."""
    request = json.load(sys.stdin)
    try:
        answer = _answer(request)
    except (duckdb.Error, StoreError, MemoryError) as error:
        answer = _failure(_told(error, request["caps"]["seconds"]), is_over=_is_over(error))
    except (OSError, ValueError, pa.ArrowException) as error:
        answer = _failure(f"the runs cannot be read: {error}", is_over=False)
    json.dump(answer, sys.stdout, allow_nan=False, default=str)


def _failure(text: str, *, is_over: bool) -> dict[str, Any]:
    return {"error": text, "is_over": is_over}


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    caps = Caps(**request["caps"])
    _limit_process(caps)
    root = Path(request["root"])
    check_statement(request["sql"])
    store = open_memory_store(root, f"{caps.memory_mib}MiB")
    with store.write() as connection:
        connection.execute(f"SET threads = {int(caps.threads)}")
        connection.execute("SET temp_directory = '{}'".format(request["folder"].replace("'", "''")))
        connection.execute(f"SET max_temp_directory_size = '{caps.disk_mib}MiB'")
    load(store, _tables(request["sql"]), request["run_ids"])
    with store.read() as connection:
        lock(connection, caps)
        signal.setitimer(signal.ITIMER_REAL, caps.seconds + GRACE_SECONDS)
        return _run(connection, request["sql"], caps)


def load(store: Store, tables: Collection[str], run_ids: Sequence[str] = ()) -> None:
    """Fills an in-memory store with what a query names."""
    wanted = [table for table in BULK if table in tables]
    if {"sequences", "alternatives"} & set(tables):
        wanted.append("guidance")
    Ingester(store, tables=wanted, only=run_ids).poll()
    load_journal(store)
    sealed = store.rows(
        "SELECT run_id, shard_seq, name FROM shards "
        "WHERE table_name = 'guidance' AND state = 'loaded'"
    )
    with store.write() as connection:
        if "alternatives" not in tables or not sealed:
            connection.execute(NO_ALTERNATIVES)
            return
        names = [str(store.root / run_id / "shards" / name) for run_id, _, name in sealed]
        values = {
            "paths": names,
            "run_ids": [run_id for run_id, _, _ in sealed],
            "seqs": [seq for _, seq, _ in sealed],
        }
        connection.execute(ALTERNATIVES, values)


def _tables(sql: str) -> set[str]:
    """Large tables a query may read: those whose name stands anywhere in it."""
    words = set(re.findall(r"\w+", sql.lower()))
    everything = {*BULK, "alternatives"}
    return everything if words & TAKES_ALL else words & everything


def _run(connection: duckdb.DuckDBPyConnection, sql: str, caps: Caps) -> dict[str, Any]:
    start = time.perf_counter()
    result = connection.execute(sql)
    columns = [column[0] for column in result.description or []]
    rows: list[list[Any]] = []
    size = 0
    is_cut = False
    while row := result.fetchone():
        if len(rows) == caps.rows or size > RESULT_CHARACTERS:
            is_cut = True
            break
        rows.append([_plain(value, caps.cell_characters) for value in row])
        size += sum(len(str(value)) for value in rows[-1])
    seconds = time.perf_counter() - start
    return {"columns": columns, "rows": rows, "is_cut": is_cut, "seconds": seconds}


def _plain(value: Any, characters: int) -> Any:
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, (list, dict, tuple)):
        value = json.dumps(_with_text_keys(value), default=str, ensure_ascii=False)
    text = str(value)
    return text if len(text) <= characters else text[:characters] + "…"


def _with_text_keys(value: Any) -> Any:
    """A nested value as JSON can write it: keys of a map may be of any type."""
    if isinstance(value, dict):
        return {str(key): _with_text_keys(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_text_keys(item) for item in value]
    return value


def _limit_process(caps: Caps) -> None:
    memory = (caps.memory_mib << 20) + OVERHEAD_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    disk = caps.disk_mib << 20
    resource.setrlimit(resource.RLIMIT_FSIZE, (disk, disk))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _in_process(request: dict[str, Any], folder: str, seconds: float) -> dict[str, Any]:
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    environment |= {"HOME": folder, "PYTHONPATH": str(PACKAGE_PARENT)}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "acft.store.sandbox"],
            input=json.dumps(request), capture_output=True, text=True, timeout=seconds,
            env=environment, cwd=folder, start_new_session=True, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise CapError(f"the query was ended after {seconds:.0f} seconds; select less") from None
    try:
        return json.loads(done.stdout)
    except ValueError:
        if done.returncode == -signal.SIGALRM:
            raise CapError(_too_long(request["caps"]["seconds"])) from None
        raise CapError(
            f"the query's process ended with code {done.returncode} before it answered, "
            "probably at its memory limit; select less"
        ) from None


def _too_long(seconds: float) -> str:
    return f"the query took longer than the {seconds:g} seconds it may; select less"


def _is_over(error: BaseException) -> bool:
    return _is_short_of_memory(error) or OVER_TIME in str(error)


def _is_short_of_memory(error: BaseException) -> bool:
    kinds = (MemoryError, duckdb.OutOfMemoryException)
    return isinstance(error, kinds) or isinstance(error.__cause__, kinds)


def _told(error: BaseException, seconds: float = 0.0) -> str:
    """One line for the user, with what may have been meant."""
    text = str(error).strip()
    if OVER_TIME in text:
        return _too_long(seconds)
    if _is_short_of_memory(error):
        return TOO_MUCH_MEMORY
    line = text.splitlines()[0] if text else type(error).__name__
    meant = HINT.search(text)
    said = re.sub(r"^[A-Za-z ]+ Error: ", "", line).rstrip("!")
    return f"{said}; did you mean {meant[1]}?" if meant else said


if __name__ == "__main__":
    main()
