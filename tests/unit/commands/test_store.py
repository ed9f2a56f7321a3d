import json
from pathlib import Path

import pytest

from acft.__main__ import main
from acft.events import Started
from acft.schema import EVENTS
from acft.store.connection import StoreLockedError, open_store
from tests.store.directories import RUN, Directory


@pytest.fixture
def folder(tmp_path):
    run = Directory(tmp_path)
    run.say(Started(pid=1))
    run.seal_round(1, 0.1, 0.9)
    return tmp_path


def test_rebuild_makes_the_database(folder, capsys):
    assert main(["store", "rebuild", "--runs", str(folder)]) == 0
    assert "1 runs made again" in capsys.readouterr().out
    store = open_store(folder)
    assert store.rows("SELECT count(*) FROM rollouts") == [(2,)]
    store.close()


def test_snapshot_brings_the_copy_up_to_date(folder, capsys):
    target = folder / "copy.duckdb"
    assert main(["store", "snapshot", str(target), "--runs", str(folder)]) == 0
    store = open_store(folder, target)
    assert store.rows("SELECT run_id FROM runs") == [(RUN,)]
    store.close()
    assert main(["store", "snapshot", str(target), "--runs", str(folder)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_snapshot_of_a_database_in_use_is_made_from_the_run_directories(
    folder, capsys, monkeypatch
):
    def refuse(*_):
        raise StoreLockedError("in use by process 7")

    monkeypatch.setattr("acft.store.connection.open_store", refuse)
    target = folder / "copy.duckdb"
    assert main(["store", "snapshot", str(target), "--runs", str(folder)]) == 0
    assert "from the run directories instead" in capsys.readouterr().out
    monkeypatch.undo()
    store = open_store(folder, target)
    assert store.rows("SELECT count(*) FROM rollouts") == [(2,)]
    store.close()


def test_texts_in_an_answer_do_not_steer_a_terminal(folder, capsys, monkeypatch):
    sql = "SELECT chr(27) || ']52;c;x' AS steers, 1 AS number"
    asked = ["store", "query", sql, "--runs", str(folder)]
    assert main(asked) == 0
    assert capsys.readouterr().out == "steers\tnumber\n\x1b]52;c;x\t1\n".replace("\n", "\r\n")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(asked) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_query_prints_a_table_or_json(folder, capsys):
    sql = "SELECT rollout_id, satisfaction FROM rollouts ORDER BY 1"
    assert main(["store", "query", sql, "--runs", str(folder), "--run", RUN]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "rollout_id\tsatisfaction",
        "r1-0\t0.1",
        "r1-1\t0.9",
    ]
    assert main(["store", "query", sql, "--runs", str(folder), "--json", "--limit", "1"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["rows"], result["is_cut"]) == ([["r1-0", 0.1]], True)


def test_a_run_that_is_not_there_is_named_and_not_counted_as_empty(folder, capsys):
    sql = "SELECT count(*) FROM rollouts"
    assert main(["store", "query", sql, "--runs", str(folder), "--run", RUN[:-1]]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert f"did you mean '{RUN}'" in told.err


def test_a_snapshot_into_a_folder_that_is_not_there_is_refused_with_its_name(folder, capsys):
    target = folder / "nowhere" / "copy.duckdb"
    assert main(["store", "snapshot", str(target), "--runs", str(folder)]) == 2
    assert f"no folder {str(target.parent)!r}" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder that takes no files")
def test_a_snapshot_that_cannot_be_written_is_a_sentence(folder, capsys):
    target = Path("/proc/copy.duckdb")
    assert main(["store", "snapshot", str(target), "--runs", str(folder)]) == 2
    assert f"cannot write the snapshot {str(target)!r}" in capsys.readouterr().err


def test_a_cut_answer_is_told_beside_the_rows(folder, capsys):
    sql = "SELECT 1 FROM rollouts"
    assert main(["store", "query", sql, "--runs", str(folder), "--limit", "1"]) == 0
    assert "only the first 1 rows" in capsys.readouterr().err


def test_a_refused_query_is_a_sentence_and_a_user_error(folder, capsys):
    assert main(["store", "query", "DROP TABLE runs", "--runs", str(folder)]) == 2
    assert capsys.readouterr().err.startswith("error: DROP is refused")


def test_a_query_that_takes_too_long_is_told_the_options_that_help(folder, capsys):
    sql = "SELECT count(*) FROM range(1000000000000)"
    assert main(["store", "query", sql, "--runs", str(folder), "--seconds", "0.2"]) == 2
    said = capsys.readouterr().err
    assert "select less, name the run (--run), or allow more (--seconds)" in said


@pytest.mark.parametrize(
    ("option", "value"),
    [("--limit", n) for n in ("-5", "0", "all")]
    + [("--seconds", n) for n in ("nan", "inf", "1e12", "0", "-1", "soon")],
)
def test_what_no_query_can_be_capped_by_is_refused(folder, option, value, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["store", "query", "SELECT 1", "--runs", str(folder), f"{option}={value}"])
    assert ended.value.code == 2
    assert f"{value!r} is not a number of" in capsys.readouterr().err


@pytest.mark.parametrize(
    "action", [["rebuild"], ["snapshot", "copy.duckdb"], ["query", "SELECT * FROM runs"]]
)
def test_a_run_that_cannot_be_read_is_named(folder, action, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    (folder / RUN / EVENTS).unlink()
    (folder / RUN / EVENTS).mkdir()
    assert main(["store", *action, "--runs", "."]) == 2
    assert f"run {RUN} cannot be taken in: [Errno 22] it is no file" in capsys.readouterr().err
    assert not (folder / "copy.duckdb").exists()


@pytest.mark.parametrize("action", [["rebuild"], ["snapshot", "x"], ["query", "SELECT 1"]])
def test_a_missing_runs_directory_is_named(tmp_path, action, capsys):
    assert main(["store", *action, "--runs", str(tmp_path / "nowhere")]) == 2
    assert "no runs directory" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


def test_help_of_the_query_shows_what_to_ask(capsys):
    with pytest.raises(SystemExit):
        main(["store", "query", "--help"])
    assert "SHOW TABLES" in capsys.readouterr().out
