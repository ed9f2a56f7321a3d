"""Two processes of a program, each forked from one that has imported what they need.

They are told what ``torchrun`` would tell them, and share no state of Python: each has a parent of
its own, with another order of sets. Importing takes several seconds of a processor, three times for
each start of a launcher; here it is done twice for all programs.
"""

import json
import os
import random
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from tests.programs import ROOT, ended

READY = "ready"
SIZE = 2
SECONDS = 300


class ForkedPairs:
    """Two processes that fork a process each for every program."""

    def __init__(self, parents: "list[subprocess.Popen[str]]") -> None:
        self._parents = parents

    def run(self, module: str, *arguments: str, environment: Mapping[str, str]) -> str:
        """What both processes of ``python -m module`` print, which must end well."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        shared["WORLD_SIZE"] = str(SIZE)
        for rank, parent in enumerate(self._parents):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            request = {
                "argv": [module, *arguments],
                "environment": {**environment, **shared, **own},
            }
            assert parent.stdin is not None
            parent.stdin.write(json.dumps(request) + "\n")
            parent.stdin.flush()
        found = [json.loads(_line(parent)) for parent in self._parents]
        complaints = "\n".join(one["said"][-3000:] + one["complained"][-3000:] for one in found)
        assert [one["code"] for one in found] == [0] * SIZE, complaints
        return "".join(one["said"] for one in found)


def _line(parent: "subprocess.Popen[str]") -> str:
    assert parent.stdout is not None
    line = parent.stdout.readline()
    assert line, f"the process that forks others ended with code {parent.wait()}"
    return line


@contextmanager
def forked_pairs() -> Iterator[ForkedPairs]:
    """Within it, pairs can be had."""
    with ExitStack() as stack:
        parents = []
        for rank in range(SIZE):
            parent = subprocess.Popen(
                [sys.executable, "-m", "tests.equivalence.forked_pair"],
                cwd=ROOT,
                env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONHASHSEED": str(rank)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            stack.enter_context(ended(parent))
            parents.append(parent)
        for parent in parents:
            assert _line(parent).strip() == READY
        yield ForkedPairs(parents)


def main() -> None:
    """Fork a process for each request until there are no more."""
    import tests.toy_runs  # noqa: F401

    def answer(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    answer(READY)
    for line in sys.stdin:
        request = json.loads(line)
        with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as complained:
            places = said.fileno(), complained.fileno()
            code = _ended(_forked(request["argv"], request["environment"], *places))
            for file in (said, complained):
                file.seek(0)
            texts = {"said": said.read(), "complained": complained.read()}
        answer(json.dumps({"code": code, **texts}))


def _ended(child: int) -> int:
    """Exit code of a child, which is killed when its time is over."""

    def kill(*_: Any) -> None:
        os.kill(child, signal.SIGKILL)

    signal.signal(signal.SIGALRM, kill)
    signal.alarm(SECONDS)
    _, status = os.waitpid(child, 0)
    signal.alarm(0)
    return os.waitstatus_to_exitcode(status)


def _forked(argv: list[str], environment: dict[str, str], said: int, complained: int) -> int:
    """Number of a new process that runs a module."""
    if child := os.fork():
        return child
    code = 1
    try:
        os.dup2(said, 1)
        os.dup2(complained, 2)
        os.environ.clear()
        os.environ.update(environment)
        random.seed()
        np.random.seed()
        sys.argv = argv
        runpy.run_module(argv[0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - told to whoever asked, as Python itself would
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
