"""Programs that start others, ended with all of them."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]


def output_of(command: Sequence[str], environment: Mapping[str, str], seconds: float) -> str:
    """What a program prints that ends well within some seconds.

    ``subprocess.run`` kills the program alone when its time is over, and then waits without end
    for the pipes that the program's children hold.
    """
    program = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with ended(program):
        said, complaints = program.communicate(timeout=seconds)
    assert program.returncode == 0, f"{said[-3000:]}\n{complaints[-3000:]}"
    return said


@contextmanager
def ended(program: "subprocess.Popen[str]") -> Iterator[None]:
    """Kills what a program leaves behind that leads a session: itself, its group, its children."""
    try:
        yield
    finally:
        family: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            family = psutil.Process(program.pid).children(recursive=True)
        # the group outlives its leader; children in sessions of their own are in no group of ours
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        program.wait()
