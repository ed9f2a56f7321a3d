import gc
import subprocess
import sys
import threading
import time
from dataclasses import fields

import duckdb
import pytest

from acft.errors import AcftError
from acft.events import Evaluated, Note, Scalars, Started
from acft.schema import TABLES
from acft.store import connection
from acft.store.connection import (
    FILE,
    STORAGE_VERSION,
    StoreError,
    StoreLockedError,
    migrate,
    migrations,
    open_memory_store,
    open_store,
)
from acft.store.ingest import ALL_TABLES, Ingester
from acft.store.rebuild import fingerprint, rebuild
from acft.store.shards import READ_FROM_SHARD
from tests.store.directories import RUN, Directory

HOLD = """
import sys
from pathlib import Path
from acft.store.connection import open_store
store = open_store(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""


def columns(store, table):
    return {row[0]: row[1] for row in store.rows(f"DESCRIBE {table}")}


def test_a_new_database_has_every_table_and_column_of_the_contract(store):
    for name, schema in TABLES.items():
        missing = set(schema.names) - set(columns(store, name))
        assert missing == READ_FROM_SHARD.get(name, set())
    assert {field.name for field in fields(Evaluated)} <= set(columns(store, "evaluations"))
    for name in ALL_TABLES:
        assert "run_id" in columns(store, name)


def test_migrations_are_numbered_from_one_without_gaps():
    assert [number for number, _, _ in migrations()] == list(range(1, len(migrations()) + 1))


@pytest.mark.parametrize("version", range(len(migrations()) + 1))
def test_a_database_of_every_older_schema_is_brought_up_to_date(tmp_path, monkeypatch, version):
    every = migrations()
    monkeypatch.setattr(connection, "migrations", lambda: every[:version])
    open_store(tmp_path).close()
    monkeypatch.undo()
    store = open_store(tmp_path)
    names = [name for (name,) in store.rows("SELECT name FROM schema_migrations ORDER BY version")]
    fresh = open_memory_store(tmp_path)
    assert names == [name for _, name, _ in every]
    assert {t: columns(store, t) for t in ALL_TABLES} == {t: columns(fresh, t) for t in ALL_TABLES}
    store.close()


@pytest.mark.parametrize("version", range(1, len(migrations()) + 1))
def test_the_rows_of_a_database_of_every_older_schema_are_those_of_a_new_one(
    tmp_path, monkeypatch, version
):
    for name in (RUN, RUN + "b"):
        run = Directory(tmp_path, name)
        run.say(Started(pid=1), Scalars(1, 2, {"policy/ce": 0.5}), Note("info", name))
        run.seal_round(1, 0.25, 0.75)
    every = migrations()
    rebuild(tmp_path, tmp_path / "new.duckdb")
    monkeypatch.setattr(connection, "migrations", lambda: every[:version])
    older = open_store(tmp_path)
    older.rows(f"ATTACH '{tmp_path / 'new.duckdb'}' AS new")
    for table in ALL_TABLES:
        known = ", ".join(columns(older, table))
        older.rows(f"INSERT INTO {table} BY NAME SELECT {known} FROM new.{table}")
    older.close()
    monkeypatch.undo()
    brought_up, new = open_store(tmp_path), open_store(tmp_path, tmp_path / "new.duckdb")
    assert fingerprint(brought_up) == fingerprint(new)
    assert Ingester(brought_up).poll() == 0
    brought_up.close()
    new.close()


def test_migrations_are_applied_once():
    database = duckdb.connect()
    assert migrate(database) == len(migrations())
    assert migrate(database) == 0


def test_a_failing_migration_leaves_the_version_before(tmp_path, monkeypatch):
    every = migrations()
    broken = [*every, (len(every) + 1, "9999_broken.sql", "CREATE TABLE a (b INTEGER); SELECT x")]
    monkeypatch.setattr(connection, "migrations", lambda: broken)
    with pytest.raises(StoreError, match="acft store rebuild"):
        open_store(tmp_path)
    monkeypatch.undo()
    store = open_store(tmp_path)
    assert store.rows("SELECT count(*) FROM schema_migrations") == [(len(every),)]
    store.close()


def test_a_database_of_a_newer_version_is_refused_with_what_to_do(tmp_path):
    store = open_store(tmp_path)
    with store.write() as cursor:
        cursor.execute("INSERT INTO schema_migrations VALUES (999, '0999_future.sql')")
    store.close()
    with pytest.raises(StoreError, match=r"schema version 999, newer .* acft store rebuild"):
        open_store(tmp_path)


def test_a_damaged_file_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "store.duckdb").write_bytes(b"this is no database" * 1000)
    with pytest.raises(StoreError, match="nothing is lost, make it again") as caught:
        open_store(tmp_path)
    assert not isinstance(caught.value, StoreLockedError)


def test_the_file_can_be_opened_by_the_oldest_version_allowed(tmp_path):
    store = open_store(tmp_path)
    [(tags,)] = store.rows("SELECT tags FROM duckdb_databases() WHERE path IS NOT NULL")
    assert tags["storage_version"].startswith(STORAGE_VERSION)
    store.close()


def test_a_second_process_is_told_who_holds_the_database_and_what_to_do(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        for use in (open_store, rebuild):
            with pytest.raises(StoreLockedError) as caught:
                use(tmp_path)
            message = str(caught.value)
            assert f"process {holder.pid}" in message
            assert "open that workbench" in message
            assert "acft.open_runs" in message
            assert "end that process" in message
            assert isinstance(caught.value, AcftError)
    finally:
        holder.communicate()
    open_store(tmp_path).close()


def test_an_error_while_writing_undoes_everything(store):
    def write_and_fail():
        with store.write() as cursor:
            cursor.execute("INSERT INTO votes VALUES ('a', 1, 'b', 'c', 'd')")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    assert store.rows("SELECT count(*) FROM votes") == [(0,)]
    with store.write() as cursor:
        cursor.execute("INSERT INTO votes VALUES ('a', 1, 'b', 'c', 'd')")
    assert store.rows("SELECT count(*) FROM votes") == [(1,)]


def test_readers_see_the_state_before_an_unfinished_write_and_do_not_wait(store):
    with store.write() as cursor:
        cursor.execute("INSERT INTO votes VALUES ('a', 1, 'b', 'c', 'd')")
        assert store.rows("SELECT count(*) FROM votes") == [(0,)]


def test_many_threads_read_while_one_writes(tmp_path):
    store = open_store(tmp_path)
    run = Directory(tmp_path)
    ingester = Ingester(store)
    ingester.start()
    seen: list[list[int]] = [[] for _ in range(4)]

    def look(counts):
        while not counts or counts[-1] < 20:
            counts.append(store.rows("SELECT count(*) FROM rollouts")[0][0])

    readers = [threading.Thread(target=look, args=(counts,)) for counts in seen]
    for reader in readers:
        reader.start()
    for index in range(1, 11):
        run.seal_round(index, 0.1, 0.2)
    end = time.monotonic() + 60
    for reader in readers:
        reader.join(max(0.0, end - time.monotonic()))
    assert all(counts == sorted(counts) and counts[-1] == 20 for counts in seen)
    ingester.stop()
    store.close()


def test_a_store_goes_on_as_another_and_reads_under_way_end_where_they_began(tmp_path):
    store, file = open_memory_store(tmp_path), open_store(tmp_path)
    with store.write() as connection:
        connection.execute("INSERT INTO schema_migrations VALUES (99, 'in memory')")
    with store.read() as cursor:
        cursor.execute("SELECT name FROM schema_migrations ORDER BY version DESC")
        store.become(file)
        gc.collect()
        assert cursor.fetchone() == ("in memory",)
        assert cursor.execute("SELECT max(version) FROM schema_migrations").fetchone() == (99,)
    with store.write() as connection:
        connection.execute("INSERT INTO schema_migrations VALUES (98, 'in the file')")
    assert not store.is_in_memory
    store.close()
    with duckdb.connect(str(tmp_path / FILE)) as left:
        rows = left.execute("SELECT name FROM schema_migrations WHERE version > 90").fetchall()
    assert rows == [("in the file",)]
