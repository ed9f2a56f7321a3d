import dataclasses
import os
import signal
import subprocess
import sys

import pytest

from acft.runs.process import (
    Identity,
    is_alive,
    kill,
    start_time,
    terminate,
    this_boot,
    this_process,
)
from tests.fake_runs import wait_until

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]


@pytest.fixture
def child():
    process = subprocess.Popen(SLEEPER, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def identity(process) -> Identity:
    started = start_time(process.pid)
    assert started is not None
    return Identity(process.pid, started, this_boot())


def test_this_process_is_alive():
    assert is_alive(this_process())


def test_a_child_that_nobody_has_waited_for_is_dead(child):
    who = identity(child)
    assert is_alive(who)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(who)


@pytest.mark.parametrize("pid", [-1, 0, 1])
def test_groups_and_the_first_process_are_never_ours(pid):
    who = Identity(pid, start_time(1) or 0.0, this_boot())
    assert not is_alive(who)
    assert not terminate(who)
    assert not kill(who)


def test_this_process_does_not_signal_itself():
    assert not terminate(this_process())


@pytest.mark.parametrize("change", [{"started": 1.0}, {"boot_id": "another"}])
def test_a_process_with_another_start_or_boot_is_not_signalled(child, change):
    stranger = dataclasses.replace(identity(child), **change)
    assert not terminate(stranger)
    assert not kill(stranger)
    assert child.poll() is None


def test_terminate_reaches_exactly_the_recorded_process(child):
    assert terminate(identity(child))
    assert child.wait() == -signal.SIGTERM


def test_kill_takes_descendants_along(tmp_path):
    nested = (
        "import subprocess, sys, time;"
        f"p = subprocess.Popen({SLEEPER!r}, stdout=subprocess.DEVNULL); print(p.pid, flush=True);"
        "time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", nested], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    grandchild = int(parent.stdout.readline())
    assert kill(identity(parent))
    assert parent.wait() == -signal.SIGKILL
    parent.stdout.close()
    wait_until(lambda: start_time(grandchild) is None, "death of the grandchild")


def test_no_process_has_no_start_time():
    assert start_time(2**22 + 1) is None
