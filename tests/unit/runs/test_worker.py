import dataclasses
import json
import os
import signal
import tomllib

import pytest

from acft.atomic import TEMPORARY, sha256
from acft.checkpoints import verify
from acft.distributed import Ranks
from acft.errors import DataError, ModelError
from acft.eventlog import read_events
from acft.events import (
    BestCheckpoint,
    Evaluated,
    Finished,
    Note,
    Progress,
    RoundFinished,
    ShardSealed,
    Started,
)
from acft.methods.base import METHODS
from acft.runs import launcher
from acft.runs.directory import read_resolved, read_status, write_status
from acft.runs.locks import FileLock
from acft.runs.process import this_process
from acft.runs.worker import DONE, FAILED, NOT_OURS, RESERVE, USER_ERROR, main
from acft.schema import FAILURES, RunPaths, Status
from tests import fake_method
from tests.fake_method import numbers
from tests.fake_runs import SPEC, create, do


@pytest.fixture
def whole(tmp_path_factory):
    """Numbers of a run that nothing interrupted."""
    paths = create(tmp_path_factory.mktemp("whole"))
    assert do(paths) == DONE
    return numbers(paths)


def kinds(paths: RunPaths):
    return [entry.event.kind for entry in read_events(paths.events)]


def test_a_run_leaves_everything_the_contract_names(tmp_path):
    paths = create(tmp_path)
    assert do(paths) == DONE
    status = read_status(paths)
    assert (status.state, status.round, status.rounds) == ("finished", 3, 3)
    assert (status.step, status.steps, status.exit_code) == (12, 12, 0)
    assert status.events == len(read_events(paths.events))
    assert kinds(paths)[0] == "started"
    assert kinds(paths)[-1] == "finished"
    assert paths.spec.read_text() == SPEC
    for number in (1, 2, 3):
        verify(paths.checkpoint(number))
    names = {path.name for path in paths.root.iterdir()}
    assert RESERVE not in names
    assert not [name for name in names if name.startswith(TEMPORARY)]


def test_a_run_that_was_copied_without_its_empty_folders_is_done_all_the_same(tmp_path):
    paths = create(tmp_path)
    paths.shards.rmdir()
    paths.checkpoints.rmdir()
    assert do(paths) == 0


@pytest.mark.parametrize("name", ["shards", "checkpoints", "events.jsonl", "stdout.log", RESERVE])
def test_a_link_in_the_folder_of_a_run_leads_to_nothing_that_is_overwritten_or_deleted(
    tmp_path, name
):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    kept = elsewhere / "kept.txt"
    kept.write_text("mine")
    paths = create(tmp_path / "runs", "method.fail='data'")
    if name in ("shards", "checkpoints"):
        (paths.root / name).rmdir()
    (paths.root / name).symlink_to(elsewhere if "." not in name else kept)
    with pytest.raises(DataError, match=name):
        do(paths)
    launcher.stop(paths.root.parent, paths.root.name)
    with pytest.raises(DataError, match=name):
        launcher.resume(paths.root.parent, paths.root.name)
    assert kept.read_text() == "mine"


def test_a_run_whose_folder_of_files_is_gone_says_which(tmp_path):
    paths = create(tmp_path)
    paths.launch.write_text(json.dumps({"created": 0.0, "working_directory": "/gone"}))
    assert do(paths) == USER_ERROR
    status = read_status(paths)
    assert (status.state, status.failure) == ("failed", "data")
    assert "'/gone', where its settings look for files" in status.message


def test_the_status_tells_pace_and_place(tmp_path):
    paths = create(tmp_path)
    seen = []
    do(paths, lambda _: seen.append(read_status(paths)))
    rounds_left = [status.seconds_left is not None for status in seen if status.round == 1]
    assert any(rounds_left)
    last = read_status(paths)
    assert (last.phase, last.phase_done, last.phase_total) == ("fit_policy", 4, 4)
    assert last.phase_rate is not None
    assert last.seconds_left is last.phase_seconds_left is None


