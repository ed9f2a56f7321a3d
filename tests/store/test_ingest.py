import json
import logging
import os
import threading
import time

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from acft.atomic import replace_json
from acft.eventlog import effective, read_events
from acft.events import (
    Evaluated,
    Finished,
    Note,
    Progress,
    RoundFinished,
    Scalars,
    ShardSealed,
    Started,
)
from acft.store import ingest, shards, tail
from acft.store.connection import StoreError, open_store
from acft.store.ingest import Ingester, Retention
from acft.store.rebuild import fingerprint
from tests.store.directories import START, Directory

PATIENCE_SECONDS = 30.0


def column(store, sql):
    return [value for (value,) in store.rows(sql)]


def finish_round(run, index):
    run.say(RoundFinished(index, f"checkpoints/round-{index}", index, index))


def test_every_table_is_filled(store, ingester, run):
    run.say(Started(pid=1), Scalars(1, 5, {"policy/ce": 2.5, "policy/loss": 3.0}))
    run.seal_round(1, 0.9, 0.2)
    run.say(Evaluated("toxicity", "share", "policy", 0.25, 4, 0.1, 0.05, 0.45, 1))
    assert ingester.poll() == 6
    assert store.rows("SELECT round, step, name, value FROM metrics ORDER BY name") == [
        (1, 5, "policy/ce", 2.5),
        (1, 5, "policy/loss", 3.0),
    ]
    assert store.rows("SELECT rollout_id, satisfaction, response_ids FROM rollouts") == [
        ("r1-0", 0.9, [7]),
        ("r1-1", 0.2, [7]),
    ]
    assert column(store, "SELECT value FROM scores ORDER BY value") == pytest.approx([0.1, 0.8])
    assert store.rows("SELECT sequence_id, n_tokens, n_in_loss, kl_sum FROM sequences") == [
        ("r1-0", 2, 2, 1.0),
        ("r1-1", 2, 2, 1.0),
    ]
    assert store.rows("SELECT suite, value, n, low, high FROM evaluations") == [
        ("toxicity", 0.25, 4, 0.05, 0.45)
    ]
    assert store.rows("SELECT title, method, seed, state FROM runs") == [
        ("A run", "acft", 3, "running")
    ]


def test_ingesting_twice_changes_nothing(store, ingester, run):
    run.say(Started(pid=1), Scalars(1, 5, {"policy/ce": 2.5}))
    run.seal_round(1, 0.9, 0.2)
    ingester.poll()
    before = fingerprint(store)
    assert ingester.poll() == 0
    assert Ingester(store).poll() == 0
    assert fingerprint(store) == before


def test_a_torn_line_is_taken_in_once_it_is_whole(store, ingester, run):
    run.say(Started(pid=1))
    run.append('{"seq": 2, "time": 1.0, "kind": "no')
    assert ingester.poll() == 1
    run.append('te", "level": "info", "text": "x"}\n')
    assert ingester.poll() == 1
    assert column(store, "SELECT kind FROM events ORDER BY seq") == ["started", "note"]


def test_a_shard_that_no_event_names_is_not_seen(store, ingester, run):
    table = run.table("rollouts", {"rollout_id": "a"})
    pq.write_table(table, run.paths.shards / "rollouts-000001.parquet")
    (run.paths.shards / ".tmp-rollouts").write_bytes(b"PAR1")
    run.say(Started(pid=1))
    ingester.poll()
    assert column(store, "SELECT count(*) FROM rollouts") == [0]


def refusal(store):
    assert column(store, "SELECT count(*) FROM rollouts") == [0]
    [(state, problem)] = store.rows("SELECT state, problem FROM shards")
    assert state == "refused"
    return problem


def test_a_shard_with_another_hash_is_refused_and_says_so(store, ingester, run, caplog):
    path = run.seal("rollouts", {"rollout_id": "a"})
    path.write_bytes(path.read_bytes()[:-10])
    with caplog.at_level(logging.WARNING):
        ingester.poll()
    assert "its event says" in refusal(store)
    assert path.name in caplog.text


