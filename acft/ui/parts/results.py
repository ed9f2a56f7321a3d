"""What suites measured, as a table: the plain numbers first, parts of them below."""

from collections.abc import Sequence
from functools import partial

from acft.events import Evaluated
from acft.runs.status import RESUMABLE
from acft.ui.reading.measuring import goes_on
from acft.ui.reading.pairs import Subject
from acft.ui.reading.quantities import AT, SHARE, comparison, measured, place
from acft.ui.reading.reader import Run
from acft.ui.web import words
from acft.ui.web.dom import Node, el, table, unbroken

PER_CENT = 100
DETAILS = ("agreement_", AT)
"""Beginnings of metrics that a first look can do without, as it can without single categories."""


def results(run: Run) -> Node:
    """Every measured value with unit, interval and n."""
    found = in_order(run.history.evaluations)
    rest = [e for e in found if _is_detail(e.metric)]
    main = [e for e in found if not _is_detail(e.metric)]
    if not main:
        return _table(found)
    summary = el("summary", f"Categories, thresholds, agreement of scorers ({len(rest)})")
    return el("div", _table(main), el("details", summary, _table(rest)) if rest else None)


def in_order(found: Sequence[Evaluated]) -> list[Evaluated]:
    """Suite by suite, each number of all policies and its comparisons beside each other."""
    heads = [*dict.fromkeys(e.suite.partition("/")[0] for e in found)]
    return sorted(found, key=lambda e: (
        heads.index(e.suite.partition("/")[0]), place(e.metric), e.suite))  # fmt: skip


def first_results(run: Run) -> Node:
    """The results of an evaluation, as the first thing its page is about."""
    if not run.history.evaluations:
        return el("p.side", _why_none(run))
    return el("div", el("h2", "Results"), results(run))


def _why_none(run: Run) -> str:
    """Whether results are still to come."""
    if goes_on(run):
        return "Results appear here as soon as the first suite is through."
    if run.state.state in RESUMABLE:
        return "No suite has measured anything; results can come only when the run is resumed."
    return "No suite has measured anything."


def _is_detail(metric: str) -> bool:
    return "@" in metric or metric.startswith(DETAILS)


def _table(found: Sequence[Evaluated]) -> Node:
    rows = [
        [el("span", measured(e.metric).label, el("span.sub", _origin(e))),
         Subject(e.subject, e.policy_version).label if e.policy_version else e.subject,
         el("span", value(e), el("span.sub", unbroken(_certainty(e))))]
        for e in found
    ]  # fmt: skip
    grid = table(["Measured", "Policy", "Value"], rows, caption="Measured values", numeric={2})
    return el("div.fits", grid)


def _origin(e: Evaluated) -> str:
    """The suite with its scorer, texts or task, and the unit of the value."""
    unit = measured(e.metric).unit
    ending = comparison(e.metric)
    if ending == "_difference":
        unit = "percentage points" if unit == SHARE else unit
        unit = f"{unit}, against base".removeprefix(", ")
    elif ending:
        unit = "relative to base"
    return " · ".join(filter(None, [e.suite, unit]))


def value(e: Evaluated) -> str:
    """A measured value as people read it: shares and relative changes in percent."""
    return _said(e, e.value)


def _certainty(e: Evaluated) -> list[str]:
    """The 95 % interval and n."""
    return [words.ends(e.low, e.high, partial(_said, e), " to "), f"n = {e.n:,}"]


def _said(e: Evaluated, number: float | None) -> str:
    ending, is_share = comparison(e.metric), measured(e.metric).unit == SHARE
    if number is None or not ending:
        return words.percent(number) if is_share else words.number(number)
    sign = "+" if number > 0 else ""
    if ending == "_difference":
        return sign + words.number(PER_CENT * number if is_share else number)
    return f"{sign}{words.percent(number)}"
