"""A workbench in a process of its own, for as long as something is measured."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def workbench(root: Path) -> Iterator[str]:
    """Its address while it serves the runs below ``root``."""
    command = [sys.executable, "-m", "acft", "serve", "--port", "0", "--runs", str(root)]
    variables = os.environ | {"ACFT_CPU_RUNS": "2"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=variables) as process:
        assert process.stderr
        found = (re.search(r"http://\S+:\d+", line) for line in process.stderr)
        address = next(match.group() for match in found if match)
        threading.Thread(target=process.stderr.read, daemon=True).start()
        try:
            yield address
        finally:
            process.send_signal(signal.SIGINT)
