import subprocess
import sys
import threading

import pytest

from acft.errors import ConfigError, RunError
from acft.runs import detached
from acft.runs.detached import ensure_supervisor
from acft.runs.ownership import Ownership, owner
from tests.fake_runs import becomes, create, label, wait_until


def test_without_a_workbench_a_detached_supervisor_does_the_queue_and_ends(tmp_path, monkeypatch):
    code = (
        "import sys; from pathlib import Path; from acft.runs.devices import Device;"
        "from acft.runs.supervisor import Supervisor; from tests.fake_method import WORKER;"
        "Supervisor(Path(sys.argv[1]), role='detached', command=WORKER,"
        " places=[Device('cpu', 2)]).run_until_idle()"
    )
    monkeypatch.setattr(detached, "SUPERVISOR", (sys.executable, "-c", code))
    runs = [create(tmp_path), create(tmp_path)]
    assert "detached supervisor" in ensure_supervisor(tmp_path)
    for paths in runs:
        becomes(paths, "finished")
    wait_until(lambda: owner(tmp_path) is None, "end of the detached supervisor")


def test_a_supervisor_that_could_not_live_is_an_error_of_who_asks_for_it(tmp_path, monkeypatch):
    monkeypatch.setenv("ACFT_CPU_RUNS", "two")
    monkeypatch.setattr(detached, "spawn", None)
    with pytest.raises(ConfigError, match="ACFT_CPU_RUNS is 'two'"):
        ensure_supervisor(tmp_path)


def program(monkeypatch, code: str) -> None:
    """Takes a supervisor's place."""
    monkeypatch.setattr(detached, "SUPERVISOR", (sys.executable, "-c", code))


def test_a_supervisor_that_ends_at_its_start_is_reported_with_its_last_words(tmp_path, monkeypatch):
    paths = create(tmp_path)
    program(monkeypatch, "import sys; print('before'); sys.exit('no room for a lock')")
    with pytest.raises(RunError, match=r"ended at its start with code 1 \(no room for a lock\)"):
        ensure_supervisor(tmp_path)
    assert label(paths) == "queued"


def test_who_lost_the_race_to_supervise_names_the_winner(tmp_path, monkeypatch):
    winner = Ownership(tmp_path, "app")
    started = threading.Event()

    def spawn(*_):
        child = subprocess.Popen([sys.executable, "-c", "import sys; sys.exit(3)"])
        child.wait()
        assert winner.claim()
        started.set()
        return child

    monkeypatch.setattr(detached, "spawn", spawn)
    assert "the workbench with pid" in ensure_supervisor(tmp_path)
    assert started.is_set()
    winner.release()


def test_a_supervisor_that_was_done_before_anyone_looked_is_no_error(tmp_path, monkeypatch):
    program(monkeypatch, "pass")
    assert "has done everything" in ensure_supervisor(tmp_path)


def test_a_supervisor_that_takes_long_to_start_is_not_waited_for_any_longer(tmp_path, monkeypatch):
    monkeypatch.setattr(detached, "START_SECONDS", 0.2)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    monkeypatch.setattr(detached, "spawn", lambda *_: child)
    assert "is still starting" in ensure_supervisor(tmp_path)
    child.communicate(b"\n")
