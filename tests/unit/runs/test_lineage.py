import functools
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from acft.errors import ConfigError, DataError, RunError
from acft.eventlog import EventWriter
from acft.events import RoundFinished, Scalars, Started
from acft.runs import launcher, lineage, recording, sweep
from acft.runs.directory import (
    find_run,
    read_labels,
    read_launch,
    read_status,
    write_labels,
    write_status,
)
from acft.runs.locks import FileLock
from acft.runs.process import this_process
from acft.runs.sizes import size
from acft.runs.spec import parse_spec, spec_of
from acft.schema import LOCK, Labels, RunPaths, Status
from tests import fake_method
from tests.fake_runs import SPEC, create, do


@pytest.fixture(autouse=True)
def _fake():
    fake_method.register()


@pytest.fixture
def done(tmp_path):
    paths = create(tmp_path)
    assert do(paths) == 0
    return paths


def launched(runs_dir, *overrides) -> RunPaths:
    return find_run(runs_dir, launcher.launch(runs_dir, SPEC, overrides))


def test_only_differing_settings_are_shown_and_missing_ones_are_none(tmp_path, done):
    other = launched(tmp_path, "seed=3", "corpus.1.weight=2.0")
    found = lineage.differences(tmp_path, done.root.name, other.root.name)
    assert [(d.name, d.first, d.second) for d in found] == [
        ("corpus.1.weight", 1.0, 2.0), ("seed", 0, 3),
    ]  # fmt: skip
    assert lineage.differences(tmp_path, other.root.name, other.root.name) == []


def test_labels_change_one_by_one(tmp_path, done):
    name = done.root.name
    lineage.label(tmp_path, name, tags=["b", " a ", "", "b"], notes="first")
    lineage.label(tmp_path, name, archived=True)
    labels = read_labels(done)
    assert (labels.tags, labels.notes, labels.archived) == (("a", "b"), "first", True)


def test_edits_of_labels_at_the_same_time_do_not_undo_each_other(tmp_path, done):
    name = done.root.name

    def edit(**changes):
        for number in range(40):
            lineage.label(tmp_path, name, **{key: value(number) for key, value in changes.items()})

    others = [threading.Thread(target=edit, kwargs={"notes": str}),
              threading.Thread(target=edit, kwargs={"archived": lambda n: n % 2 == 1})]  # fmt: skip
    for other in others:
        other.start()
    edit(tags=lambda n: [str(n)])
    for other in others:
        other.join()
    labels = read_labels(done)
    assert (labels.tags, labels.notes, labels.archived) == (("39",), "39", True)


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
    size, scandir = lineage.space(done), os.scandir
    (done.root / "gone").write_text("a file")
    (done.shards / "gone").mkdir()
    (done.shards / "gone" / "within").write_text("a file")
    monkeypatch.setattr(os, "scandir", lambda path: Stale(list(scandir(path))))
    assert lineage.space(done) == size
    assert not (done.shards / "gone").exists()


def test_deleting_needs_the_id_again_and_frees_the_shown_space(tmp_path, done):
    name = done.root.name
    shown = lineage.space(done)
    with pytest.raises(RunError, match="needs its id as confirmation"):
        lineage.delete(tmp_path, name, "yes")
    assert shown.total > shown.checkpoints > 0
    assert shown.shards > 0
    assert lineage.delete(tmp_path, name, name) == shown.total
    assert not done.root.exists()


def test_a_live_run_is_not_deleted(tmp_path):
    paths = create(tmp_path)
    me = this_process()
    running = Status(state="running", pid=me.pid, pid_started=me.started, boot_id=me.boot_id)
    write_status(paths, running)
    with pytest.raises(RunError, match="stop it first"):
        lineage.delete(tmp_path, paths.root.name, paths.root.name)


