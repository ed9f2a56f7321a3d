"""Stops runs at once, each in the first round's first part of a phase, and prints how they ended.

Started in several processes: CONFIG RUNS PHASE...
"""

import sys
from pathlib import Path

from acft.distributed import leave, ranks
from acft.eventlog import Entry
from acft.events import Progress
from acft.runs.directory import read_status
from acft.runs.follower import follow
from acft.runs.launcher import create_here
from acft.runs.spec import Spec, load_spec
from acft.runs.worker import StartingPoint, run_worker


def main(config: str, runs: str, *phases: str) -> None:
    """Print one line for each phase."""
    spec = load_spec(Path(config))
    for phase in phases:
        if ranks().rank > 0:
            follow(spec, StartingPoint())
        else:
            sys.stdout.write(f"{_stopped(spec, Path(runs) / phase, phase)}\n")
    leave()


def _stopped(spec: Spec, runs: Path, phase: str) -> str:
    paths = create_here(runs, spec)

    def stop(entry: Entry) -> None:
        if isinstance(entry.event, Progress) and entry.event.phase == phase:
            paths.stop_request.write_text("now")

    code = run_worker(paths, stop)
    status = read_status(paths)
    where = f"{status.phase} {status.phase_done} of {status.phase_total}"
    return f"{status.state} in step {status.step}, {where}, with {code}"


if __name__ == "__main__":
    main(*sys.argv[1:])