def test_resolved_settings_hold_defaults_versions_and_seed(tmp_path):
    paths = create(tmp_path, "seed=5")
    do(paths)
    resolved = json.loads(paths.resolved.read_text())
    assert resolved["seed"] == 5
    assert resolved["settings"]["sampling"]["horizon"] == 20
    assert resolved["method"]["name"] == "fake"
    assert resolved["packages"]["torch"]
    assert resolved["overrides"] == ["seed=5"]
    assert "seed" not in tomllib.loads(paths.spec.read_text())


def test_shards_are_named_by_their_event_and_hashed(tmp_path):
    paths = create(tmp_path)
    do(paths)
    entries = read_events(paths.events)
    shards = [(e.seq, e.event) for e in entries if isinstance(e.event, ShardSealed)]
    assert len(shards) == 6
    for seq, shard in shards:
        assert shard.name == f"{shard.table}-{seq:06d}.parquet"
        assert sha256(paths.shards / shard.name) == shard.sha256
    assert {s.name for _, s in shards} == {path.name for path in paths.shards.iterdir()}


def test_the_listener_sees_every_event_once(tmp_path):
    paths = create(tmp_path)
    seen = []
    do(paths, seen.append)
    assert seen == read_events(paths.events)


FAILING = {
    "oom": ("oom", FAILED), "data": ("data", USER_ERROR), "disk": ("disk", USER_ERROR),
    "nonfinite": ("nonfinite", FAILED), "bug": ("unknown", FAILED),
}  # fmt: skip


@pytest.mark.parametrize("failure", FAILING)
def test_a_failure_is_typed_explained_and_keeps_earlier_rounds(tmp_path, failure):
    paths = create(tmp_path, f"method.fail={failure}")
    kind, code = FAILING[failure]
    assert do(paths) == code
    status = read_status(paths)
    assert (status.state, status.failure, status.exit_code) == ("failed", kind, code)
    assert kind in FAILURES
    assert status.message
    assert status.advice
    assert status.checkpoint == "checkpoints/round-1"
    verify(paths.checkpoint(1))
    last = read_events(paths.events)[-1].event
    assert last == Finished("failed", kind, status.message)


def test_out_of_memory_offers_settings_that_are_smaller_and_valid(tmp_path):
    paths = create(tmp_path, "method.fail=oom")
    do(paths)
    status = read_status(paths)
    assert "ran out of memory after phase 'fit_policy'" in status.message
    assert status.retry_with == ("optimizer.micro_batch_size=4", "sampling.batch_size=32")
    retry = create(tmp_path, *status.retry_with)
    assert do(retry) == DONE


@pytest.mark.parametrize("failure", ["oom", "data", "disk", "nonfinite", "bug"])
def test_a_failed_run_resumes_to_the_numbers_of_an_uninterrupted_one(tmp_path, failure, whole):
    paths = create(tmp_path, f"method.fail={failure}")
    do(paths)
    healthy = json.loads(paths.launch.read_text()) | {"overrides": []}
    paths.launch.write_text(json.dumps(healthy))
    assert launcher.resume(tmp_path, paths.root.name) == 1
    assert read_status(paths).state == "queued"
    assert read_status(paths).best_checkpoint == read_status(paths).checkpoint
    assert do(paths) == DONE
    assert numbers(paths) == whole
    assert read_status(paths).failure == ""


def test_resuming_from_an_earlier_round_does_the_later_ones_again(tmp_path, whole):
    paths = create(tmp_path, "method.fail=bug", "method.fail_round=3")
    do(paths)
    paths.launch.write_text(json.dumps({"created": 0.0}))
    assert launcher.resume(tmp_path, paths.root.name, from_round=1) == 1
    assert do(paths) == DONE
    assert numbers(paths) == whole
    started = [e.event for e in read_events(paths.events) if isinstance(e.event, Started)]
    assert [event.resumed_from_round for event in started] == [0, 1]