def test_a_run_that_is_just_being_started_is_not_deleted(tmp_path, monkeypatch):
    paths = create(tmp_path)
    quick = functools.partial(FileLock, wait_seconds=0.0)
    monkeypatch.setattr(lineage, "FileLock", quick)
    with FileLock(paths.lock), pytest.raises(RunError, match="locked by another"):
        lineage.delete(tmp_path, paths.root.name, paths.root.name)


def test_spare_checkpoints_are_all_but_best_and_last(tmp_path, done):
    assert lineage.delete_checkpoints(tmp_path, done.root.name) > 0
    assert [path.name for path in done.checkpoints.iterdir()] == ["round-3"]


def test_spare_checkpoints_are_not_looked_for_behind_links(tmp_path, done):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "photos").mkdir(parents=True)
    (done.checkpoints / "round-0").symlink_to(elsewhere)
    lineage.delete_checkpoints(tmp_path, done.root.name)
    shutil.rmtree(done.checkpoints)
    done.checkpoints.symlink_to(elsewhere)
    with pytest.raises(DataError, match="checkpoints"):
        lineage.delete_checkpoints(tmp_path, done.root.name)
    assert (elsewhere / "photos").is_dir()


@pytest.mark.parametrize("what", ["run", "checkpoints"])
def test_nothing_of_a_run_is_deleted_while_somebody_exports_it(tmp_path, done, what):
    def deleted():
        if what == "run":
            return lineage.delete(tmp_path, done.root.name, done.root.name)
        return lineage.delete_checkpoints(tmp_path, done.root.name)

    done.exports.mkdir()
    with (
        FileLock(done.exports / LOCK),
        pytest.raises(RunError, match="is being exported; wait until that is done"),
    ):
        deleted()
    assert len(list(done.checkpoints.iterdir())) == 3
    assert deleted() > 0


def test_an_estimate_is_told_from_finished_runs_of_the_same_kind(tmp_path, done):
    spec = parse_spec(SPEC, ["schedule.rounds=6"])
    expected = lineage.estimate(tmp_path, spec)
    assert expected is not None
    status = read_status(done)
    assert expected.seconds == pytest.approx(2 * (status.ended - status.started))
    assert expected.bytes == pytest.approx(2 * lineage.space(done).total, abs=24)
    other = parse_spec(SPEC, ["model.name='other'"])
    assert lineage.estimates(tmp_path, [spec, other]) == [expected, None]


def test_a_run_recorded_elsewhere_foretells_nothing_here(tmp_path, done):
    write_labels(done, Labels(tags=(recording.TAG,)))
    assert lineage.estimate(tmp_path, parse_spec(SPEC)) is None


def test_an_estimate_counts_all_attempts_of_a_resumed_run(tmp_path):
    resumed = create(tmp_path)
    spent = [("loading", 100.0), ("training", 3000.0), ("training", 6000.0)]
    first, second, third = [
        Scalars(n + 1, 4 * n, {f"budget/seconds/{doing}": seconds})
        for n, (doing, seconds) in enumerate(spent)
    ]
    writer = EventWriter(resumed.events)
    for event in (
        Started(1, 0), first, RoundFinished(1, "checkpoints/round-1", 1, 1),
        Scalars(2, 8, {"budget/seconds/training": 500.0}),  # of a round that was done again
        Started(2, 1), second, third, RoundFinished(3, "checkpoints/round-3", 3, 3),
    ):  # fmt: skip
        writer.append(event)
    writer.close()
    last = Status(
        state="finished",
        step=12,
        steps=12,
        started=0.0,
        ended=60.0,
        resumed_from="checkpoints/round-1",
    )
    write_status(resumed, last)
    expected = lineage.estimate(tmp_path, parse_spec(SPEC))
    assert expected is not None
    assert expected.seconds == pytest.approx(9100.0)


