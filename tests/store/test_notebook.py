import subprocess
import sys

import pandas as pd
import pytest

import acft
from acft.errors import DataError
from acft.events import Evaluated, RoundFinished, Scalars, Started
from acft.store.ingest import Ingester
from tests.store.directories import RUN, Directory

LOOK = """
import sys, acft
runs = acft.open_runs(sys.argv[1])
print(len(runs.rollouts), len(runs.metrics), len(runs.runs), len(runs.guidance))
print([name for name in ("duckdb", "torch", "gradio") if name in sys.modules])
"""
OTHER = "20261122-130000-bbbb"


@pytest.fixture
def resumed(run):
    run.say(Started(pid=1), Scalars(1, 1, {"a": 1.0}))
    run.seal_round(1, 0.1, 0.9)
    run.say(RoundFinished(1, "checkpoints/round-1", 1, 1), Scalars(2, 2, {"a": 2.0}))
    run.seal_round(2, 0.3)
    run.say(Started(pid=2, resumed_from_round=1), Scalars(2, 2, {"a": 3.0}))
    run.seal_round(2, 0.4, 0.5)
    run.say(Evaluated("toxicity", "share", "policy", 0.5, 10, 0.1, 0.4, 0.6, 1))
    run.labels("tag")
    return run


def test_tables_hold_what_counts(resumed, tmp_path):
    runs = acft.open_runs(tmp_path)
    assert runs.ids == [RUN]
    assert runs.runs.loc[0, "title"] == "A run"
    assert runs.metrics["value"].tolist() == [1.0, 3.0]
    assert runs.rollouts["satisfaction"].tolist() == [0.1, 0.9, 0.4, 0.5]
    assert runs.scores["run_id"].unique().tolist() == [RUN]
    assert runs.guidance["alternatives"].str.len().min() > 0
    assert runs.evaluations["high"].tolist() == [0.6]
    assert RUN in repr(runs)


def in_order(table):
    return table.astype(str).sort_values(list(table.columns), ignore_index=True)


@pytest.mark.parametrize("table", ["rollouts", "scores", "metrics", "evaluations", "guidance"])
def test_tables_are_those_of_the_store(resumed, store, tmp_path, table):
    Ingester(store).poll()
    mine = getattr(acft.open_runs(tmp_path), table)
    columns = [name for name in mine.columns if name not in ("alternatives", "response_ids")]
    theirs = store.frame(f"SELECT {', '.join(columns)} FROM {table}")
    pd.testing.assert_frame_equal(in_order(mine[columns]), in_order(theirs))


def test_neither_the_database_nor_its_library_is_touched(resumed, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "4 2 1 8\n[]\n"
    assert not (tmp_path / "store.duckdb").exists()


def test_one_run_directory_can_be_opened_alone(resumed, tmp_path):
    Directory(tmp_path, OTHER)
    assert acft.open_runs(resumed.paths.root).ids == [RUN]
    assert acft.open_runs(str(tmp_path)).ids == [RUN, OTHER]
    assert acft.open_runs(tmp_path, only=[OTHER]).ids == [OTHER]
    assert acft.open_runs(tmp_path, only=OTHER).ids == [OTHER]


def test_the_run_one_stands_in_has_its_name(resumed, monkeypatch):
    monkeypatch.chdir(resumed.paths.root)
    assert acft.open_runs(".").ids == [RUN]


def test_a_run_that_was_killed_is_not_said_to_be_running(resumed, tmp_path):
    resumed.status(state="running", pid=1, boot_id="another", heartbeat=1.0)
    assert acft.open_runs(tmp_path).runs.loc[0, "state"] == "lost"


def test_runs_that_are_not_there_are_named(resumed, tmp_path):
    with pytest.raises(DataError, match="no run 'x'"):
        acft.open_runs(tmp_path, only=["x"])
    with pytest.raises(DataError, match="no runs in"):
        acft.open_runs(tmp_path / "nowhere")


def test_a_run_without_rows_gives_empty_tables_with_columns(run, tmp_path):
    runs = acft.open_runs(tmp_path)
    for table in (runs.rollouts, runs.scores, runs.guidance, runs.metrics, runs.evaluations):
        assert len(table) == 0
        assert "run_id" in table.columns


def test_a_damaged_shard_is_an_error_not_a_gap(resumed, tmp_path):
    path = next(resumed.paths.shards.glob("rollouts-*"))
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(DataError, match=path.name):
        _ = acft.open_runs(tmp_path).rollouts


def test_the_package_has_no_other_lazy_names():
    with pytest.raises(AttributeError, match="open_them'"):
        _ = acft.open_them  # pyright: ignore[reportAttributeAccessIssue]
