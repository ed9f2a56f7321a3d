import dataclasses
import json
import shutil

import pytest

from acft.errors import DataError, RunError
from acft.runs import recording
from acft.runs.directory import all_runs, read_labels, read_launch, read_status, write_status
from acft.runs.restore import open_run


@pytest.fixture
def recorded(own_run, tmp_path):
    folder = tmp_path / "recorded"
    recording.record(own_run, folder)
    return folder


def test_a_recording_is_a_run_that_opens_with_its_preferred_weights(recorded, own_run):
    (packed,) = recording.check(recorded)
    assert packed.root.name == own_run.root.name
    assert open_run(packed.root).sealed == open_run(own_run.root).sealed
    open_run(packed.root).tuned.backbone  # noqa: B018 - opening is the check


def test_what_only_resuming_needs_stays_behind(recorded):
    names = {path.name for path in recorded.rglob("*")}
    assert "optimizer.safetensors" not in names
    assert "0-replay.json" not in names
    assert len(list(recorded.glob("*/checkpoints/*"))) == 2


def test_nothing_tells_of_the_machine(recorded, own_run):
    (packed,) = recording.check(recorded)
    assert read_launch(packed).working_directory == ""
    assert read_status(packed).boot_id == ""
    assert read_status(packed).pid == 0
    texts = "".join(path.read_text() for path in packed.root.glob("*.json*"))
    assert str(own_run.root.parent) not in texts
    assert not packed.log.exists()


def test_a_recording_says_in_lists_that_it_is_one(recorded):
    (packed,) = all_runs(recorded)
    assert read_labels(packed).tags == (recording.TAG,)


def test_every_change_is_noticed(recorded):
    (packed,) = all_runs(recorded)
    events = packed.events.read_bytes()
    for change in (
        lambda: packed.events.write_bytes(events + b"\n"),
        lambda: (packed.root / "extra").write_text(""),
        packed.spec.unlink,
    ):
        recording.check(recorded)
        before = {p: p.read_bytes() for p in packed.root.rglob("*") if p.is_file()}
        change()
        with pytest.raises(DataError, match="missing, added or changed"):
            recording.check(recorded)
        for path in set(packed.root.rglob("*")) - set(before):
            if path.is_file():
                path.unlink()
        for path, content in before.items():
            path.write_bytes(content)


def test_a_manifest_that_cannot_be_read_is_refused(recorded):
    (recorded / "manifest.json").write_text(json.dumps([]))
    with pytest.raises(DataError, match="no manifest"):
        recording.check(recorded)


def test_only_finished_runs_are_recorded(own_run, tmp_path):
    write_status(own_run, dataclasses.replace(read_status(own_run), state="stopped"))
    with pytest.raises(RunError, match="only finished"):
        recording.record(own_run, tmp_path / "recorded")


def test_a_recording_that_is_too_large_is_refused_and_leaves_the_old_one(
    recorded, own_run, monkeypatch
):
    monkeypatch.setattr(recording, "MAX_BYTES", 10)
    with pytest.raises(RunError, match=r"KiB, at most 10 bytes"):
        recording.record(own_run, recorded)
    assert len(recording.check(recorded)) == 1
    assert not list(recorded.glob(".tmp-*"))


def test_recordings_are_copied_into_an_empty_runs_directory_only_once(recorded, tmp_path):
    runs = tmp_path / "mine"
    assert len(recording.copy_out(recorded, runs)) == 1
    assert recording.copy_out(recorded, runs) == []
    assert recording.copy_out(tmp_path / "nothing", tmp_path / "other") == []


def test_recording_again_replaces_the_recording(recorded, own_run):
    assert recording.record(own_run, recorded) == recorded / own_run.root.name
    assert [paths.root.name for paths in recording.check(recorded)] == [own_run.root.name]
    assert sorted(path.name for path in recorded.iterdir()) == [own_run.root.name, "manifest.json"]


def test_runs_that_are_no_recordings_are_never_deleted(recorded, own_run, tmp_path):
    for folder in (own_run.root.parent, recorded):
        shutil.copytree(own_run.root, folder / "20250101-000000-mine")
        with pytest.raises(RunError, match="does not name as a recording"):
            recording.record(own_run, folder)
        assert (folder / "20250101-000000-mine" / own_run.events.name).exists()
        assert not list(folder.glob(".tmp-*"))