def test_a_run_without_steps_is_told_from_rounds_of_its_kind(tmp_path):
    decoded = create(tmp_path, "method={name='nado_decoding'}")
    status = Status(state="finished", round=3, rounds=3, started=0.0, ended=60.0)
    write_status(decoded, status)
    twice = ["method={name='nado_decoding'}", "schedule.rounds=6"]
    wanted = [parse_spec(SPEC, twice), parse_spec(SPEC, [*twice, "method.start='sft'"])]
    assert [spec.steps for spec in wanted] == [0, 24]
    expected, other = lineage.estimates(tmp_path, wanted)
    assert expected is not None
    assert expected.seconds == pytest.approx(120.0)
    assert other is None


def test_clean_up_advice_begins_with_what_nobody_misses(tmp_path, done):
    failed = create(tmp_path, "method.fail=bug")
    do(failed)
    archived = create(tmp_path)
    do(archived)
    lineage.label(tmp_path, archived.root.name, archived=True)
    advice = lineage.clean_up_advice(tmp_path, quota_bytes=1)
    assert [(item.run_id, item.why) for item in advice] == [
        (archived.root.name, "archived"),
        (failed.root.name, "failed (unknown)"),
        (done.root.name, "checkpoints other than best and last"),
    ]
    assert lineage.clean_up_advice(tmp_path, quota_bytes=10**9) == []


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "0.977 KiB"), (999.4 * 2**20, "999 MiB"),
     (1010 * 2**20, "0.986 GiB"), (1.5e9, "1.4 GiB"), (5 * 2**40, "5 TiB")],
)  # fmt: skip
def test_bytes_are_told_with_at_most_three_digits(n_bytes, text):
    assert size(n_bytes) == text


def test_a_run_that_does_not_fit_is_refused_with_advice(tmp_path, done):
    lineage.check_room(tmp_path, 1000, quota_bytes=10**9)
    with pytest.raises(RunError, match=r"GiB free"):
        lineage.check_room(tmp_path, shutil.disk_usage(tmp_path).total * 2)
    with pytest.raises(RunError, match=rf"delete \(acft delete\): {done.root.name}"):
        lineage.check_room(tmp_path, 1000, quota_bytes=1)


def test_a_neighbour_without_its_empty_folders_is_no_obstacle_to_a_new_run(tmp_path):
    paths = create(tmp_path)
    write_status(paths, Status(state="stopped"))
    paths.checkpoints.rmdir()
    with pytest.raises(RunError, match="would exceed the quota"):
        lineage.check_room(tmp_path, 0, quota_bytes=1)


def test_a_quota_holds_where_nothing_can_be_spared(tmp_path):
    create(tmp_path)
    assert lineage.clean_up_advice(tmp_path, quota_bytes=1) == []
    with pytest.raises(RunError, match=r"exceed the quota .* no longer needed"):
        lineage.check_room(tmp_path, 0, quota_bytes=1)


def test_a_grid_queues_each_combination_once(tmp_path):
    axes = [sweep.parse_axis("seed=0|1"), sweep.parse_axis("sampling.horizon=20|10")]
    planned = sweep.plan(tmp_path, SPEC, axes)
    assert len(planned.fresh) == 4
    ids = sweep.queue(tmp_path, planned, 4, time.time())
    assert [read_launch(find_run(tmp_path, name)).overrides for name in ids] == [
        ("seed=0", "sampling.horizon=20"), ("seed=0", "sampling.horizon=10"),
        ("seed=1", "sampling.horizon=20"), ("seed=1", "sampling.horizon=10"),
    ]  # fmt: skip
    assert len({read_launch(find_run(tmp_path, name)).sweep for name in ids}) == 1


def test_combinations_that_ask_for_the_same_numbers_are_one(tmp_path):
    axes = [sweep.parse_axis("seed=0|1"), sweep.parse_axis("title='a'|'b'")]
    planned = sweep.plan(tmp_path, SPEC, axes)
    assert (len(planned.variants), planned.repeated) == (2, 2)


