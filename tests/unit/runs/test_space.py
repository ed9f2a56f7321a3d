import dataclasses
import functools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from acft.errors import DataError, RunError
from acft.runs import launcher
from acft.runs.directory import read_status, write_status
from acft.runs.labels import label
from acft.runs.locks import FileLock
from acft.runs.process import this_process
from acft.runs.sizes import size
from acft.runs.space import (
    LEAST_FREE_BYTES,
    check_room,
    clean_up_advice,
    delete,
    delete_checkpoints,
    space,
)
from acft.schema import LOCK, Status
from tests.fake_runs import create, do

pytestmark = pytest.mark.usefixtures("fake_method_known")


class Stale(Iterator[os.DirEntry[str]]):
    """A folder's entries, of which those named ``gone`` are removed as soon as they are listed."""

    def __init__(self, entries):
        self._entries = iter(entries)
        for entry in entries:
            if entry.name == "gone":
                shutil.rmtree(entry.path) if entry.is_dir() else Path(entry).unlink()

    def __next__(self):
        return next(self._entries)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_the_space_of_a_run_is_told_while_its_files_come_and_go(done, monkeypatch):
    size, scandir = space(done), os.scandir
    (done.root / "gone").write_text("a file")
    (done.shards / "gone").mkdir()
    (done.shards / "gone" / "within").write_text("a file")
    monkeypatch.setattr(os, "scandir", lambda path: Stale(list(scandir(path))))
    assert space(done) == size
    assert not (done.shards / "gone").exists()


def test_deleting_needs_the_id_again_and_frees_the_shown_space(tmp_path, done):
    name = done.root.name
    shown = space(done)
    with pytest.raises(RunError, match="needs its id as confirmation"):
        delete(tmp_path, name, "yes")
    assert shown.total > shown.checkpoints > 0
    assert shown.shards > 0
    assert delete(tmp_path, name, name) == shown.total
    assert not done.root.exists()


def test_a_live_run_is_not_deleted(tmp_path):
    paths = create(tmp_path)
    me = this_process()
    running = Status(state="running", pid=me.pid, pid_started=me.started, boot_id=me.boot_id)
    write_status(paths, running)
    with pytest.raises(RunError, match="stop it first"):
        delete(tmp_path, paths.root.name, paths.root.name)


def test_a_run_that_is_just_being_started_is_not_deleted(tmp_path, monkeypatch):
    paths = create(tmp_path)
    quick = functools.partial(FileLock, wait_seconds=0.0)
    monkeypatch.setattr("acft.runs.space.FileLock", quick)
    with FileLock(paths.lock), pytest.raises(RunError, match="locked by another"):
        delete(tmp_path, paths.root.name, paths.root.name)


def test_spare_checkpoints_are_all_but_best_and_last(tmp_path, done):
    assert delete_checkpoints(tmp_path, done.root.name) > 0
    assert [path.name for path in done.checkpoints.iterdir()] == ["round-3"]


def test_a_resume_from_an_earlier_round_that_never_began_spares_the_later_ones(tmp_path, done):
    write_status(done, dataclasses.replace(read_status(done), state="stopped"))
    name = done.root.name
    assert launcher.resume(tmp_path, name, from_round=1) == 1
    assert launcher.stop(tmp_path, name).state == "stopped"
    delete_checkpoints(tmp_path, name)
    assert [path.name for path in sorted(done.checkpoints.iterdir())] == ["round-1", "round-3"]
    assert launcher.resume(tmp_path, name) == 3


def test_spare_checkpoints_are_not_looked_for_behind_links(tmp_path, done):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "photos").mkdir(parents=True)
    (done.checkpoints / "round-0").symlink_to(elsewhere)
    delete_checkpoints(tmp_path, done.root.name)
    shutil.rmtree(done.checkpoints)
    done.checkpoints.symlink_to(elsewhere)
    with pytest.raises(DataError, match="checkpoints"):
        delete_checkpoints(tmp_path, done.root.name)
    assert (elsewhere / "photos").is_dir()


@pytest.mark.parametrize("what", ["run", "checkpoints"])
def test_nothing_of_a_run_is_deleted_while_somebody_exports_it(tmp_path, done, what):
    def deleted():
        if what == "run":
            return delete(tmp_path, done.root.name, done.root.name)
        return delete_checkpoints(tmp_path, done.root.name)

    done.exports.mkdir()
    with (
        FileLock(done.exports / LOCK),
        pytest.raises(RunError, match="is being exported; wait until that is done"),
    ):
        deleted()
    assert len(list(done.checkpoints.iterdir())) == 3
    assert deleted() > 0


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "0.977 KiB"), (999.4 * 2**20, "999 MiB"),
     (1010 * 2**20, "0.986 GiB"), (1.5e9, "1.4 GiB"), (5 * 2**40, "5 TiB")],
)  # fmt: skip
def test_bytes_are_told_with_at_most_three_digits(n_bytes, text):
    assert size(n_bytes) == text


def test_a_run_that_does_not_fit_is_refused_with_advice(tmp_path, done):
    check_room(tmp_path, 1000, quota_bytes=10**9)
    with pytest.raises(RunError, match=r"GiB free"):
        check_room(tmp_path, shutil.disk_usage(tmp_path).total * 2)
    with pytest.raises(RunError, match=rf"delete \(acft delete\): {done.root.name}"):
        check_room(tmp_path, 1000, quota_bytes=1)


@pytest.mark.parametrize("needed", [0, 1000])
def test_a_run_of_unknown_size_is_refused_where_the_disk_is_nearly_full(
    tmp_path, monkeypatch, needed
):
    usage = shutil.disk_usage(tmp_path)
    for free in (LEAST_FREE_BYTES, LEAST_FREE_BYTES - 1):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage._replace(free=free))
        if free == LEAST_FREE_BYTES:
            check_room(tmp_path, needed)
            continue
        with pytest.raises(RunError, match=r"needs at least 300 MiB and the disk .* free; delete"):
            check_room(tmp_path, needed)


def test_a_neighbour_without_its_empty_folders_is_no_obstacle_to_a_new_run(tmp_path):
    paths = create(tmp_path)
    write_status(paths, Status(state="stopped"))
    paths.checkpoints.rmdir()
    with pytest.raises(RunError, match="would exceed the quota"):
        check_room(tmp_path, 0, quota_bytes=1)


def test_a_quota_holds_where_nothing_can_be_spared(tmp_path):
    create(tmp_path)
    assert clean_up_advice(tmp_path, quota_bytes=1) == []
    with pytest.raises(RunError, match=r"exceed the quota .* no longer needed"):
        check_room(tmp_path, 0, quota_bytes=1)


def test_clean_up_advice_begins_with_what_nobody_misses(tmp_path, done):
    failed = create(tmp_path, "method.fail=bug")
    do(failed)
    archived = create(tmp_path)
    do(archived)
    label(tmp_path, archived.root.name, archived=True)
    advice = clean_up_advice(tmp_path, quota_bytes=1)
    assert [(item.run_id, item.why) for item in advice] == [
        (archived.root.name, "archived"),
        (failed.root.name, "failed (unknown)"),
        (done.root.name, "checkpoints other than best and last"),
    ]
    assert clean_up_advice(tmp_path, quota_bytes=10**9) == []
