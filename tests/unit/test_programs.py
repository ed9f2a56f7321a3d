import os
import re
import subprocess
import sys
import time

import psutil
import pytest

from acft.runs.spawn import environment
from tests.fake_method import WORKER
from tests.fake_runs import create, wait_until
from tests.programs import output_of

PARENT = 'setsid sleep 600 & echo $! > "$0"; wait'


def test_a_program_whose_time_is_over_is_ended_with_its_children_whoever_holds_its_output(tmp_path):
    note = tmp_path / "pid"
    since = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        output_of(["bash", "-c", PARENT, str(note)], os.environ, 3)
    assert time.monotonic() - since < 60
    wait_until(lambda: not psutil.pid_exists(int(note.read_text())), "end of the child")


def test_a_program_that_fails_is_told_with_its_last_words():
    with pytest.raises(AssertionError, match="no room"):
        output_of([sys.executable, "-c", "import sys; sys.exit('no room')"], os.environ, 60)


def test_a_worker_with_a_method_of_the_tests_loads_neither_torch_nor_transformers(tmp_path):
    command = [sys.executable, "-X", "importtime", *WORKER[1:], str(create(tmp_path).root)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert not re.findall(r"\| +(torch|transformers)\b", done.stderr)