def test_a_missing_shard_is_refused(store, ingester, run):
    run.seal("rollouts", {"rollout_id": "a"}).unlink()
    ingester.poll()
    assert "cannot be read" in refusal(store)


@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_a_shard_that_is_no_file_of_the_run_is_refused(store, ingester, run, tmp_path, kind):
    path = run.seal("rollouts", {"rollout_id": "a"})
    path.rename(tmp_path / "elsewhere.parquet")
    os.mkfifo(path) if kind == "pipe" else path.symlink_to(tmp_path / "elsewhere.parquet")
    ingester.poll()
    assert "cannot be read" in refusal(store)


def test_a_shard_that_is_no_parquet_file_is_refused(store, ingester, run):
    (run.paths.shards / "rollouts-000001.parquet").write_bytes(b"not parquet at all")
    digest = "99e06a5e33e5ff2b0fcf1a6d9ef5a6b4"
    run.say(ShardSealed("rollouts", "rollouts-000001.parquet", 1, digest, 1))
    ingester.poll()
    assert refusal(store)


def test_a_shard_with_another_number_of_rows_is_refused(store, ingester, run):
    path = run.seal("rollouts", {"rollout_id": "a"})
    text = run.paths.events.read_text().replace('"rows": 1', '"rows": 2')
    run.paths.events.write_text(text)
    ingester.poll()
    assert refusal(store) == "has 1 rows, its event says 2"
    assert path.exists()


def test_a_column_of_another_type_is_refused(store, ingester, run):
    table = run.table("rollouts", {"rollout_id": "a"}).set_column(1, "round", pa.array(["one"]))
    run.seal_table("rollouts", table)
    ingester.poll()
    assert refusal(store) == "column 'round' has type string"


def test_columns_of_newer_versions_are_ignored_and_missing_ones_are_null(store, ingester, run):
    table = run.table("rollouts", {"rollout_id": "a"}).drop_columns(["satisfaction"])
    run.seal_table("rollouts", table.append_column("mood", pa.array(["good"])))
    ingester.poll()
    assert store.rows("SELECT rollout_id, satisfaction FROM rollouts") == [("a", None)]


def test_guidance_of_a_version_that_logged_no_sum_has_none(store, ingester, run):
    rows = run.table("guidance", {"sequence_id": "a", "position": 0}).drop_columns(["kl_logged"])
    run.seal_table("guidance", rows)
    ingester.poll()
    assert store.rows("SELECT kl_sum, kl_logged FROM sequences") == [(0.5, None)]


def test_fields_of_newer_versions_are_ignored(store, ingester, run):
    run.append('{"seq": 1, "time": 1.0, "kind": "note", "level": "info", "text": "x", "new": 1}\n')
    assert ingester.poll() == 1


def test_tables_of_newer_versions_are_ignored(store, ingester, run):
    run.seal_table("dreams", pa.table({"a": [1]}))
    assert ingester.poll() == 1
    assert column(store, "SELECT count(*) FROM shards") == [0]


def test_a_shard_name_cannot_leave_the_folder(store, ingester, run, tmp_path):
    outside = tmp_path / "outside.parquet"
    pq.write_table(run.table("rollouts", {"rollout_id": "a"}), outside)
    digest = shards.hashlib.sha256(outside.read_bytes()).hexdigest()
    run.say(ShardSealed("rollouts", "../../outside.parquet", 1, digest, 1))
    ingester.poll()
    assert "cannot be read" in refusal(store)


def resumed_run(run):
    run.say(Started(pid=1))
    run.seal_round(1, 0.5)
    run.say(Scalars(1, 10, {"a": 1.0}), Evaluated("s", "m", "policy", 1.0, 1))
    finish_round(run, 1)
    run.seal_round(2, 0.6)
    run.say(Scalars(2, 20, {"a": 2.0}), Evaluated("s", "m", "policy", 2.0, 1), Note("info", "x"))
    run.say(Finished("failed"))


