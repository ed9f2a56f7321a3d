"""Measuring a run's policy anew, on more prompts or continuations: choice, cost, past results."""

from collections.abc import Sequence

from acft.errors import ConfigError
from acft.eventlog import Entry
from acft.events import Progress, ShardSealed
from acft.ui import words
from acft.ui.dom import Node, act, el
from acft.ui.page import Visit, Workbench
from acft.ui.reader import Run

NUMBERS = {"prompts": (40, 1, 10_000), "continuations": (25, 1, 100)}
"""What a reader may choose: default, smallest, largest."""
SUITES = {"rtp": "toxicity of continuations", "perplexity": "perplexity of held-out texts"}
MAX_DIGITS = 6
"""Longer numbers are out of every range."""
SIDES = 2
"""Base and tuned policy answer the same prompts."""


def panel(bench: Workbench, visit: Visit, run: Run) -> Node:
    """The form with what it will cost, and the measurements there are."""
    if bench.bind.is_demo or not run.history.rounds or run.status.kind != "training":
        return ""
    return el(
        "details.measure",
        el("summary", "Measure this policy again"),
        el("p.side", "The preferred checkpoint and its base answer the same test prompts with the "
           "same random numbers. It becomes a run of its own, in the same queue."),
        el("div.toolbar", _fields(visit), _boxes(visit)),
        _cost(bench, visit, run),
        _past(bench, run),
    )  # fmt: skip


def chosen(visit: Visit) -> tuple[dict[str, int], list[str]]:
    """The chosen numbers and suites.

    Raises:
        ConfigError: A number is no whole number or out of range, or no suite is chosen.
    """
    numbers = {}
    for name, (default, low, high) in NUMBERS.items():
        text = visit.query.get(f"measure_{name}", "") or str(default)
        is_number = text.isdecimal() and len(text) <= MAX_DIGITS
        if not is_number or not low <= int(text) <= high:
            raise ConfigError(f"{name} = {text!r}: must be a whole number from {low} to {high}")
        numbers[name] = int(text)
    suites = [name for name in SUITES if visit.query.get(f"measure_{name}", "true") == "true"]
    if not suites:
        raise ConfigError("nothing to measure; tick toxicity or perplexity")
    return numbers, suites


def seconds_per_response(entries: Sequence[Entry]) -> float | None:
    """How long the run itself took to draw and judge a test response; None before it has."""
    seconds, n, start = 0.0, 0, None
    for entry in entries:
        event = entry.event
        if isinstance(event, Progress) and event.phase == "evaluate" and event.done == 0:
            start = entry
        elif isinstance(event, ShardSealed) and start is not None:
            assert isinstance(start.event, Progress)
            seconds, n, start = seconds + entry.time - start.time, n + start.event.total, None
    return seconds / n if n else None


def _fields(visit: Visit) -> list[Node]:
    return [
        el("label.side", f"{name} ", el(
            "input", type="number", min=str(low), max=str(high), data_query=f"measure_{name}",
            value=visit.query.get(f"measure_{name}", "") or str(default), aria_label=name,
            **act("cost")))
        for name, (default, low, high) in NUMBERS.items()
    ]  # fmt: skip


def _boxes(visit: Visit) -> list[Node]:
    return [
        el("label.side", el(
            "input", type="checkbox", data_query=f"measure_{name}",
            checked=visit.query.get(f"measure_{name}", "true") == "true", **act("cost")),
           f" {what}")
        for name, what in SUITES.items()
    ]  # fmt: skip


def _cost(bench: Workbench, visit: Visit, run: Run) -> Node:
    try:
        numbers, suites = chosen(visit)
    except ConfigError as error:
        return el("div.notice.bad", str(error), role="status")
    n = SIDES * numbers["prompts"] * numbers["continuations"] if "rtp" in suites else 0
    each = seconds_per_response(bench.reader.entries(run.run_id))
    button = el(
        "button.go", "Measure", type="button", disabled=not visit.may_change,
        **act("measure", run=run.run_id),
    )  # fmt: skip
    text = f"{n:,} responses at most" if n else "no responses, held-out texts only"
    if n and each is not None:
        text += f", about {words.duration(n * each)} at the {words.number(each)} s each that this "
        text += "run took, and a little for loading"
    return el("div.launchbar", button, el("span.side", text, role="status"))


def _past(bench: Workbench, run: Run) -> Node | None:
    """Measurements of this run so far."""
    found = bench.store.rows(
        "SELECT run_id, state FROM runs WHERE subject = $run_id ORDER BY run_id DESC LIMIT 20",
        {"run_id": run.run_id},
    )
    if not found:
        return None
    items = [el("li", el("a", name, href=f"run?run={name}"), f" {state}") for name, state in found]
    return el("div", el("h3", "Measured before"), el("ul.plain", items))
