import json
import os
import re
import threading
import time

import pytest

from acft import atomic
from acft.errors import DataError, RunError
from acft.eventlog import last_entry
from acft.events import Note, Started, to_json
from acft.runs.directory import (
    RUN_ID,
    all_runs,
    create_run,
    find_run,
    new_run_id,
    read_labels,
    read_launch,
    read_resolved,
    read_status,
    remove_remains,
    stop_request,
    write_labels,
)
from acft.runs.locks import FileLock
from acft.runs.process import this_boot
from acft.runs.status import current_state
from acft.schema import Labels, Launch, Status
from tests.fake_runs import create


def test_ids_sort_by_time_and_hold_no_user_text():
    moments = (1e9, 1e9 + 0.01, 1e9 + 0.03, 1e9 + 0.5, 1e9 + 0.999, 1e9 + 1, 1.7e9, 2e9)
    ids = [new_run_id(moment) for moment in moments]
    assert ids == sorted(ids)
    assert all(RUN_ID.fullmatch(name) for name in ids)


def test_runs_of_one_moment_get_ids_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr("acft.runs.directory.secrets.randbelow", lambda _: 0)
    at_once = (tmp_path, "", Launch(created=1e9), Status(state="queued"))
    created = [create_run(*at_once).root.name for _ in range(40)]
    assert created == sorted(set(created)), "later ones sort behind"
    assert [paths.root.name for paths in all_runs(tmp_path)] == created