def test_what_a_resume_does_again_is_forgotten(store, ingester, run):
    resumed_run(run)
    ingester.poll()
    assert column(store, "SELECT rollout_id FROM rollouts ORDER BY 1") == ["r1-0", "r2-0"]
    run.say(Started(pid=2, resumed_from_round=1))
    run.seal_round(2, 0.7, 0.8)
    run.say(Scalars(2, 20, {"a": 3.0}))
    ingester.poll()
    assert store.rows("SELECT rollout_id, satisfaction FROM rollouts ORDER BY 1") == [
        ("r1-0", 0.5),
        ("r2-0", 0.7),
        ("r2-1", 0.8),
    ]
    assert column(store, "SELECT value FROM metrics ORDER BY 1") == [1.0, 3.0]
    assert column(store, "SELECT value FROM evaluations") == [1.0]
    for table in ("scores", "guidance", "sequences"):
        assert column(store, f"SELECT count(DISTINCT shard_seq) FROM {table}") == [2]


def test_the_events_that_count_are_those_of_the_contract(store, ingester, run):
    resumed_run(run)
    run.say(Started(pid=2, resumed_from_round=1), Note("info", "again"))
    run.say(Started(pid=3, resumed_from_round=0), Note("info", "from the start"))
    run.say(Started(pid=4, resumed_from_round=9), Note("info", "from another run's checkpoint"))
    ingester.poll()
    expected = [entry.seq for entry in effective(read_events(run.paths.events))]
    assert column(store, "SELECT seq FROM events WHERE NOT is_undone ORDER BY seq") == expected


def test_one_pass_and_many_give_the_same_rows(tmp_path):
    (tmp_path / "once").mkdir()
    (tmp_path / "often").mkdir()
    once = Directory(tmp_path / "once")
    resumed_run(once)
    once.say(Started(pid=2, resumed_from_round=1))
    lines = once.paths.events.read_text().splitlines(keepends=True)
    often = Directory(tmp_path / "often")
    often.paths.shards.rmdir()
    often.paths.shards.symlink_to(once.paths.shards)
    stores = [open_store(tmp_path / "once"), open_store(tmp_path / "often")]
    Ingester(stores[0]).poll()
    ingester = Ingester(stores[1])
    for line in lines:
        often.append(line)
        assert ingester.poll() == 1
    assert fingerprint(stores[0]) == fingerprint(stores[1])
    for store in stores:
        store.close()


def test_small_chunks_give_the_same_rows(store, run, monkeypatch):
    resumed_run(run)
    run.say(Started(pid=2, resumed_from_round=1))
    Ingester(store).poll()
    whole = fingerprint(store)
    monkeypatch.setattr(tail, "CHUNK_BYTES", 300)
    with store.write() as connection:
        for table in ingest.ALL_TABLES:
            connection.execute(f"DELETE FROM {table}")
    Ingester(store).poll()
    assert fingerprint(store) == whole


def test_lines_lost_with_the_power_are_forgotten(store, ingester, run):
    run.say(Started(pid=1), Scalars(1, 1, {"a": 1.0}), Scalars(1, 2, {"a": 2.0}))
    ingester.poll()
    kept = run.paths.events.read_text().splitlines(keepends=True)[:2]
    run.paths.events.write_text("".join(kept))
    run.seq = 2
    run.say(Started(pid=2), Scalars(1, 1, {"a": 5.0}))
    ingester.poll()
    assert column(store, "SELECT value FROM metrics WHERE seq > 0 ORDER BY 1") == [5.0]
    assert column(store, "SELECT count(*) FROM runs") == [1]


def test_a_deleted_run_is_forgotten(store, ingester, run, tmp_path):
    other = Directory(tmp_path, "20261122-130000-bbbb")
    run.seal_round(1, 0.5)
    other.seal_round(1, 0.5)
    ingester.poll()
    run.paths.root.rename(tmp_path / ".trash")
    ingester.poll()
    for table in ingest.ALL_TABLES:
        assert column(store, f"SELECT run_id FROM {table} WHERE run_id <> '{other.run_id}'") == []
    assert column(store, "SELECT run_id FROM rollouts") == [other.run_id]


