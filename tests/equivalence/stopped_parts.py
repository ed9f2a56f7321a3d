"""Stops a run at once after its first step, and prints how it ended.

Started in several processes by ``torchrun``: CONFIG RUNS.
"""

import sys
from pathlib import Path

from acft.distributed import leave, ranks
from acft.eventlog import Entry
from acft.events import Progress
from acft.runs.directory import read_status
from acft.runs.follower import follow
from acft.runs.launcher import create_here
from acft.runs.spec import load_spec
from acft.runs.worker import run_worker


def main(config: str, runs: str) -> None:
    """Print one line."""
    spec = load_spec(Path(config))
    if ranks().rank > 0:
        follow(spec)
    else:
        paths = create_here(Path(runs), spec)

        def stop(entry: Entry) -> None:
            if isinstance(entry.event, Progress) and entry.event.phase == "fit_policy":
                paths.stop_request.write_text("now")

        code = run_worker(paths, stop)
        status = read_status(paths)
        sys.stdout.write(f"{status.state} in step {status.step} with {code}\n")
    leave()


if __name__ == "__main__":
    main(*sys.argv[1:])
