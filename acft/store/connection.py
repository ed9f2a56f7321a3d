"""The database file: opened once, migrated, one writing connection, a cursor for each reader."""

import re
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from acft.errors import AcftError

if TYPE_CHECKING:
    import pandas as pd

FILE = "store.duckdb"
"""Name of the database inside the folder of all runs."""
MEMORY = Path(":memory:")
"""What DuckDB calls a database without a file."""
STORAGE_VERSION = "v2.0.0"
"""Oldest DuckDB that can open what we write; the lowest version the project allows."""
MEMORY_LIMIT = "1GiB"
CHECKPOINT_SIZE = "256MiB"
"""Size of the log at which it is merged into the file. At DuckDB's own 16 MiB, row groups are
compressed anew three times while they fill; a log of this size is replayed in about a second."""


class StoreError(AcftError):
    """The database cannot be used; it can always be made again from the run directories."""

    kind = "data"


class StoreDamagedError(StoreError):
    """The database file cannot be read; the runs' files, of which it is made, are not touched."""


class StoreLockedError(StoreError):
    """Another process has the database open."""


class Store:
    """An open database and the folder of runs it was made from."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, root: Path, path: Path) -> None:
        self.root = root
        self.is_in_memory = path == MEMORY
        """Whether its rows go with this process."""
        self._writer = connection
        self._reader = connection.cursor()
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()

    @contextmanager
    def write(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The only writing connection, inside a transaction that is undone by any error."""
        with self._write_lock:
            self._writer.begin()
            try:
                yield self._writer
            except BaseException:
                self._writer.rollback()
                raise
            self._writer.commit()

    @contextmanager
    def read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor of its own, so that readers wait neither for each other nor for the writer."""
        with self._read_lock:
            cursor = self._reader.cursor()
        try:
            yield cursor
        finally:
            cursor.close()

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple]:
        """All rows of a query."""
        with self.read() as cursor:
            return cursor.execute(sql, dict(parameters or {})).fetchall()

    def frame(self, sql: str, parameters: Mapping[str, Any] | None = None) -> "pd.DataFrame":
        """All rows of a query as a table."""
        with self.read() as cursor:
            return cursor.execute(sql, dict(parameters or {})).df()

    def become(self, other: "Store") -> None:
        """Goes on as another database of the same runs; reads that are under way end in this one.

        The other is used up by it.
        """
        with self._write_lock, self._read_lock:
            # Not closed, which would end the reads: the last of them lets go of it.
            self._reader, self._writer = other._reader, other._writer
            self.is_in_memory = other.is_in_memory

    def close(self) -> None:
        """Ends all use; the file can then be opened by others."""
        with self._write_lock:
            self._reader.close()
            self._writer.close()


def open_store(root: Path, path: Path | None = None) -> Store:
    """The database of a folder of runs, made or brought up to date if need be.

    Args:
        root: Folder of all run directories.
        path: Database file; by default ``store.duckdb`` inside ``root``.

    Raises:
        StoreLockedError: Another process has the file open; says which and what to do.
        StoreDamagedError: The file cannot be read.
        StoreError: It was made by a newer version.
    """
    path = path or root / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        connection = _connect(str(path))
    except duckdb.Error as error:  # damage shows as any of its kinds, even as the base class
        raise _unusable(path, str(error)) from None
    return _migrated(connection, root, path)


def open_memory_store(root: Path, memory_limit: str = MEMORY_LIMIT) -> Store:
    """A database without a file, for demonstrations and notebooks."""
    connection = _connect(str(MEMORY), memory_limit)
    # By default it would be a folder in the current directory.
    overflow = Path(tempfile.gettempdir()) / f"acft-store-{uuid.uuid4().hex}"
    connection.execute("SET temp_directory = ?", [str(overflow)])
    return _migrated(connection, root, MEMORY)


def migrations() -> list[tuple[int, str, str]]:
    """Number, name and SQL of every migration, in order."""
    folder = resources.files("acft.store.migrations")
    names = sorted(file.name for file in folder.iterdir() if file.name.endswith(".sql"))
    return [
        (int(name.split("_")[0]), name, folder.joinpath(name).read_text("utf-8")) for name in names
    ]


def migrate(connection: duckdb.DuckDBPyConnection) -> int:
    """Number of migrations applied now.

    Raises:
        StoreError: The database has a migration this version does not know.
    """
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations (version INTEGER PRIMARY KEY, name VARCHAR)"
    )
    rows = connection.execute("SELECT version FROM schema_migrations").fetchall()
    applied = {version for (version,) in rows}
    known = migrations()
    unknown = applied - {version for version, _, _ in known}
    if unknown:
        raise StoreError(
            f"the database has schema version {max(unknown)}, newer than this program's "
            f"{known[-1][0]}; update acft, or make the database again with: acft store rebuild"
        )
    missing = [migration for migration in known if migration[0] not in applied]
    for version, name, sql in missing:
        connection.begin()
        connection.execute(sql)
        connection.execute("INSERT INTO schema_migrations VALUES (?, ?)", [version, name])
        connection.commit()
    return len(missing)


def _connect(database: str, memory_limit: str = MEMORY_LIMIT) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(
        database,
        config={
            "memory_limit": memory_limit,
            "storage_compatibility_version": STORAGE_VERSION,
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",
            "checkpoint_threshold": CHECKPOINT_SIZE,
        },
    )


def _migrated(connection: duckdb.DuckDBPyConnection, root: Path, path: Path) -> Store:
    try:
        migrate(connection)
    except (duckdb.Error, StoreError) as error:
        connection.close()
        raise error if isinstance(error, StoreError) else _unusable(path, str(error)) from None
    return Store(connection, root, path)


def _unusable(path: Path, reason: str) -> StoreError:
    if "Conflicting lock" not in reason:
        return StoreDamagedError(
            f"cannot open the database {str(path)!r}: {reason.splitlines()[0]}; nothing is lost, "
            "make it again from the run directories with: acft store rebuild"
        )
    holder = re.search(r"\(PID (\d+)\)", reason)
    who = f"process {holder[1]}" if holder else "another process"
    return StoreLockedError(
        f"the database {str(path)!r} is in use by {who}, probably a running workbench; open that "
        "workbench in the browser, or read the run directories without the database "
        "(acft runs, acft store query, acft.open_runs), or end that process first"
    )