def test_nothing_is_forgotten_when_the_whole_folder_is_away(store, ingester, run, tmp_path):
    run.say(Started(pid=1))
    ingester.poll()
    away = tmp_path.with_name(tmp_path.name + "-away")
    tmp_path.rename(away)
    assert ingester.poll() == 0
    away.rename(tmp_path)
    assert column(store, "SELECT count(*) FROM events") == [1]


def test_links_and_foreign_folders_are_not_read(store, ingester, run, tmp_path):
    (tmp_path / "linked").symlink_to(run.paths.root)
    (tmp_path / "foreign").mkdir()
    (tmp_path / ".hidden").mkdir()
    ingester.poll()
    assert column(store, "SELECT run_id FROM runs") == [run.run_id]


def test_changes_of_status_and_labels_are_taken_in(store, ingester, run):
    run.status(state="running", step=3)
    ingester.poll()
    for _ in range(2):
        run.status(state="running", step=4)
        ingester.poll()
        assert column(store, "SELECT step FROM runs") == [4]
    run.status(state="failed", step=4, failure="oom", message="out of memory")
    run.labels("good", "long", notes="see", archived=True)
    ingester.poll()
    assert store.rows("SELECT state, step, failure, tags, notes, archived FROM runs") == [
        ("failed", 4, "oom", ["good", "long"], "see", True)
    ]


def test_a_run_that_is_over_is_left_alone_until_a_file_of_it_changes(
    store, ingester, run, monkeypatch
):
    run.status(state="finished")
    run.labels("new")
    run.say(Started(pid=1))
    looked_at, look = [], ingest.signature
    monkeypatch.setattr(ingest, "signature", lambda paths: looked_at.append(paths) or look(paths))
    ingester.poll()
    ingester.poll()
    assert len(looked_at) == 2, "its folder may still change within what clocks tell apart"
    earlier = time.time() - 60
    for path in (run.paths.events, run.paths.status, run.paths.labels, run.paths.root):
        os.utime(path, (earlier, earlier))
    ingester.poll()
    ingester.poll()
    ingester.poll()
    assert len(looked_at) == 3
    replace_json(run.paths.labels, {"tags": ["kept"]})
    ingester.poll()
    assert column(store, "SELECT tags FROM runs") == [["kept"]]


@pytest.mark.parametrize("name", ["events", "status", "labels"])
def test_a_run_that_is_over_is_read_again_when_a_file_is_written_over_in_place(
    store, ingester, run, name
):
    run.status(state="finished", step=1)
    run.labels("old")
    run.say(Started(pid=1))
    earlier = time.time() - 60
    for path in (run.paths.events, run.paths.status, run.paths.labels, run.paths.root):
        os.utime(path, (earlier, earlier))
    ingester.poll()
    ingester.poll()
    before = fingerprint(store)
    if name == "events":
        run.say(Note("info", "more"))
    else:
        file = getattr(run.paths, name)
        file.write_text(file.read_text().replace("old", "new").replace('"step": 1', '"step": 2'))
    os.utime(run.paths.root, (earlier, earlier))
    ingester.poll()
    assert fingerprint(store) != before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"state": 7, "round": "x", "pid": null}'])
def test_a_damaged_status_leaves_the_run_visible_without_state(store, ingester, run, text):
    run.say(Started(pid=1))
    run.paths.status.write_text(text)
    run.paths.labels.write_text("{")
    run.paths.resolved.write_bytes(b"\xff\xfe")
    assert ingester.poll() == 1
    [(state, title, problem)] = store.rows("SELECT state, title, problem FROM runs")
    assert (state, title) == (None, "A run")
    assert "labels.json" in problem
    assert ("status.json" in problem) == (not text.endswith("}"))


