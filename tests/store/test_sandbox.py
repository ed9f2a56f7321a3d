import json
import os

import duckdb
import pytest

from acft.events import Scalars, Started
from acft.store import sandbox
from acft.store.connection import StoreError, open_memory_store, open_store
from acft.store.ingest import Ingester
from acft.store.sandbox import CapError, Caps, QueryError, check_statement, load, lock, run_query
from tests.store.directories import RUN, Directory

SECRET = "the secret that no query may show"
FILE_ATTACKS = [
    "SELECT * FROM read_text('{secret}')",
    "SELECT * FROM read_blob('{secret}')",
    "SELECT * FROM read_csv('{secret}', header = false)",
    "SELECT * FROM read_json('{secret}')",
    "SELECT * FROM sniff_csv('{secret}')",
    "SELECT * FROM '{secret}'",
    "SELECT * FROM read_csv_auto(['{secret}'])",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM parquet_metadata('{shard}')",
    "SELECT * FROM read_parquet('{shard}')",
    "SELECT * FROM '{shard}'",
    "SELECT * FROM read_duckdb('{database}')",
    "SELECT * FROM read_csv('http://127.0.0.1:9/x.csv')",
    "SELECT * FROM query('FROM read_text(''{secret}'')')",
    "WITH a AS (FROM read_text('{secret}')) SELECT * FROM a",
    "SELECT (SELECT content FROM read_text('{secret}'))",
    "EXPLAIN ANALYZE SELECT * FROM read_text('{secret}')",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM duckdb_extensions()",
    "COPY runs TO '{new}'",
    "COPY (SELECT 1) TO '{new}' (FORMAT parquet)",
    "EXPLAIN ANALYZE COPY runs TO '{new}'",
    "EXPORT DATABASE '{new}'",
    "IMPORT DATABASE '{folder}'",
    "ATTACH '{new}' AS other",
    "ATTACH '{database}' AS other (READ_ONLY)",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{new}'",
    "UPDATE EXTENSIONS",
    "CREATE PERSISTENT SECRET s (TYPE http, BEARER_TOKEN 'a')",
]
SETTING_ATTACKS = [
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "SET memory_limit = '100GB'",
    "SET threads = 64",
    "SET max_execution_time = 0",
    "SET temp_directory = '{folder}'",
    "SET allowed_directories = ['/']",
    "SET python_enable_replacements = true",
    "RESET memory_limit",
    "RESET enable_external_access",
    "PRAGMA threads = 64",
    "PRAGMA enable_profiling = 'json'",
    "PRAGMA profiling_output = '{new}'",
    "CALL enable_logging(storage = 'file', storage_path = '{new}')",
    "SELECT * FROM enable_logging(storage = 'file', storage_path = '{new}')",
    "SELECT * FROM enable_profiling(save_location = '{new}')",
]
STATEMENTS = [
    "DROP TABLE runs",
    "DELETE FROM runs",
    "INSERT INTO runs FROM runs",
    "UPDATE runs SET title = 'x'",
    "CREATE TABLE a AS SELECT 1",
    "CREATE VIEW a AS SELECT 1",
    "CREATE MACRO f(x) AS x",
    "BEGIN",
    "CHECKPOINT",
    "VACUUM",
    "PREPARE p AS SELECT 1",
    "CALL pragma_version()",
    "USE memory",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE runs",
    "",
    "-- nothing",
]


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "runs"
    run = Directory(root)
    run.say(Started(pid=1), Scalars(1, 1, {"a": 1.0}))
    run.seal_round(1, 0.1, 0.9)
    open_store(root).close()
    (tmp_path / "secret.txt").write_text(SECRET)
    return root


@pytest.fixture
def places(folder, tmp_path):
    return {
        "secret": tmp_path / "secret.txt",
        "folder": tmp_path,
        "shard": next((folder / RUN / "shards").glob("rollouts-*")),
        "database": folder / "store.duckdb",
        "new": tmp_path / "new",
    }


@pytest.fixture
def locked(folder):
    """A loaded and locked database, without the wall that lets only SELECT through."""
    store = open_memory_store(folder)
    load(store, ["rollouts", "scores", "guidance", "alternatives"])
    with store.read() as connection:
        lock(connection, Caps())
        yield connection


def everything_below(folder):
    return sorted(str(path) for path in folder.rglob("*"))


@pytest.mark.parametrize("attack", [*FILE_ATTACKS, *SETTING_ATTACKS])
def test_the_lock_alone_refuses_files_and_settings(locked, places, tmp_path, attack):
    before = everything_below(tmp_path)
    with pytest.raises(duckdb.Error) as caught:
        locked.execute(attack.format(**places)).fetchall()
    assert SECRET not in str(caught.value)
    assert everything_below(tmp_path) == before