def test_a_resumed_run_stands_where_its_round_ended(tmp_path):
    paths = create(tmp_path, "method.fail=bug", "method.fail_round=3")
    do(paths)
    launcher.resume(tmp_path, paths.root.name, from_round=1)
    status = read_status(paths)
    assert (status.round, status.step, status.rounds) == (1, 4, 3)
    assert status.checkpoint == status.best_checkpoint == status.resumed_from
    assert status.checkpoint == "checkpoints/round-1"
    launcher.stop(tmp_path, paths.root.name)
    launcher.resume(tmp_path, paths.root.name, from_round=0)
    status = read_status(paths)
    assert (status.round, status.step, status.checkpoint) == (0, 0, "")


def test_resuming_from_the_beginning_does_everything_again(tmp_path, whole):
    paths = create(tmp_path, "method.fail=bug")
    do(paths)
    paths.launch.write_text(json.dumps({"created": 0.0}))
    assert launcher.resume(tmp_path, paths.root.name, from_round=0) == 0
    assert do(paths) == DONE
    assert numbers(paths) == whole


FACTS = {
    "model_sha256": "ab", "model_texts_sha256": "13", "prompts_sha256": "cd", "cores": 2,
    "scorers": [
        {"name": "vowels", "version": "1", "sha256": "0"},
        {"name": "lost", "version": "missing: it is not there", "sha256": ""},
    ],
    "corpora": [{"name": "[corpus.0] texts.txt", "version": "", "sha256": "ef"}],
}  # fmt: skip


def find(monkeypatch, **facts) -> None:
    """What the fake method finds on the machine from here on."""
    fake_method.register()
    found = dataclasses.replace(METHODS.get("fake"), facts=lambda _: FACTS | facts)
    monkeypatch.setitem(METHODS._items, "fake", found)


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"model_sha256": "ba"}, "the model is 'ba' and was 'ab'"),
        (
            {"model_texts_sha256": "31"},
            "beside the weights (tokenizer, chat template, settings) is '31' and was '13'",
        ),
        ({"prompts_sha256": "dc"}, "the set of prompts is 'dc' and was 'cd'"),
        (
            {"scorers": [{"name": "vowels", "version": "2", "sha256": "0"}]},
            "scorer 'vowels' is '2 0' and was '1 0'",
        ),
        (
            {"corpora": [{"name": "[corpus.0] texts.txt", "version": "", "sha256": "fe"}]},
            "corpus '[corpus.0] texts.txt' is 'fe' and was 'ef'",
        ),
    ],
)
def test_a_run_that_would_go_on_with_others_is_refused_and_its_folder_left_as_it_is(
    tmp_path, monkeypatch, facts, told, whole
):
    find(monkeypatch)
    paths = create(tmp_path, "method.fail=bug", "method.fail_round=3")
    do(paths)
    paths.launch.write_text(json.dumps({"created": 0.0}))
    kept = {path: path.read_bytes() for path in files_of(paths)}
    find(monkeypatch, **facts)
    launcher.resume(tmp_path, paths.root.name, from_round=1)
    assert do(paths) == USER_ERROR
    status = read_status(paths)
    assert (status.state, status.failure) == ("failed", "model")
    assert told in status.message
    assert {path: path.read_bytes() for path in files_of(paths)} == kept
    find(monkeypatch)
    assert launcher.resume(tmp_path, paths.root.name) == 2
    assert do(paths) == DONE
    assert numbers(paths) == whole


def files_of(paths: RunPaths):
    """Its record, rows and checkpoints."""
    return [
        paths.resolved,
        *paths.shards.rglob("*.parquet"),
        *(path for path in paths.checkpoints.rglob("*") if path.is_file()),
    ]


def test_a_run_goes_on_on_other_hardware_and_with_a_scorer_that_was_missing(
    tmp_path, monkeypatch, whole
):
    find(monkeypatch)
    paths = create(tmp_path, "method.fail=bug")
    do(paths)
    paths.launch.write_text(json.dumps({"created": 0.0}))
    scorers = [{**scorer, "version": "1", "sha256": "0"} for scorer in FACTS["scorers"]]
    find(monkeypatch, scorers=scorers, cores=64)
    launcher.resume(tmp_path, paths.root.name)
    assert do(paths) == DONE
    assert numbers(paths) == whole
    assert read_resolved(paths)["facts"]["cores"] == 64


