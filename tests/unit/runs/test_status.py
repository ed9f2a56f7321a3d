import dataclasses
import os
import time

import pytest

from acft.eventlog import EventWriter
from acft.events import Finished, Started
from acft.runs import directory
from acft.runs.directory import read_status, write_status
from acft.runs.launcher import resume
from acft.runs.process import this_boot, this_process
from acft.runs.status import Seen, current_state, observe, record_ends, run_state
from acft.schema import FAILURES, STATES, RunPaths, Status
from tests.fake_runs import create

HERE_ALIVE = Seen(is_here=True, is_alive=True, heartbeat_age=1.0)
HERE_DEAD = Seen(is_here=True, is_alive=False, heartbeat_age=1.0)
AWAY_FRESH = Seen(is_here=False, is_alive=False, heartbeat_age=1.0)
AWAY_SILENT = Seen(is_here=False, is_alive=False, heartbeat_age=11.0)
AWAY_FUTURE = Seen(is_here=False, is_alive=False, heartbeat_age=-3600.0)
SILENT = Seen(is_here=True, is_alive=True, heartbeat_age=16.0)
BEFORE_ITS_TIME = Seen(is_here=True, is_alive=True, heartbeat_age=-3600.0)


def asked(seen, mode="save"):
    return dataclasses.replace(seen, stop_mode=mode)


def ended(seen, *words):
    return dataclasses.replace(seen, ending=Finished(*words))


TABLE = [
    ("queued", HERE_DEAD, "queued"),
    ("queued", AWAY_SILENT, "queued"),
    ("starting", HERE_ALIVE, "starting"),
    ("starting", HERE_DEAD, "failed (killed)"),
    ("starting", SILENT, "starting, stalled"),
    ("running", HERE_ALIVE, "running"),
    ("running", BEFORE_ITS_TIME, "running"),
    ("running", SILENT, "running, stalled"),
    ("running", HERE_DEAD, "failed (killed)"),
    ("running", asked(HERE_ALIVE), "stopping"),
    ("running", asked(SILENT), "stopping, stalled"),
    ("running", asked(HERE_DEAD), "stopped"),
    ("running", AWAY_FRESH, "running"),
    ("running", asked(AWAY_FRESH), "stopping"),
    ("running", AWAY_SILENT, "lost"),
    ("running", AWAY_FUTURE, "lost"),
    ("stopping", HERE_ALIVE, "stopping"),
    ("stopping", AWAY_SILENT, "lost"),
    ("finished", HERE_ALIVE, "finished"),
    ("finished", AWAY_SILENT, "finished"),
    ("stopped", HERE_DEAD, "stopped"),
    ("failed", HERE_DEAD, "failed (oom)"),
    ("running", ended(HERE_DEAD, "finished"), "finished"),
    ("stopping", ended(asked(HERE_DEAD), "stopped"), "stopped"),
    ("running", ended(HERE_DEAD, "failed", "oom"), "failed (oom)"),
    ("running", ended(AWAY_SILENT, "finished"), "finished"),
    ("running", ended(AWAY_FRESH, "finished"), "running"),
    ("queued", ended(HERE_DEAD, "failed", "oom"), "queued"),
]


@pytest.mark.parametrize(("recorded", "seen", "expected"), TABLE)
def test_state_follows_from_record_and_observation(recorded, seen, expected):
    status = Status(state=recorded, failure="oom" if recorded == "failed" else "")
    assert run_state(status, seen).label == expected


@pytest.mark.parametrize("recorded", STATES)
@pytest.mark.parametrize("seen", [HERE_ALIVE, HERE_DEAD, AWAY_FRESH, AWAY_SILENT, SILENT])
def test_every_outcome_is_a_known_state_and_only_failures_have_a_reason(recorded, seen):
    state = run_state(Status(state=recorded), seen)
    assert state.state in STATES
    assert state.failure in ("", *FAILURES)
    assert bool(state.failure) == (state.state == "failed") or recorded == "failed"


@pytest.mark.parametrize("recorded", ["starting", "running", "stopping"])
@pytest.mark.parametrize("seen", [HERE_DEAD, asked(HERE_DEAD), AWAY_SILENT])
def test_a_dead_worker_is_never_called_live(recorded, seen):
    assert not run_state(Status(state=recorded), seen).is_live


def test_the_message_of_a_death_names_the_checkpoint_to_continue_from():
    status = Status(state="running", checkpoint="checkpoints/round-2")
    assert "checkpoints/round-2 is sealed" in run_state(status, HERE_DEAD).message
    assert "no round was sealed" in run_state(Status(state="running"), HERE_DEAD).message


