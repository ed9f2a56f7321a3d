"""Two processes of a program, forked from one that has imported what they need.

They see what ``torchrun`` would tell them. Importing takes several seconds of a processor, three
times for each start of a launcher; here it is done once.
"""

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.programs import ROOT, ended

READY = "ready"
SIZE = 2
SECONDS = 300


class ForkedPairs:
    """A process that forks a pair of others for each program."""

    def __init__(self, server: "subprocess.Popen[str]") -> None:
        self._server = server

    def run(self, module: str, *arguments: str, environment: Mapping[str, str]) -> str:
        """What both processes of ``python -m module`` print, which must end well."""
        request = {"argv": [module, *arguments], "environment": dict(environment)}
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        found = json.loads(self._server.stdout.readline())
        assert found["codes"] == [0] * SIZE, found["said"][-6000:]
        return found["said"]


@contextmanager
def forked_pairs() -> Iterator[ForkedPairs]:
    """Within it, pairs can be had."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.equivalence.forked_pair"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with ended(server):
        assert server.stdout is not None
        assert server.stdout.readline().strip() == READY
        yield ForkedPairs(server)


def main() -> None:
    """Serve requests until there are no more."""
    import tests.toy_runs  # noqa: F401

    def answer(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    answer(READY)
    for line in sys.stdin:
        request = json.loads(line)
        with tempfile.TemporaryFile("w+") as said:
            codes = _ended_pair(request["argv"], request["environment"], said.fileno())
            said.seek(0)
            answer(json.dumps({"codes": codes, "said": said.read()}))


def _ended_pair(argv: list[str], environment: dict[str, str], output: int) -> list[int]:
    """Exit codes; who is left when one fails, or when the time is over, is killed."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    places = [
        {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(SIZE),
         "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        for rank in range(SIZE)
    ]  # fmt: skip
    members = [_forked(argv, environment | place, output) for place in places]
    codes: dict[int, int] = {}

    def kill_rest(*_: Any) -> None:
        for member in members:
            if member not in codes:
                os.kill(member, signal.SIGKILL)

    signal.signal(signal.SIGALRM, kill_rest)
    signal.alarm(SECONDS)
    while len(codes) < SIZE:
        member, status = os.wait()
        codes[member] = os.waitstatus_to_exitcode(status)
        if codes[member] != 0:
            kill_rest()
    signal.alarm(0)
    return [codes[member] for member in members]


def _forked(argv: list[str], environment: dict[str, str], output: int) -> int:
    """Number of a new process that runs a module."""
    if member := os.fork():
        return member
    code = 1
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ.clear()
        os.environ.update(environment)
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
