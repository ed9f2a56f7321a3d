"""Trains from the command line and is stopped in the first step; ends as the command does.

Started in several processes: request|interrupt CONFIG RUNS
"""

import os
import signal
import sys
from collections.abc import Callable

from acft.__main__ import main
from acft.distributed import ranks
from acft.eventlog import Entry
from acft.events import Progress
from acft.runs import worker
from acft.schema import RunPaths


def run(way: str, config: str, runs: str) -> int:
    """Exit code of the command."""
    processes = ranks().joined([os.getpid()])
    do_run = worker.run_worker

    def stopped(paths: RunPaths, listen: Callable[[Entry], None]) -> int:
        asked = []

        def stop(entry: Entry) -> None:
            listen(entry)
            event = entry.event
            if asked or not isinstance(event, Progress) or event.phase != "fit_policy":
                return
            asked.append(way)
            if way == "request":
                paths.stop_request.write_text("save")
            else:  # as a terminal does, which tells all of them
                for process in processes:
                    os.kill(process, signal.SIGINT)

        return do_run(paths, stop)

    worker.run_worker = stopped
    return main(["train", config, "--runs", runs])


if __name__ == "__main__":
    sys.exit(run(*sys.argv[1:]))