@pytest.mark.parametrize(
    ("mode", "age", "expected"),
    [
        ("save", 12.0, "stopping after this step (asked 12 s ago); if it does not end, it is "
                       "terminated in 4 min 48 s"),
        ("now", 2.0, "stopping at once (asked 2 s ago); if it does not end, it is terminated in "
                     "18 s"),
        ("now", 25.0, "stopping at once (asked 25 s ago); it did not end, so it is terminated, and "
                      "killed in 15 s"),
        ("now", 41.0, "stopping at once (asked 41 s ago); it did not end, so it is terminated and "
                      "killed"),
    ],
)  # fmt: skip
def test_the_message_of_a_stopping_run_says_what_happens_next_and_when(mode, age, expected):
    seen = dataclasses.replace(asked(HERE_ALIVE, mode), stop_age=age)
    assert run_state(Status(state="running", message="other"), seen).message == expected
    silent = dataclasses.replace(asked(SILENT, mode), stop_age=age)
    message = run_state(Status(state="running"), silent).message
    assert message == f"alive, but silent for 16 s; {expected}"


def test_a_request_to_stop_from_before_a_jump_of_the_date_is_not_younger_than_nothing(tmp_path):
    paths = create(tmp_path)
    write_status(paths, live(paths))
    paths.stop_request.write_text("now")
    os.utime(paths.stop_request, (time.time() + 3600, time.time() + 3600))
    assert observe(paths, read_status(paths)).stop_age == 0.0
    assert "stopping at once (asked 0 s ago)" in current_state(paths)[1].message


def live(paths: RunPaths) -> Status:
    me = this_process()
    return Status(
        state="running", pid=me.pid, pid_started=me.started, boot_id=me.boot_id,
        heartbeat=time.time(), heartbeat_clock=time.monotonic(),
    )  # fmt: skip


def test_a_reused_pid_is_not_taken_for_the_worker(tmp_path):
    paths = create(tmp_path)
    write_status(paths, dataclasses.replace(live(paths), pid_started=live(paths).pid_started - 1))
    assert current_state(paths)[1].label == "failed (killed)"


def test_a_worker_killed_between_its_last_event_and_its_status_has_ended_as_it_said(tmp_path):
    paths = create(tmp_path)
    events = EventWriter(paths.events)
    events.append(Started(1))
    dead = dataclasses.replace(live(paths), pid_started=-1.0, events=1)
    write_status(paths, dead)
    assert current_state(paths)[1].label == "failed (killed)"
    events.append(Finished("finished"))
    events.close()
    assert current_state(paths)[1].label == "finished"


def test_the_last_word_of_an_earlier_attempt_says_nothing_of_this_one(tmp_path):
    paths = create(tmp_path)
    events = EventWriter(paths.events)
    events.append(Started(1))
    events.append(Finished("failed", "oom"))
    events.close()
    write_status(paths, dataclasses.replace(live(paths), pid_started=-1.0, events=0))
    assert current_state(paths)[1].label == "failed (oom)"
    resume(tmp_path, paths.root.name)
    queued = read_status(paths)
    write_status(paths, dataclasses.replace(queued, state="starting", pid=1, boot_id=this_boot()))
    assert current_state(paths)[1].label == "failed (killed)"


def test_another_boot_makes_a_silent_run_lost(tmp_path):
    paths = create(tmp_path)
    status = dataclasses.replace(live(paths), boot_id="another", heartbeat=time.time() - 60)
    write_status(paths, status)
    assert current_state(paths)[1].state == "lost"


def test_an_end_that_nobody_wrote_down_is_written_once(tmp_path):
    over, going, queued = create(tmp_path), create(tmp_path), create(tmp_path)
    write_status(over, dataclasses.replace(live(over), pid_started=-1.0, heartbeat=5.0))
    write_status(going, live(going))
    before = going.status.read_text(), queued.status.read_text()
    record_ends(tmp_path)
    status = read_status(over)
    assert (status.state, status.failure, status.ended) == ("failed", "killed", 5.0)
    assert "no round was sealed" in status.message
    assert (going.status.read_text(), queued.status.read_text()) == before
    stamp = over.status.stat().st_mtime_ns
    record_ends(tmp_path)
    assert over.status.stat().st_mtime_ns == stamp


def test_a_run_whose_files_may_not_be_read_says_so(tmp_path, monkeypatch):
    paths = create(tmp_path)
    paths.status.unlink()

    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(directory, "read_events", refused)
    state = current_state(paths)[1]
    assert state.label == "failed (data)"
    assert "Permission denied" in state.message


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
def test_a_jump_of_the_date_changes_no_state(tmp_path, jump):
    paths = create(tmp_path)
    write_status(paths, dataclasses.replace(live(paths), heartbeat=time.time() + jump))
    assert current_state(paths)[1].label == "running"


def test_a_queued_run_on_this_machine_needs_no_process(tmp_path):
    paths = create(tmp_path)
    assert current_state(paths)[1].state == "queued"
    assert not observe(paths, Status(state="queued", boot_id=this_boot())).is_alive