def test_a_fraction_where_a_whole_number_belongs_is_left_out_instead_of_rounded(
    store, ingester, run
):
    run.paths.status.write_text('{"state": "running", "round": 1.5, "step": 3}')
    ingester.poll()
    assert store.rows("SELECT state, round, step FROM runs") == [("running", None, 3)]


def test_resolved_settings_come_before_those_as_written(store, ingester, run):
    settings = {"title": "Resolved", "model": {"name": "small"}, "method": "?"}
    run.paths.resolved.write_text(json.dumps({"settings": settings, "versions": {"a": "1"}}))
    ingester.poll()
    assert store.rows("SELECT title, model, method, facts FROM runs") == [
        ("Resolved", "small", "", '{"versions": {"a": "1"}}')
    ]


def test_settings_of_the_method_are_those_it_used(store, ingester, run):
    written, used = {"name": "acft"}, {"name": "acft", "kl_weight": 1.0}
    run.paths.resolved.write_text(json.dumps({"settings": {"method": written}, "method": used}))
    ingester.poll()
    [(settings,)] = store.rows("SELECT settings FROM runs")
    assert json.loads(settings)["method"] == used


@pytest.mark.parametrize(
    ("overrides", "shown"),
    [(["title='B'", 'method={name = "evaluate"}'], ("B", "evaluate")), (["no"], ("A run", "acft"))],
)
def test_a_waiting_run_has_the_settings_it_was_asked_for(store, ingester, run, overrides, shown):
    run.paths.launch.write_text(json.dumps({"overrides": overrides}))
    ingester.poll()
    assert store.rows("SELECT title, method FROM runs") == [shown]


def test_a_run_without_readable_settings_is_listed(store, ingester, run):
    run.paths.spec.write_text("not = = toml")
    ingester.poll()
    assert store.rows("SELECT title, problem FROM runs") == [("", "cannot read spec.toml")]


def test_an_unreadable_line_is_kept_as_a_problem_of_the_run(store, ingester, run):
    run.say(Started(pid=1))
    run.append("nonsense\n")
    ingester.poll()
    [problem] = column(store, "SELECT problem FROM positions")
    assert "line 2" in problem
    run.paths.events.write_text(run.paths.events.read_text().replace("nonsense\n", ""))
    run.say(Note("info", "repaired"))
    assert ingester.poll() == 1
    assert column(store, "SELECT problem FROM positions") == [""]


def test_guidance_of_old_rounds_can_be_left_out_and_brought_back(store, run):
    ingester = Ingester(store, Retention(guidance_rounds=2))
    for index in (1, 2):
        run.seal_round(index, 0.5)
    ingester.poll()
    assert column(store, "SELECT DISTINCT round FROM guidance ORDER BY 1") == [1, 2]
    run.seal_round(3, 0.5)
    ingester.poll()
    for table in ("guidance", "sequences"):
        assert column(store, f"SELECT DISTINCT round FROM {table} ORDER BY 1") == [2, 3]
    assert column(store, "SELECT count(*) FROM rollouts") == [3]
    states = "SELECT state FROM shards WHERE table_name = 'guidance' ORDER BY round"
    assert column(store, states) == ["dropped", "loaded", "loaded"]
    Ingester(store, Retention(guidance_rounds=1)).poll()
    assert column(store, states) == ["dropped", "dropped", "loaded"]
    Ingester(store).poll()
    assert column(store, states) == ["loaded", "loaded", "loaded"]
    assert column(store, "SELECT DISTINCT round FROM guidance ORDER BY 1") == [1, 2, 3]


def test_only_the_runs_and_tables_that_are_asked_for_are_read(store, run, tmp_path):
    other = Directory(tmp_path, "20261122-130000-bbbb")
    run.seal_round(1, 0.5)
    other.seal_round(1, 0.5)
    Ingester(store, only=[run.run_id], tables=["scores"]).poll()
    assert column(store, "SELECT run_id FROM runs") == [run.run_id]
    assert column(store, "SELECT count(*) FROM scores") == [1]
    assert column(store, "SELECT count(*) FROM rollouts") == [0]


