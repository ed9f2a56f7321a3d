import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from acft.events import Finished, RoundFinished, Scalars, Started
from acft.store.connection import StoreError, open_store
from acft.store.ingest import Ingester, Retention
from acft.store.journal import record_comparison, record_vote
from acft.store.rebuild import bring_up_to_date, fingerprint, rebuild, snapshot
from tests.store.directories import Directory

KEEP_INGESTING = """
import sys
from pathlib import Path
from acft.store.connection import open_store
from acft.store.ingest import Ingester
ingester = Ingester(open_store(Path(sys.argv[1])))
print("open", flush=True)
while True:
    ingester.poll()
"""


def two_runs(root):
    first, second = Directory(root), Directory(root, "20261122-130000-bbbb")
    for run in (first, second):
        run.say(Started(pid=1))
        run.seal_round(1, 0.1, 0.9)
        run.say(Scalars(1, 10, {"a": 1.0}), RoundFinished(1, "checkpoints/round-1", 1, 1))
        run.seal_round(2, 0.4)
        run.say(Started(pid=2, resumed_from_round=1))
        run.seal_round(2, 0.5)
        run.say(Finished("finished"))
        run.labels("tag")
    return first, second


def test_rebuilding_gives_the_same_rows(tmp_path):
    first, _ = two_runs(tmp_path)
    store = open_store(tmp_path)
    ingester = Ingester(store)
    ingester.poll()
    first.status(state="finished")
    ingester.poll()
    record_vote(store, record_comparison(store, {"runs": ["a"]}), "0", "left")
    before = fingerprint(store)
    store.close()
    assert rebuild(tmp_path) == 2
    store = open_store(tmp_path)
    assert fingerprint(store) == before
    assert all(n_rows for name, (n_rows, _) in before.items() if name != "evaluations")
    store.close()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_rebuilding_with_a_retention_setting_gives_the_same_rows(tmp_path):
    run = Directory(tmp_path)
    retention = Retention(guidance_rounds=2)
    store = open_store(tmp_path)
    ingester = Ingester(store, retention)
    for index in range(1, 6):
        run.seal_round(index, 0.5)
        run.say(RoundFinished(index, f"checkpoints/round-{index}", index, index))
        ingester.poll()
    run.say(Started(pid=2, resumed_from_round=3))
    ingester.poll()
    assert store.rows("SELECT DISTINCT round FROM guidance ORDER BY 1") == [(2,), (3,)]
    before = fingerprint(store)
    store.close()
    rebuild(tmp_path, retention=retention)
    store = open_store(tmp_path)
    assert fingerprint(store) == before
    store.close()


@pytest.mark.parametrize("seed", range(6))
def test_a_damaged_log_is_refused_with_what_to_do_and_made_again(tmp_path, seed):
    two_runs(tmp_path)
    ingest_and_die = KEEP_INGESTING.replace("while True:\n    ingester.poll()", "ingester.poll()")
    dying = f"{ingest_and_die}\nimport os\nos.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", dying, str(tmp_path)], capture_output=True, check=False)
    log = tmp_path / "store.duckdb.wal"
    content = bytearray(log.read_bytes())
    start = random.Random(seed).randrange(len(content) - 64)
    content[start : start + 64] = b"damaged " * 8
    log.write_bytes(content)
    with pytest.raises(StoreError, match="acft store rebuild"):
        open_store(tmp_path)
    assert rebuild(tmp_path) == 2
    store = open_store(tmp_path)
    assert store.rows("SELECT count(*) FROM rollouts") == [(6,)]
    store.close()