def test_remains_that_no_event_names_are_removed_by_the_next_attempt(tmp_path):
    paths = create(tmp_path)
    (paths.shards / "rollouts-000003.parquet").write_bytes(b"half")
    (paths.shards / ".tmp-1-scores.parquet").write_bytes(b"half")
    (paths.checkpoints / "round-9").mkdir()
    assert do(paths) == DONE
    assert len(list(paths.shards.iterdir())) == 6
    assert not (paths.checkpoints / "round-9").exists()


@pytest.mark.parametrize("mode", ["save", "now"])
def test_a_stop_request_ends_the_run_at_the_next_step(tmp_path, mode):
    paths = create(tmp_path)

    def stop_in_round_two(entry):
        if isinstance(entry.event, Progress) and entry.event.round == 2:
            paths.stop_request.write_text(mode)

    assert do(paths, stop_in_round_two) == DONE
    status = read_status(paths)
    assert (status.state, status.round) == ("stopped", 1)
    assert not paths.stop_request.exists()
    steps = [e.event for e in read_events(paths.events) if isinstance(e.event, Progress)]
    assert (steps[-1].round, steps[-1].done) == (2, 1)


@pytest.mark.parametrize("last", [BestCheckpoint, Evaluated])
def test_a_request_that_comes_when_all_is_done_changes_nothing(tmp_path, whole, last):
    paths = create(tmp_path)

    def stop_at_the_end(entry):
        if isinstance(entry.event, last) and read_status(paths).round == 3:
            paths.stop_request.write_text("save")

    assert do(paths, stop_at_the_end) == DONE
    assert read_status(paths).state == "finished"
    assert not paths.stop_request.exists()
    assert numbers(paths) == whole


def test_a_process_that_others_wait_for_ends_only_where_all_of_them_do(
    tmp_path, monkeypatch, whole
):
    waits = []
    monkeypatch.setattr("acft.distributed.ranks", lambda: Ranks(0, 2))
    monkeypatch.setattr("acft.distributed.dist.barrier", lambda: waits.append(1))
    paths = create(tmp_path)

    def stop(_):
        paths.stop_request.write_text("now")

    assert do(paths, stop) == DONE
    assert numbers(paths) == whole  # the fake never settles whether to stop
    assert read_status(paths).state == "finished"
    assert waits == [1]


def test_a_termination_signal_ends_the_run_in_order_and_it_resumes(tmp_path, whole):
    paths = create(tmp_path)

    def terminate(entry):
        if isinstance(entry.event, Note) and "round 3" in entry.event.text:
            os.kill(os.getpid(), signal.SIGTERM)

    assert do(paths, terminate) == DONE
    assert read_status(paths).state == "stopped"
    assert launcher.resume(tmp_path, paths.root.name) == 2
    assert do(paths) == DONE
    assert numbers(paths) == whole


def test_one_interrupt_saves_and_three_give_up(tmp_path, capfd):
    paths = create(tmp_path)

    def interrupt(entry):
        if isinstance(entry.event, Note):
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGINT)

    assert do(paths, interrupt) == DONE
    assert read_status(paths).state == "stopped"
    assert capfd.readouterr().err.count("ending after the current step") == 1


