"""Measurements of a run as one table for the terminal."""

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import PurePath

from rich import box
from rich.markup import escape
from rich.table import Table

from acft.events import BEYOND_CONTROL, CHANGE, DIFFERENCE, Evaluated
from acft.statistics import brackets

SIDE_BY_SIDE = 2
"""More columns than that do not fit a terminal of 80 letters with their intervals."""
AT = "_at_"
"""Before the threshold in the name of a share at another threshold than 0.5."""


class Results:
    """Collects measurements: one row a metric with two subjects side by side, else a row each."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], dict[str, Evaluated]] = {}
        self._changes: dict[str, dict[tuple[str, str, str], Evaluated]] = {
            CHANGE: {},
            BEYOND_CONTROL: {},
        }
        self._subjects: list[str] = []

    def add(self, event: Evaluated) -> None:
        """Take a measurement; those of one category or another threshold are left out."""
        # differences are for the screen, which has room; here they would bury the rest
        if "@" in event.metric or AT in event.metric or event.metric.endswith(DIFFERENCE):
            return
        for kind, events in self._changes.items():
            if event.metric.endswith(kind):
                events[event.suite, event.metric.removesuffix(kind), event.subject] = event
                return
        self._values.setdefault((event.suite, event.metric), {})[event.subject] = event
        if event.subject not in self._subjects:
            self._subjects.append(event.subject)

    def table(self) -> Table | None:
        """Everything taken; None without any."""
        if not self._values:
            return None
        is_wide = len(self._subjects) <= SIDE_BY_SIDE
        table = Table(box=box.SIMPLE_HEAD, caption=self._caption(), caption_justify="left")
        table.add_column("suite, metric", no_wrap=True)
        values = self._subjects if is_wide else ["subject", "value"]
        heads = {CHANGE: "change", BEYOND_CONTROL: "beyond control"}
        for head in [*values, *(heads[kind] for kind, events in self._changes.items() if events)]:
            table.add_column(head, justify="right", overflow="fold")
        for suite, metrics in groupby(sorted(self._values), key=itemgetter(0)):
            table.add_row(f"[bold]{escape(_short(suite))}")
            for key in metrics:
                for cells in [self._side_by_side(key)] if is_wide else self._one_below_other(key):
                    table.add_row(*cells)
        return table

    def _side_by_side(self, key: tuple[str, str]) -> list[str]:
        """The metric, its value for every subject, and the change of the last."""
        cells = [_value(self._values[key].get(subject)) for subject in self._subjects]
        return [f"  {escape(key[1])}", *cells, *self._change(key, self._subjects[-1])]

    def _one_below_other(self, key: tuple[str, str]) -> Iterator[list[str]]:
        """A row for each subject: the metric once, subject, value, change."""
        name = f"  {escape(key[1])}"
        for subject in filter(self._values[key].__contains__, self._subjects):
            value = _value(self._values[key][subject])
            yield [name, escape(subject), value, *self._change(key, subject)]
            name = ""

    def _change(self, key: tuple[str, str], subject: str) -> list[str]:
        return [_change(events.get((*key, subject))) for events in self._changes.values() if events]

    def _caption(self) -> str:
        events = [event for values in self._values.values() for event in values.values()]
        counts = {event.n for event in events if event.value is not None}
        if not counts:
            return "nothing was there to measure"
        sizes = str(min(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
        return f"95 % intervals over {sizes} prompts or documents"


def _short(suite: str) -> str:
    """The suite, with a corpus that is a file by its name alone."""
    kind, slash, source = suite.partition("/")
    return f"{kind}{slash}{PurePath(source).name}"


def _value(event: Evaluated | None) -> str:
    if event is None or event.value is None:
        return "-"
    return f"{event.value:.4g}{_interval(event, '{:.3g}')}"


def _change(event: Evaluated | None) -> str:
    if event is None or event.value is None:
        return "-"
    return f"{event.value:+.0%}{_interval(event, '{:+.0%}')}"


def _interval(event: Evaluated, form: str) -> str:
    # Without a space inside, a narrow column breaks before the interval and never in it.
    span = brackets(event.low, event.high, form.format, between=",")
    return " " + span.replace("[", "\\[") if span else ""