@pytest.mark.parametrize("damage", ["deleted", "garbage", "truncated"])
def test_a_lost_or_damaged_database_is_made_again(tmp_path, damage):
    two_runs(tmp_path)
    store = open_store(tmp_path)
    bring_up_to_date(store)
    before = fingerprint(store)
    store.close()
    path = tmp_path / "store.duckdb"
    if damage == "deleted":
        path.unlink()
    else:
        content = path.read_bytes()
        path.write_bytes(b"x" * 5000 if damage == "garbage" else content[: len(content) // 3])
    rebuild(tmp_path)
    store = open_store(tmp_path)
    assert fingerprint(store) == before
    store.close()


def test_a_run_that_cannot_be_read_keeps_no_other_out_of_the_new_database(tmp_path, caplog):
    first, _ = two_runs(tmp_path)
    first.paths.events.rename(tmp_path / "elsewhere")
    first.paths.events.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="mend its folder"):
        rebuild(tmp_path)
    rebuild(tmp_path, may_miss_runs=True)
    store = open_store(tmp_path)
    assert store.rows("SELECT count(*) FROM rollouts") == [(3,)]
    store.close()
    assert "mend its folder" in caplog.text


def test_the_old_database_stays_when_rebuilding_fails(tmp_path, monkeypatch):
    two_runs(tmp_path)
    rebuild(tmp_path)
    content = (tmp_path / "store.duckdb").read_bytes()

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr("acft.store.rebuild.bring_up_to_date", fail)
    with pytest.raises(OSError, match="disk full"):
        rebuild(tmp_path)
    assert (tmp_path / "store.duckdb").read_bytes() == content
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_rebuild_cut_short_never_leaves_the_old_log_beside_the_new_file(tmp_path, monkeypatch):
    two_runs(tmp_path)
    rebuild(tmp_path)
    log = tmp_path / "store.duckdb.wal"
    replace = Path.replace
    seen = []

    def look(path, target):
        seen.append(log.exists())
        return replace(path, target)

    log.write_bytes(b"")
    monkeypatch.setattr(Path, "replace", look)
    rebuild(tmp_path)
    assert seen == [False]


def test_a_snapshot_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    two_runs(tmp_path)
    store = open_store(tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        snapshot(store, tmp_path / "copy.duckdb")
    store.close()
    assert {path.name for path in tmp_path.iterdir()} - {"store.duckdb.wal"} <= before


def test_a_snapshot_is_complete_while_the_store_is_in_use(tmp_path):
    two_runs(tmp_path)
    store = open_store(tmp_path)
    bring_up_to_date(store)
    target = tmp_path / "copy's.duckdb"
    snapshot(store, target)
    copied = open_store(tmp_path, target)
    assert fingerprint(copied) == fingerprint(store)
    copied.close()
    with pytest.raises(StoreError, match="exists already"):
        snapshot(store, target)
    store.close()


def test_a_fingerprint_notices_one_changed_or_doubled_row(store):
    with store.write() as cursor:
        cursor.execute("INSERT INTO votes VALUES ('a', 1, 'b', 'c', 'd')")
    before = fingerprint(store)["votes"]
    with store.write() as cursor:
        cursor.execute("UPDATE votes SET choice = 'x'")
    changed = fingerprint(store)["votes"]
    with store.write() as cursor:
        cursor.execute("INSERT INTO votes SELECT * FROM votes")
    doubled = fingerprint(store)["votes"]
    assert len({before, changed, doubled}) == 3


@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_killing_the_reader_at_random_moments_loses_and_doubles_nothing(tmp_path, kills):
    rng = random.Random(0)
    run = Directory(tmp_path)
    run.say(Started(pid=1))
    n_rounds = 0
    for kill in range(1, kills + 1):
        reader = subprocess.Popen(
            [sys.executable, "-c", KEEP_INGESTING, str(tmp_path)], stdout=subprocess.PIPE
        )
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"open\n"
        for _ in range(rng.randint(2, 8)):
            run.say(Scalars(kill, run.seq, {"a": 1.0}))
            run.seal_round(1000 * kill + run.seq, rng.random())
            n_rounds += 1
        os.kill(reader.pid, signal.SIGKILL)
        reader.communicate()
    store = open_store(tmp_path)
    bring_up_to_date(store)
    after = fingerprint(store)
    assert store.rows("SELECT count(*), count(DISTINCT seq), max(seq) FROM events") == [
        (run.seq, run.seq, run.seq)
    ]
    assert store.rows("SELECT count(*), count(DISTINCT rollout_id) FROM rollouts") == [
        (n_rounds, n_rounds)
    ]
    store.close()
    rebuild(tmp_path)
    store = open_store(tmp_path)
    assert fingerprint(store) == after
    store.close()


def test_the_copy_is_an_ordinary_database(tmp_path):
    two_runs(tmp_path)
    rebuild(tmp_path)
    with duckdb.connect(str(tmp_path / "store.duckdb"), read_only=True) as database:
        assert database.execute("SELECT count(*) FROM rollouts").fetchall() == [(6,)]