@pytest.mark.parametrize("statement", STATEMENTS)
def test_only_one_select_or_explain_is_let_through(statement):
    with pytest.raises(QueryError):
        check_statement(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "EXPLAIN ANALYZE DROP TABLE runs", "explain (format json) DELETE FROM runs",
        "EXPLAIN ANALYZE (FORMAT json) INSERT INTO runs SELECT * FROM runs",
        "EXPLAIN EXPLAIN ANALYZE DROP TABLE runs", "/* a */ EXPLAIN ANALYZE DROP TABLE runs",
        "EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1", "EXPLAIN (ANALYZE) DROP TABLE runs",
        "EXPLAIN (FORMAT json /* ) SELECT 1 -- */ ) DROP TABLE runs",
        "EXPLAIN (FORMAT json, ANALYZE --) SELECT 1 --\n) DROP TABLE runs",
        "EXPLAIN (FORMAT 'json) SELECT 1 --') DROP TABLE runs",
        "EXPLAIN /* ) */ ANALYZE DROP TABLE runs",
        "EXPLAIN ANALYZE WITH t AS (SELECT 1) DELETE FROM runs",
    ],
)  # fmt: skip
def test_only_a_select_is_explained(statement):
    with pytest.raises(QueryError):
        check_statement(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "EXPLAIN SELECT 1", " explain analyze (format json) SELECT 1", "EXPLAIN (SELECT 1)",
        "EXPLAIN(ANALYZE, FORMAT json) SELECT 1", "EXPLAIN -- why\nSELECT 1",
        "EXPLAIN ANALYZE(SELECT 1)",
    ],
)  # fmt: skip
def test_a_select_is_explained(statement):
    check_statement(statement)


@pytest.mark.parametrize("attack", SETTING_ATTACKS[:-2])
def test_changes_of_settings_are_refused_before_anything_runs(attack):
    with pytest.raises(QueryError, match=r"refused here; only SELECT and EXPLAIN are answered"):
        check_statement(attack)


@pytest.mark.parametrize(
    "attack",
    [
        "SELECT * FROM read_text('{secret}')",
        "COPY runs TO '{new}'",
        "ATTACH '{database}' AS other",
        "INSTALL httpfs",
        "PRAGMA threads = 64",
    ],
)
def test_attacks_through_the_whole_way_are_sentences(folder, places, tmp_path, attack):
    before = everything_below(tmp_path)
    with pytest.raises(QueryError) as caught:
        run_query(folder, attack.format(**places))
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert everything_below(tmp_path) == before


def test_a_query_sees_the_tables_of_the_store(folder):
    result = run_query(
        folder,
        "SELECT runs.title, count(*) AS n, avg(value) AS mean "
        "FROM runs JOIN rollouts USING (run_id) JOIN scores USING (run_id, rollout_id) GROUP BY 1",
    )
    assert result.columns == ["title", "n", "mean"]
    assert result.rows == [["A run", 2, pytest.approx(0.5)]]
    assert not result.is_cut


def test_alternatives_can_be_asked_for(folder):
    sql = "SELECT text FROM (SELECT alternatives AS text FROM alternatives JOIN guidance "
    sql += "USING (run_id, shard_seq, sequence_id, step, position)) LIMIT 1"
    assert json.loads(run_query(folder, sql).rows[0][0]) == [{"id": 7, "text": " blue"}]
    assert run_query(folder, "SELECT count(*) FROM alternatives").rows == [[4]]


def test_only_the_named_runs_are_loaded(folder):
    Directory(folder, "20261122-130000-bbbb").seal_round(1, 0.5)
    sql = "SELECT run_id, count(*) FROM rollouts GROUP BY 1"
    assert run_query(folder, sql, [RUN]).rows == [[RUN, 2]]
    assert len(run_query(folder, sql).rows) == 2


def test_a_folder_without_guidance_answers_with_no_alternatives(tmp_path):
    Directory(tmp_path)
    assert run_query(tmp_path, "SELECT count(*) FROM alternatives").rows == [[0]]


def test_a_database_in_use_does_not_matter(folder):
    store = open_store(folder)
    assert run_query(folder, "SELECT count(*) FROM runs").rows == [[1]]
    store.close()


def test_explain_is_answered(folder):
    assert "rollouts" in str(run_query(folder, "EXPLAIN SELECT * FROM rollouts").rows)


def test_a_wrong_query_says_what_is_wrong(folder):
    with pytest.raises(QueryError, match="satisfacton"):
        run_query(folder, "SELECT satisfacton FROM rollouts")
    with pytest.raises(QueryError, match=r'not found .*; did you mean "response_text"'):
        run_query(folder, "SELECT response_txt FROM rollouts")
    with pytest.raises(QueryError, match=r'does not exist; did you mean "rollouts"\?'):
        run_query(folder, "SELECT * FROM rolouts")
    with pytest.raises(QueryError, match="syntax error"):
        run_query(folder, "SELEC 1")


def test_rows_are_capped_and_the_cut_is_told(folder):
    result = run_query(folder, "SELECT i FROM range(100) t(i)", caps=Caps(rows=10))
    assert (len(result.rows), result.is_cut) == (10, True)
    result = run_query(folder, "SELECT i FROM range(10) t(i)", caps=Caps(rows=10))
    assert (len(result.rows), result.is_cut) == (10, False)


