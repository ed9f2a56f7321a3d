"""A supervisor in a process of its own, for runs that are started where no workbench is open."""

import logging
import subprocess
import sys
import time
from pathlib import Path

from acft.errors import RunError
from acft.runs.devices import devices
from acft.runs.ownership import owner
from acft.runs.spawn import SUPERVISOR, environment, spawn
from acft.runs.supervisor import Supervisor

LOG = "supervisor.log"
START_SECONDS = 20.0
"""A started supervisor that lives but supervises nothing yet is not waited for any longer."""
LOOK_SECONDS = 0.05


def ensure_supervisor(runs_dir: Path) -> str:
    """Who takes care of the queue, in words; a detached supervisor is started if nobody does.

    Raises:
        ConfigError: The machine's devices cannot be told; a supervisor would end at once.
        RunError: The supervisor ended before it supervised anything; runs stay queued.
    """
    if current := owner(runs_dir):
        return current.label
    devices()
    child = spawn([*SUPERVISOR, str(runs_dir.resolve())], runs_dir, runs_dir / LOG, environment())
    return _started(child, runs_dir)


def _started(child: "subprocess.Popen[bytes]", runs_dir: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        # Asked before the owner: who has ended may have been second to another who owns now.
        code = child.poll()
        if current := owner(runs_dir):
            return current.label
        if code == 0:
            return f"a detached supervisor with pid {child.pid}, which has done everything,"
        if code is not None:
            raise RunError(
                f"the supervisor of {str(runs_dir)!r} ended at its start with code {code} "
                f"({_last_words(runs_dir / LOG)}); runs stay queued; mend the cause and say "
                f"'acft runs --runs {runs_dir}', which starts another; it logs to {LOG}"
            )
        time.sleep(LOOK_SECONDS)
    return f"a detached supervisor with pid {child.pid}, which is still starting,"


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def main(argv: list[str] | None = None) -> int:
    """Exit code of a detached supervisor."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    arguments = sys.argv[1:] if argv is None else argv
    Supervisor(Path(arguments[0]), role="detached").run_until_idle()
    return 0


if __name__ == "__main__":
    sys.exit(main())