def test_a_run_appears_complete_or_not_at_all(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("acft.runs.directory.write_status", full)
    with pytest.raises(RunError, match="No space left on device; free space"):
        create(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_remains_of_creations_are_removed_only_when_old(tmp_path):
    remains = tmp_path / ".tmp-0-20200101-000000-aaaa"
    remains.mkdir()
    remove_remains(tmp_path, time.time())
    assert remains.exists()
    remove_remains(tmp_path, time.time() + 7200)
    assert not remains.exists()


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/etc", "20200101-000000-aaaa"])
def test_only_names_of_existing_runs_are_accepted(tmp_path, name):
    create(tmp_path)
    with pytest.raises(RunError, match="no run"):
        find_run(tmp_path, name)


def test_links_are_not_followed(tmp_path):
    target = tmp_path / "elsewhere"
    target.mkdir()
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "20200101-000000-aaaa").symlink_to(target)
    assert all_runs(runs) == []


def test_a_near_miss_is_suggested(tmp_path):
    name = create(tmp_path).root.name
    with pytest.raises(RunError, match=f"did you mean {re.escape(repr(name))}"):
        find_run(tmp_path, name[:-1] + "9")


def test_unknown_fields_of_newer_versions_are_ignored(tmp_path):
    paths = create(tmp_path)
    values = json.loads(paths.status.read_text()) | {"colour": "blue"}
    paths.status.write_text(json.dumps(values))
    assert read_status(paths).state == "queued"


def test_a_run_without_status_and_events_is_queued_since_its_creation(tmp_path):
    paths = create(tmp_path)
    paths.status.unlink()
    status = read_status(paths)
    assert status.state == "queued"
    assert abs(status.created - read_launch(paths).created) < 1


@pytest.mark.parametrize("missing", [("launch",), ("spec",), ("launch", "spec")])
def test_a_folder_from_which_nothing_could_be_started_is_not_queued(tmp_path, missing):
    paths = create(tmp_path)
    for name in ("status", *missing):
        getattr(paths, name).unlink()
    status = read_status(paths)
    assert (status.state, status.failure) == ("failed", "data")
    assert all(getattr(paths, name).name in status.message for name in missing)


def test_a_damaged_launch_record_is_an_error_and_damaged_labels_are_none(tmp_path):
    paths = create(tmp_path)
    write_labels(paths, Labels(("good",), "a note"))
    assert read_labels(paths) == Labels(("good",), "a note")
    for path in (paths.launch, paths.labels):
        path.write_text("[")
    with pytest.raises(DataError, match=r"launch\.json"):
        read_launch(paths)
    assert read_labels(paths) == Labels()


def test_a_replaced_file_is_old_or_new_for_every_reader(tmp_path):
    path = tmp_path / "status.json"
    versions = [{"value": n, "padding": "x" * 5000} for n in range(40)]
    atomic.replace_json(path, versions[0])
    done = threading.Event()
    torn = []

    def read():
        while not done.is_set():
            try:
                assert json.loads(path.read_text()) in versions
            except (ValueError, AssertionError) as error:
                torn.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for version in versions:
        atomic.replace_json(path, version)
    done.set()
    reader.join()
    assert torn == []


def test_a_failed_replacement_keeps_the_old_content_and_no_remains(tmp_path, monkeypatch):
    path = tmp_path / "status.json"
    atomic.replace_json(path, {"value": 1})

    def fail(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space"):
            atomic.replace_json(path, {"value": 2})
    assert json.loads(path.read_text()) == {"value": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_lock_excludes_other_holders_in_the_same_process(tmp_path):
    with FileLock(tmp_path / "lock"):
        assert not FileLock(tmp_path / "lock", wait_seconds=0.0).acquire()
    with FileLock(tmp_path / "lock", wait_seconds=0.0):
        pass


def test_a_lock_is_waited_for(tmp_path):
    held = FileLock(tmp_path / "lock")
    held.acquire()
    threading.Timer(0.05, held.release).start()
    with FileLock(tmp_path / "lock", wait_seconds=30.0):
        pass


def test_a_lock_that_stays_taken_is_an_error_with_its_name(tmp_path):
    with FileLock(tmp_path / "lock"), pytest.raises(RunError, match="locked by another"):
        FileLock(tmp_path / "lock", wait_seconds=0.0).__enter__()


def test_overrides_survive_the_launch_record(tmp_path):
    assert read_launch(create(tmp_path, "seed=1")).overrides == ("seed=1",)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.json", '{"tags": null}'),
        ("labels.json", "[" * 100_000),
        ("status.json", '{"state": "queued", "pid": null}'),
        ("status.json", '{"state": "queued", "heartbeat": "soon"}'),
        ("status.json", '{"state": "running", "heartbeat": NaN}'),
        ("status.json", '{"state": "running", "heartbeat": 1e999}'),
        ("status.json", f'{{"state": "running", "heartbeat": 1{"0" * 400}}}'),
        ("status.json", '{"state": "running", "round": 99999999999}'),
        ("launch.json", '{"created": 0, "overrides": null}'),
        ("launch.json", '{"created": 0, "experiment": 5}'),
        ("launch.json", "[" * 100_000),
    ],
)
def test_a_record_whose_fields_are_of_other_types_is_a_damaged_one(tmp_path, name, content):
    paths = create(tmp_path)
    (paths.root / name).write_text(content)
    assert read_labels(paths) == Labels()
    assert read_status(paths).state == "queued"
    if name == "launch.json":
        with pytest.raises(DataError, match="cannot read"):
            read_launch(paths)


def test_a_process_that_says_nonsense_of_its_start_is_none_of_ours(tmp_path):
    paths = create(tmp_path)
    paths.status.unlink()
    facts = {"pid_started": "soon", "boot_id": this_boot()}
    paths.events.write_text(to_json(Started(os.getpid(), 0, facts), 1, 0.0) + "\n")
    assert current_state(paths)[1].state == "failed"


def test_a_run_that_had_started_is_not_started_again_where_its_events_are_gone(tmp_path):
    paths = create(tmp_path)
    paths.status.unlink()
    assert read_status(paths).state == "queued"
    paths.resolved.write_text("{}")
    found = read_status(paths)
    assert (found.state, found.failure) == ("failed", "data")
    assert "had started" in found.message


@pytest.mark.parametrize(
    "other", [lambda file, own: file.symlink_to(own), lambda file, _: os.mkfifo(file)]
)
def test_what_stands_in_place_of_a_record_and_is_no_file_of_the_run_is_not_read(tmp_path, other):
    own, paths = tmp_path / "own", create(tmp_path / "runs")
    own.write_text(
        json.dumps({"created": 0, "state": "failed", "notes": "mine"})
        + to_json(Note("info", "mine"), 1, 0.0)
    )
    names = (paths.status, paths.labels, paths.launch, paths.resolved, paths.events)
    for file in (*names, paths.stop_request):
        file.unlink(missing_ok=True)
        other(file, own)
    assert read_labels(paths) == Labels()
    assert read_resolved(paths) == {}
    assert stop_request(paths) == ("", 0.0)
    assert last_entry(paths.events) is None
    assert "cannot read its events" in read_status(paths).message
    with pytest.raises(DataError, match="cannot read"):
        read_launch(paths)