def test_cells_and_the_whole_answer_are_capped(folder, monkeypatch):
    result = run_query(folder, "SELECT repeat('x', 5000)", caps=Caps(cell_characters=10))
    assert result.rows == [["x" * 10 + "…"]]
    monkeypatch.setattr(sandbox, "RESULT_CHARACTERS", 100)
    connection = duckdb.connect()
    answer = sandbox._run(connection, "SELECT repeat('x', 60) FROM range(9)", Caps())
    assert (len(answer["rows"]), answer["is_cut"]) == (2, True)
    numbers = f"SELECT {2**126}, {2**126} FROM range(9)"
    answer = sandbox._run(connection, numbers, Caps())
    assert answer["is_cut"]


def test_time_is_capped(folder):
    with pytest.raises(CapError, match=r"longer than the 0.2 seconds it may; select less$"):
        run_query(folder, "SELECT count(*) FROM range(1000000000000)", caps=Caps(seconds=0.2))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT levenshtein(repeat('a', 300000), repeat('b', 300000))",
        "SELECT sleep_ms(60000)",
    ],
)
def test_time_is_capped_where_the_database_does_not_look_at_the_clock(folder, sql, monkeypatch):
    monkeypatch.setattr(sandbox, "LOAD_SECONDS", 20.0)
    with pytest.raises(CapError, match=r"longer than the 0.2 seconds it may; select less$"):
        run_query(folder, sql, caps=Caps(seconds=0.2))


def test_a_query_too_long_to_parse_is_refused_before_anything_runs(folder, monkeypatch):
    monkeypatch.setattr(sandbox.subprocess, "run", None)
    with pytest.raises(QueryError, match="at most 100,000 are read"):
        run_query(folder, "SELECT " + "(" * 100_000)


def test_the_ledger_of_shards_is_that_of_the_store(folder):
    sql = "SELECT name, state, rows FROM shards ORDER BY name"
    store = open_memory_store(folder)
    Ingester(store).poll()
    expected = [list(row) for row in store.rows(sql)]
    store.close()
    assert len(expected) == 3
    assert run_query(folder, sql).rows == expected


def test_a_query_that_hides_its_tables_sees_them_filled(folder):
    sql = "json_serialize_sql('SELECT count(*) FROM roll' || 'outs')"
    assert run_query(folder, f"FROM json_execute_serialized_sql({sql})").rows == [[2]]


@pytest.mark.parametrize(
    "sql", ["SELECT list(i) FROM range(1000000000) t(i)", "SELECT repeat('x', 4000000000)"]
)
def test_memory_is_capped(folder, sql):
    with pytest.raises(CapError, match=r"memory.*select less$"):
        run_query(folder, sql, caps=Caps(seconds=60.0, memory_mib=200))


def test_memory_that_a_run_lacked_while_it_was_read_is_called_so():
    error = StoreError("run x cannot be taken in: Out of Memory Error")
    error.__cause__ = duckdb.OutOfMemoryException("Out of Memory Error")
    assert sandbox._is_over(error)
    assert sandbox._told(error) == sandbox.TOO_MUCH_MEMORY


def test_a_process_that_hangs_is_ended(folder, monkeypatch):
    monkeypatch.setattr(sandbox, "START_SECONDS", 0.0)
    monkeypatch.setattr(sandbox, "LOAD_SECONDS", 0.0)
    with pytest.raises(CapError, match="ended after"):
        run_query(folder, "SELECT 1", caps=Caps(seconds=0.01))


def test_a_process_that_dies_is_a_sentence(folder, monkeypatch):
    monkeypatch.setattr(sandbox.sys, "executable", "/bin/true")
    with pytest.raises(QueryError, match="ended with code 0 before it answered"):
        run_query(folder, "SELECT 1")


def test_the_process_gets_no_secrets_of_the_environment(folder, monkeypatch):
    seen = {}

    def look(command, **options):
        seen.update(options["env"])
        raise sandbox.subprocess.TimeoutExpired(command, 1)

    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setattr(sandbox.subprocess, "run", look)
    with pytest.raises(QueryError):
        run_query(folder, "SELECT 1")
    assert set(seen) <= {*sandbox.INHERITED, "HOME", "PYTHONPATH"}
    assert seen["HOME"] != os.environ.get("HOME")


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        ("SELECT NULL", None),
        ("SELECT true", True),
        ("SELECT 'nan'::DOUBLE", "nan"),
        ("SELECT [1, 2]", "[1, 2]"),
        ("SELECT {'a': 'ü'}", '{"a": "ü"}'),
        ("SELECT MAP {DATE '2026-11-22': [1]}", '{"2026-11-22": [1]}'),
        ("SELECT DATE '2026-11-22'", "2026-11-22"),
        ("SELECT 1.5::DECIMAL(3, 1)", "1.5"),
        ("SELECT 0.25::DOUBLE", 0.25),
    ],
)
def test_every_kind_of_value_becomes_plain(sql, value):
    assert sandbox._run(duckdb.connect(), sql, Caps())["rows"] == [[value]]