def test_combinations_that_a_run_has_already_are_not_queued_again(tmp_path):
    existing = launched(tmp_path, "seed=1")
    planned = sweep.plan(tmp_path, SPEC, [sweep.parse_axis("seed=0|1")])
    assert [variant.existing for variant in planned.variants] == ["", existing.root.name]
    assert len(planned.fresh) == 1


def test_a_grid_is_queued_only_as_confirmed(tmp_path):
    planned = sweep.plan(tmp_path, SPEC, [sweep.parse_axis("seed=0|1")])
    with pytest.raises(RunError, match="3 runs were confirmed, but 2"):
        sweep.queue(tmp_path, planned, 3, time.time())
    assert launcher.runs(tmp_path) == []


@pytest.mark.parametrize("text", ["seed", "=1", "seed=", "seed=|"])
def test_a_malformed_axis_is_an_error(text):
    with pytest.raises(ConfigError, match="is not of the form"):
        sweep.parse_axis(text)


def test_a_grid_with_a_wrong_value_queues_nothing(tmp_path):
    with pytest.raises(ConfigError, match="horizon"):
        sweep.plan(tmp_path, SPEC, [sweep.parse_axis("sampling.horizon=5|-1")])


def test_a_grid_with_a_file_that_is_not_there_queues_nothing(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        sweep.plan(tmp_path, SPEC, [sweep.parse_axis("prompts.source='demo'|'no.txt'")])


def test_a_damaged_launch_record_does_not_stop_a_sweep(tmp_path):
    launched(tmp_path).launch.write_text("[")
    assert len(sweep.plan(tmp_path, SPEC, [sweep.parse_axis("seed=0|1")]).fresh) == 2


@pytest.mark.parametrize(
    ("status", "fresh"),
    [("running", 2), ("stopped", 2), ("failed", 2), ("queued", 1), ("finished", 1)],
)
def test_a_grid_skips_only_what_somebody_does_or_has_done(tmp_path, status, fresh):
    write_status(launched(tmp_path, "seed=1"), Status(state=status))  # whose process is gone
    assert len(sweep.plan(tmp_path, SPEC, [sweep.parse_axis("seed=0|1")]).fresh) == fresh


def test_a_grid_knows_runs_whose_fingerprint_was_another_in_an_earlier_version(tmp_path):
    earlier = launched(tmp_path, "seed=1")
    record = json.loads(earlier.launch.read_text())
    earlier.launch.write_text(json.dumps({**record, "fingerprint": "before a setting was added"}))
    planned = sweep.plan(tmp_path, SPEC, [sweep.parse_axis("seed=0|1")])
    assert [variant.existing for variant in planned.variants] == ["", earlier.root.name]


def test_fingerprints_ignore_words_and_notice_numbers():
    fingerprint = parse_spec(SPEC).fingerprint
    assert parse_spec(SPEC, ["title='x'", "notes='y'"]).fingerprint == fingerprint
    assert parse_spec(SPEC, ["seed=1"]).fingerprint != fingerprint
    assert json.dumps(parse_spec(SPEC).values)


def test_a_bar_inside_quotes_separates_no_values():
    found = sweep.parse_axis("""constraint.0.pattern="a|b" | 'c|d' | e""")
    assert found == [f"constraint.0.pattern={v}" for v in ('"a|b"', "'c|d'", "e")]


@pytest.mark.parametrize("damage", ["gone", "outdated"])
def test_a_damaged_neighbour_foretells_nothing_and_is_named_where_it_is_asked_for(tmp_path, damage):
    paths, other = create(tmp_path, "seed=1"), create(tmp_path, "seed=2")
    do(paths)
    paths.resolved.write_text("[" * 100_000)
    if damage == "gone":
        paths.spec.unlink()
    else:
        paths.spec.write_text("[schedule]\nthredas = 1\n")
    spec = spec_of(other)
    assert lineage.estimate(tmp_path, spec) is None
    with pytest.raises(DataError, match=f"settings of run {paths.root.name} cannot be read"):
        lineage.differences(tmp_path, paths.root.name, other.root.name)
