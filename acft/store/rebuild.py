"""The database made again from the run directories, and consistent copies of it."""

import logging
import uuid
from pathlib import Path

import duckdb

from acft.store.connection import FILE, Store, StoreError, StoreLockedError, open_store
from acft.store.ingest import KEEP_ALL, Ingester, Retention
from acft.store.journal import load_journal
from acft.store.queries.answer import literal

LOG = logging.getLogger(__name__)


def rebuild(
    root: Path,
    path: Path | None = None,
    retention: Retention = KEEP_ALL,
    *,
    may_miss_runs: bool = False,
) -> int:
    """Number of runs in the new database, which takes the place of the old one when complete.

    Args:
        root: Directory of the runs.
        path: The database, where it is not the one among them.
        retention: What is kept of old rounds.
        may_miss_runs: A run that cannot be taken in is told in the log and keeps no other one out.

    Raises:
        StoreError: A run cannot be taken in, and none may be missing; the old one stays.
        StoreLockedError: A running workbench has the old one open.
    """
    path = path or root / FILE
    _require_unlocked(root, path)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    store = open_store(root, unfinished)
    try:
        n_runs = bring_up_to_date(store, retention, may_miss_runs=may_miss_runs)
        store.close()
        # Before the file: a log of the old one must never be found beside the new one.
        _log_of(path).unlink(missing_ok=True)
        unfinished.replace(path)
    finally:
        store.close()
        _remove(unfinished)
    return n_runs


def bring_up_to_date(
    store: Store, retention: Retention = KEEP_ALL, *, may_miss_runs: bool = False
) -> int:
    """Number of runs in the store after everything new was taken in.

    Raises:
        StoreError: A run cannot be taken in, and none may be missing; all others were taken in.
    """
    try:
        Ingester(store, retention).poll()
    except StoreError as error:
        if not may_miss_runs:
            raise
        LOG.warning("%s", error)
    load_journal(store)
    return int(store.rows("SELECT count(*) FROM runs")[0][0])


def snapshot(store: Store, target: Path) -> None:
    """Writes a copy of the whole database as it is at one moment; the store stays in use.

    Raises:
        StoreError: ``target`` exists already or cannot be written.
    """
    require_new(target)
    unfinished = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    with store.read() as connection:
        name = connection.execute("SELECT current_database()").fetchall()[0][0]
        try:
            connection.execute(f"ATTACH {literal(str(unfinished))} AS copy_of_store")
            try:
                connection.execute(f'COPY FROM DATABASE "{name}" TO copy_of_store')
            finally:
                connection.execute("DETACH copy_of_store")
            unfinished.replace(target)
        except duckdb.IOException as error:
            told = str(error).splitlines()[0]
            raise StoreError(f"cannot write the snapshot {str(target)!r}: {told}") from None
        finally:
            _remove(unfinished)


def require_new(target: Path) -> None:
    """Refuses to write over a file, or into a folder that is not there.

    Raises:
        StoreError: ``target`` exists already, or its folder does not.
    """
    if not target.parent.is_dir():
        raise StoreError(
            f"no folder {str(target.parent)!r} for the snapshot; make it or name another file"
        )
    if target.exists():
        raise StoreError(f"{str(target)!r} exists already; choose another name for the snapshot")


def fingerprint(store: Store) -> dict[str, tuple[int, int]]:
    """For each table its number of rows and a sum over the hashes of its rows, in any order."""
    names = store.rows(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'main' ORDER BY 1"
    )
    return {
        name: store.rows(f"SELECT count(*), coalesce(sum(hash(t)::HUGEINT), 0) FROM {name} AS t")[0]  # noqa: S608 - names from the catalogue
        for (name,) in names
    }  # fmt: skip


def _require_unlocked(root: Path, path: Path) -> None:
    """Raises StoreLockedError if another process uses the file; other damage is no obstacle."""
    if not path.exists():
        return
    try:
        open_store(root, path).close()
    except StoreLockedError:
        raise
    except StoreError:
        return


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    _log_of(path).unlink(missing_ok=True)


def _log_of(path: Path) -> Path:
    return path.with_name(path.name + ".wal")