def test_a_failure_in_the_middle_leaves_no_half_piece(store, ingester, run, monkeypatch):
    run.say(Started(pid=1), Scalars(1, 1, {"a": 1.0}))
    run.seal_round(1, 0.5)
    load = shards.load

    def fail(*args):
        load(*args)
        raise duckdb.IOException("No space left on device")

    monkeypatch.setattr(shards, "load", fail)
    with pytest.raises(StoreError, match=f"{run.run_id} cannot be taken in: No space left"):
        ingester.poll()
    for table in ("events", "metrics", "rollouts", "shards", "positions"):
        assert column(store, f"SELECT count(*) FROM {table}") == [0]
    monkeypatch.undo()
    assert ingester.poll() == 5
    assert column(store, "SELECT count(*) FROM rollouts") == [1]


def test_trouble_with_one_run_does_not_hide_the_others(store, ingester, run, tmp_path, monkeypatch):
    other = Directory(tmp_path, "20261122-130000-bbbb")
    run.paths.events.mkdir()
    other.say(Started(pid=1))
    with pytest.raises(StoreError, match=f"run {run.run_id} cannot be taken in"):
        ingester.poll()
    assert column(store, "SELECT run_id FROM events") == [other.run_id]


def wait_for(condition):
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        threading.Event().wait(0.01)


def test_a_thread_keeps_the_store_up_to_date_until_it_is_stopped(store, ingester, run):
    ingester.start()
    run.say(Started(pid=1))
    wait_for(lambda: column(store, "SELECT count(*) FROM events") == [1])
    ingester.stop()
    ingester.stop()
    run.say(Note("info", "later"))
    assert column(store, "SELECT count(*) FROM events") == [1]
    ingester.start()
    wait_for(lambda: column(store, "SELECT count(*) FROM events") == [2])
    ingester.stop()


def test_an_event_is_seen_within_two_seconds(store, ingester, run):
    run.say(Started(pid=1))
    ingester.start()
    wait_for(lambda: column(store, "SELECT count(*) FROM events") == [1])
    run.say(Progress("sample", 1, 2, 1))
    start = time.monotonic()
    wait_for(lambda: column(store, "SELECT count(*) FROM events") == [2])
    assert time.monotonic() - start < 2
    ingester.stop()


@pytest.mark.parametrize("kind", [OSError, AttributeError])
def test_the_thread_survives_a_failing_pass_and_says_so_once(
    kind, ingester, run, monkeypatch, caplog
):
    monkeypatch.setattr(ingest, "POLL_SECONDS", 0.01)
    calls = []

    def fail(paths):
        calls.append(paths)
        raise kind("disk unplugged")

    monkeypatch.setattr(ingester, "_ingest_facts", fail)
    ingester.start()
    wait_for(lambda: len(calls) > 3)
    told = f"run {run.run_id} cannot be taken in: disk unplugged; mend its folder or move it away"
    assert ingester.problem == told
    monkeypatch.undo()
    wait_for(lambda: ingester.problem == "")
    ingester.stop()
    assert caplog.text.count("disk unplugged") == 1


def test_stopping_ends_a_long_pass_between_two_pieces(store, ingester, run, monkeypatch):
    monkeypatch.setattr(tail, "CHUNK_BYTES", 100)
    run.say(*(Note("info", "x" * 100) for _ in range(5)))
    chunk = ingester._ingest_chunk

    def stop_after(paths):
        ingester._stop.set()
        return chunk(paths)

    monkeypatch.setattr(ingester, "_ingest_chunk", stop_after)
    assert ingester.poll() == 1
    ingester._stop.clear()
    monkeypatch.undo()
    assert ingester.poll() == 4


def test_times_are_those_of_the_events(store, ingester, run):
    run.say(Started(pid=1))
    ingester.poll()
    assert column(store, "SELECT time FROM events") == [START + 1]
