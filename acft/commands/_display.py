"""Progress of a run in the terminal, drawn from its events."""

import logging
import sys
import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from acft import events
from acft.commands._options import on
from acft.commands._results import Results
from acft.costs import bill, bill_in_words
from acft.distributed import leave, ranks
from acft.eventlog import Entry, effective, read_events
from acft.runs import worker
from acft.runs.directory import read_status
from acft.runs.follower import follow
from acft.runs.pace import Pace
from acft.runs.spec import Spec
from acft.schema import RunPaths

SHOWN = ("policy/ce", "policy/kl_guided_policy", "rollout/satisfaction")
"""Curves worth a line of text, where a method reports them."""

VALIDATED = {
    "rollout/satisfaction": "satisfaction",
    "utility/perplexity_validation": "perplexity",
    "policy/kl_policy_base": "KL(policy || base)",
}
"""What a finished round says of itself, on validation prompts and texts."""

INTERRUPTED = 130
LOG_SECONDS = 30.0
"""Between two lines about the same phase in a log file."""


def do_here(begin: Callable[[], RunPaths], spec: Spec) -> int:
    """Exit code after doing a run in this process, with its progress drawn.

    Ctrl-C saves and stops, a second one stops at once. Started several times over by ``torchrun``
    or ``accelerate launch``, the first process is the run and the others do their part of its work;
    a run that is stopped ends all of them with 0, since a launcher takes another code for a
    failure.

    Args:
        begin: Makes the run's directory, or claims it; asked by the first process alone.
        spec: What that run is about.
    """
    team = ranks()
    if team.rank > 0:
        follow(spec, team.from_first(worker.StartingPoint()))
        code, has_failed = worker.DONE, False
    else:
        paths = begin()
        team.from_first(worker.starting_point(paths, read_status(paths)))
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
        rounds = spec.settings.schedule.rounds
        # a worker goes to where its run's names start, and another run's may start here
        with chdir(Path.cwd()), Display(spec.title, paths, rounds) as display:
            ended = worker.run_worker(paths, display.show)
        code = display.report(ended)
        # interrupted within a step, it has left the others waiting for their part of it
        has_failed = ended != worker.DONE or bool(read_status(paths).message)
    if has_failed or team.size == 1:  # after a failure the launcher ends the others
        return code
    leave()
    return worker.DONE


class Display:
    """Two bars, rounds and the current phase, with rate and time left; results above them."""

    def __init__(self, title: str, paths: RunPaths, rounds: int) -> None:
        self._paths = paths
        self._console = Console(file=sys.stderr)
        self._pace = Pace(rounds)
        self._bars = Progress(
            TextColumn("{task.description:<14}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:>14}"), TimeElapsedColumn(), TextColumn("left"),
            TimeRemainingColumn(), console=self._console, transient=True,
        )  # fmt: skip
        self._console.print(f"{title}: {paths.root}", highlight=False, markup=False)
        self._rounds: TaskID = self._bars.add_task("rounds", total=rounds, rate="")
        self._phase: TaskID = self._bars.add_task(events.Phase.LOAD, total=None, rate="")
        self._phase_name = ("", 0)
        self._logged, self._log_next = ("", 0), 0.0
        self._results = Results()
        self._latest: dict[str, float] = {}

    def __enter__(self) -> "Display":
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def show(self, entry: Entry) -> None:
        """Draws an event."""
        event = entry.event
        if isinstance(event, events.Progress):
            self._show_progress(event)
        elif isinstance(event, events.RoundFinished):
            self._pace.round_finished()
            self._bars.update(self._rounds, completed=event.round)
            self._say(f"round {event.round} sealed in {event.checkpoint}{self._validated()}")
        elif isinstance(event, events.Note):
            self._say(f"{event.level}: {event.text}")
        elif isinstance(event, events.Evaluated):
            self._results.add(event)
        elif isinstance(event, events.Scalars):
            self._latest |= event.values
            shown = [f"{name} {event.values[name]:.4g}" for name in SHOWN if name in event.values]
            if shown:
                self._bars.update(self._phase, rate=shown[0])

    def report(self, code: int) -> int:
        """The exit code, after a last line that says how the run ended."""
        status = read_status(self._paths)
        reason = f" ({status.failure})" if status.failure else ""
        if (table := self._results.table()) is not None:
            self._console.print(table)
        entries = effective(read_events(self._paths.events))
        if costs := bill_in_words(bill(entry.event for entry in entries)):
            self._say(f"spent: {costs}")
        self._say(f"{self._paths.root.name} {status.state}{reason}")
        if status.failure:
            self._console.print(f"error: {status.message}", style="red", markup=False)
            self._say(f"advice: {status.advice}")
        if status.state == "stopped":
            self._say(
                f"continue with: acft resume {on(self._paths.root.name, self._paths.root.parent)}"
            )
            return INTERRUPTED
        return code

    def _show_progress(self, event: events.Progress) -> None:
        self._pace.progress(event)
        if not self._console.is_terminal:
            self._log_progress(event)
        if self._phase_name != (event.phase, event.round):
            self._phase_name = (event.phase, event.round)
            self._bars.reset(self._phase, total=event.total, description=event.phase)
        rate = f"{self._pace.rate:.3g} {event.unit}/s" if self._pace.rate else ""
        self._bars.update(self._phase, completed=event.done, total=event.total, rate=rate)

    def _log_progress(self, event: events.Progress) -> None:
        """A line in a log, where bars cannot be drawn: at each phase, and now and then within."""
        now = time.monotonic()
        if self._logged == (event.phase, event.round) and now < self._log_next:
            return
        self._logged, self._log_next = (event.phase, event.round), now + LOG_SECONDS
        total = f"/{event.total}" if event.total else ""
        rate = f", {self._pace.rate:.3g} {event.unit}/s" if self._pace.rate else ""
        where = f"round {event.round}, " if event.round else ""
        self._say(f"{where}{event.phase} {event.done}{total}{rate}")

    def _validated(self) -> str:
        shown = [
            f"{title} {self._latest[n]:.4g}" for n, title in VALIDATED.items() if n in self._latest
        ]
        return f": {', '.join(shown)}" if shown else ""

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)