def test_signal_handlers_are_given_back(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    do(create(tmp_path))
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_second_worker_leaves_the_run_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("acft.runs.worker.LOCK_WAIT_SECONDS", 0.0)
    paths = create(tmp_path)
    with FileLock(paths.lock):
        assert do(paths) == NOT_OURS
    assert read_status(paths).state == "queued"


@pytest.mark.parametrize("state", ["finished", "stopped", "failed", "running"])
def test_a_worker_does_not_repeat_what_is_not_waiting(tmp_path, state):
    paths = create(tmp_path)
    write_status(paths, Status(state=state))
    assert do(paths) == NOT_OURS
    assert not paths.events.exists()


def test_wrong_settings_fail_before_any_event(tmp_path):
    paths = create(tmp_path, "optimizer.lrr=1", "sampling.horizon=0")
    assert do(paths) == USER_ERROR
    status = read_status(paths)
    assert (status.state, status.failure) == ("failed", "config")
    assert "did you mean 'lr'" in status.message
    assert "horizon" in status.message
    assert not paths.events.exists()


def test_a_damaged_checkpoint_is_not_continued(tmp_path):
    paths = create(tmp_path, "method.fail=bug")
    do(paths)
    (paths.checkpoint(1) / "policy" / "state.json").write_text('{"total": 0.0}')
    with pytest.raises(DataError, match=r"policy/state.json.*sealed before it: none"):
        launcher.resume(tmp_path, paths.root.name)
    assert read_status(paths).state == "failed"


def test_an_attempt_whose_model_cannot_be_found_begins_and_ends_in_the_record(
    tmp_path, monkeypatch
):
    def lost(_):
        raise ModelError("it is not there")

    fake_method.register()
    found = dataclasses.replace(METHODS.get("fake"), facts=lost)
    monkeypatch.setitem(METHODS._items, "fake", found)
    paths = create(tmp_path)
    assert do(paths) == USER_ERROR
    first, *_, last = (entry.event for entry in read_events(paths.events))
    assert isinstance(first, Started)
    assert isinstance(last, Finished)
    assert last.message == "it is not there"


def test_the_worker_proves_which_process_it_is(tmp_path):
    paths = create(tmp_path)
    do(paths)
    started = read_events(paths.events)[0].event
    me = this_process()
    assert isinstance(started, Started)
    assert started.pid == me.pid
    assert started.facts == {"pid_started": me.started, "boot_id": me.boot_id}


def test_a_damaged_status_is_told_from_the_events(tmp_path):
    paths = create(tmp_path)
    do(paths)
    before = read_status(paths)
    for content in ("", "{", "[]", '{"state": 3}', "null"):
        paths.status.write_text(content)
        status = read_status(paths)
        assert (status.state, status.round, status.checkpoint) == (
            "finished", 3, before.checkpoint,
        )  # fmt: skip


def test_rounds_are_finished_only_with_a_sealed_checkpoint(tmp_path):
    paths = create(tmp_path)

    def check(entry):
        if isinstance(entry.event, RoundFinished):
            verify(paths.root / entry.event.checkpoint)

    assert do(paths, check) == DONE


class BrokenClient:
    def __init__(self, target):
        self.sent = 0

    def log(self, step, values):
        self.sent += 1
        if self.sent == 2:
            raise RuntimeError("no connection")

    def close(self):
        pass


def test_a_mirror_that_fails_is_a_warning_and_changes_nothing(tmp_path, monkeypatch, whole):
    monkeypatch.setattr("acft.runs.mirror.CLIENTS", {"json": BrokenClient})
    paths = create(tmp_path)
    record = json.loads(paths.launch.read_text()) | {"mirror": ["json"]}
    paths.launch.write_text(json.dumps(record))
    assert do(paths) == DONE
    found = numbers(paths)
    assert found["notes"].pop() == "a mirror did not take step 2: RuntimeError: no connection"
    assert found == whole


def test_a_mirror_is_told_the_settings_of_the_run(tmp_path, monkeypatch):
    told = []

    class Listens(BrokenClient):
        def __init__(self, target):
            super().__init__(target)
            told.append(target.settings)

    monkeypatch.setattr("acft.runs.mirror.CLIENTS", {"json": Listens})
    paths = create(tmp_path, "seed=3")
    record = json.loads(paths.launch.read_text()) | {"mirror": ["json"]}
    paths.launch.write_text(json.dumps(record))
    assert do(paths) == DONE
    [settings] = told
    assert (settings["seed"], settings["method.name"]) == (3, "fake")


def test_an_unknown_mirror_is_a_wrong_setting(tmp_path):
    paths = create(tmp_path)
    record = json.loads(paths.launch.read_text()) | {"mirror": ["wandbb"]}
    paths.launch.write_text(json.dumps(record))
    assert do(paths) == USER_ERROR
    assert "unknown mirror" in read_status(paths).message


def test_the_program_needs_a_run_directory(tmp_path):
    assert main([]) == USER_ERROR
    with pytest.raises(DataError, match="not a run directory"):
        main([str(tmp_path)])
