"""Measuring a run's policy anew, with any suite: choice, cost, past results."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from acft.errors import AcftError, ConfigError, RunError
from acft.eventlog import Entry
from acft.events import Phase, Progress
from acft.store.queries.answer import Slice
from acft.store.queries.runs import measurements
from acft.ui.control import Choice
from acft.ui.page import Visit, Wire, Workbench, why_not
from acft.ui.parts import measuring_choice, numbers
from acft.ui.reading.measuring import suites_of
from acft.ui.reading.reader import Run
from acft.ui.reading.states import state_chip
from acft.ui.web import words
from acft.ui.web.dom import Node, act, el

NUMBERS = {
    "prompts": (40, 1, 10_000), "continuations": (25, 1, 100), "documents": (100, 1, 10_000),
}  # fmt: skip
"""What a reader may choose: default, smallest, largest."""
BEFORE, JUDGE = "measure_", "measure_judge"
"""In the address: before the name of each suite and number, and the model that judges."""
DEFAULT_SUITES = ("rtp", "perplexity")
MAX_JUDGE_LETTERS = 300
MOST_PAST = 20
"""Earlier measurements that are listed."""
DRAWING = (Phase.EVALUATE, Phase.VALIDATE)
"""Phases of a run in which responses are drawn and judged."""
UNITS = {
    "drawn": "response", "read": "text", "answered": "question", "judged": "judged response",
}  # fmt: skip

Weighed = Mapping[str, Any]
"""What the process that knows the suites says: suites, work for all subjects, problems."""


def panel(bench: Workbench, run: Run) -> Node:
    """The way to the form."""
    if not _is_measurable(bench, run):
        return ""
    choose = el("button.do", "Choose suites and see the cost", type="button", data_patient=True,
                **act("cost"))  # fmt: skip
    return _section(el("div.actions", choose))


def form(bench: Workbench, visit: Visit, run: Run) -> Node:
    """The form with what it will cost."""
    if not _is_measurable(bench, run):
        return ""
    try:
        choice = chosen(visit, run)
        # Who may only look is not told which files there are.
        weighed = bench.control.weigh(run.run_id, choice, has_files=visit.may_change)
        cost = [_cost(bench, visit, run, weighed),
                measuring_choice.command(bench, run, choice.suites, weighed)]  # fmt: skip
    except ConfigError as error:
        weighed = bench.control.weigh(run.run_id, Choice((), {}))
        cost = [el("div.notice.bad", str(error), role="status")]
    except AcftError as error:
        return _section(el("div.notice.bad", str(error), role="alert"), is_open=True)
    counts = numbers.fields(visit, NUMBERS, "measure", "cost")
    fields = [el("div.toolbar", counts, _judge(visit)),
              *measuring_choice.fields(bench, visit, run, weighed)]  # fmt: skip
    return _section(_boxes(visit, weighed["suites"]), *fields, *cost, is_open=True)


def chosen(visit: Visit, run: Run) -> Choice:
    """What the address says is to be measured of a run, and how.

    Raises:
        ConfigError: A number is no whole number or out of range, no suite is chosen, or a further
            setting cannot be read.
    """
    counts = numbers.chosen(visit, NUMBERS, "measure")
    judge = visit.query.get(JUDGE, "").strip()
    if len(judge) > MAX_JUDGE_LETTERS:
        raise ConfigError(f"judge: {len(judge):,} letters; a model's name has fewer than that")
    suites = tuple(name for name in _asked(visit) if _is_ticked(visit, name))
    if not suites:
        raise ConfigError("nothing to measure; tick a suite")
    return Choice(
        suites, counts, judge, measuring_choice.chosen_control(visit),
        measuring_choice.chosen_scorers(visit, run), measuring_choice.chosen_changes(visit),
    )  # fmt: skip


def connect(
    bench: Workbench, wire: Wire, part: Any, find: Callable[[Workbench, Visit], Run | None]
) -> None:
    """Connects the controls of the part, a view with the acts ``cost`` and ``measure``."""

    def cost(visit: Visit) -> Node:
        run = find(bench, visit)
        return form(bench, visit, run) if run else ""

    def measure(visit: Visit) -> Node:
        run_id = str(visit.data.get("run", ""))
        run = bench.reader.run(run_id)
        if run is None:
            raise RunError(f"no run {run_id!r}; reload the page")
        choice = chosen(visit, run)
        request = bench.request_id(visit, f"{run_id} {choice}")
        queued = bench.control.measure(run_id, choice, request)
        return el("div", el("p", "Queued; opening it …"), data_goto=f"run?run={queued}")

    wire.read(part.cost, cost, outputs=[part], trigger_mode="always_last")
    wire.change(part.measure, measure, outputs=[part])


def seconds_per_response(entries: Sequence[Entry]) -> float | None:
    """How long the run itself took to draw and judge a response; None before it has."""
    seconds, n, start = 0.0, 0, None
    for entry in entries:
        event = entry.event
        if not isinstance(event, Progress) or event.phase not in DRAWING:
            continue
        if event.done == 0:
            start = entry
        elif start is not None and event.done == event.total:
            seconds, n, start = seconds + entry.time - start.time, n + event.total, None
    return seconds / n if n else None


def _is_measurable(bench: Workbench, run: Run) -> bool:
    return not bench.bind.is_demo and bool(run.history.rounds) and run.status.kind == "training"


def _section(*parts: Node, is_open: bool = False) -> Node:
    return el(
        "details.measure",
        el("summary", "Measure this policy again"),
        el("p.side", "The preferred checkpoint, its base and the control, where one is chosen, "
           "answer the same test prompts with the same random numbers. It becomes a run of its "
           "own, in the same queue."),
        *parts,
        open=is_open or None,
    )  # fmt: skip


def _asked(visit: Visit) -> list[str]:
    """Suites whose boxes were touched, and those that are ticked unless they are."""
    others = {JUDGE, measuring_choice.CONTROL, measuring_choice.CHANGES,
              *(f"{BEFORE}{name}" for name in NUMBERS)}  # fmt: skip
    touched = [key for key in visit.query if key.startswith(BEFORE) and key not in others]
    return [*dict.fromkeys([*DEFAULT_SUITES, *(key.removeprefix(BEFORE) for key in touched)])]


def _is_ticked(visit: Visit, name: str) -> bool:
    default = "true" if name in DEFAULT_SUITES else "false"
    return visit.query.get(f"{BEFORE}{name}", default) == "true"


def _judge(visit: Visit) -> Node:
    return el("label.side", "judge model ", el(
        "input", type="text", data_query=JUDGE, aria_label="judge model",
        placeholder="folder, packaged model or hub id", maxlength=str(MAX_JUDGE_LETTERS),
        value=visit.query.get(JUDGE, ""), **act("cost")))  # fmt: skip


def _boxes(visit: Visit, suites: Sequence[Mapping[str, Any]]) -> Node:
    """A box for each suite, with what it measures."""
    boxes = []
    for suite in suites:
        name, why_not = suite["name"], suite["why_not"]
        note = why_not or suite["note"]
        box = el(
            "input", type="checkbox", data_query=f"{BEFORE}{name}",
            checked=_is_ticked(visit, name) and not why_not, disabled=bool(why_not), **act("cost"),
        )  # fmt: skip
        text = el("span", el("b", name), f" {suite['summary']} ", el("span.side", note))
        boxes.append(el("label.suite", box, text))
    return el("fieldset.suites", el("legend.sr", "Suites"), boxes)


def _cost(bench: Workbench, visit: Visit, run: Run, weighed: Weighed) -> Node:
    problems = [el("div.notice.bad", text, role="status") for text in weighed["problems"]]
    button = el(
        "button.go", "Measure", type="button", disabled=not visit.may_change or bool(problems),
        data_patient=True, **act("measure", run=run.run_id, control=weighed["control"]),
    )  # fmt: skip
    each = seconds_per_response(bench.reader.entries(run.run_id))
    text = _in_words(weighed["work"], each)
    bar = el("div.launchbar", button, el("span.side", text, role="status"))
    return el("div", problems, bar, why_not(bench, visit))


def _in_words(work: Mapping[str, int], each: float | None) -> str:
    """How much work it is for all subjects, and how long if all of it goes like the run's own."""
    counts = [words.count(n, UNITS[unit]) for unit, n in work.items() if n]
    if not counts:
        return "How much work this is cannot be told in advance."
    told = f"At most {', '.join(counts)}"
    n_ours = sum(n for unit, n in work.items() if unit != "judged")
    if each is not None and n_ours:
        told += f"; about {words.duration(n_ours * each)} if each takes as long as a response of "
        told += f"this run did ({words.number(each)} s)"
        told += ", plus the judge's time" if work.get("judged") else ""
    return f"{told}, and a little more to load the models."


def mark(bench: Workbench, run: Run) -> str:
    """Changes when the way to the form does and with nothing else: it may be half filled in."""
    return f"{run.run_id} {_is_measurable(bench, run)}"


def states(bench: Workbench, run: Run) -> str:
    """The measurements of a run with their states, for telling whether one has changed."""
    found = [f"{each.run_id} {each.state.label}" for each in _measurements(bench, run)]
    return " ".join([run.run_id, *found])


def past(bench: Workbench, run: Run) -> Node:
    """The measurements of a run so far, newest first; nothing where there are none."""
    found = _measurements(bench, run)
    if not found:
        return ""
    items = [
        el("li", el("a", _measured_by(each), href=f"run?run={each.run_id}"), " ",
           state_chip(each), el("span.side", f" {each.run_id}"))
        for each in found
    ]  # fmt: skip
    return el("section", el("h3", "Measured before"), el("ul.plain", items))


def _measurements(bench: Workbench, run: Run) -> list[Run]:
    """Measurements of this run so far; none where it cannot be measured."""
    if not _is_measurable(bench, run):
        return []
    rows = measurements(bench.store, run.run_id, part=Slice(MOST_PAST)).records()
    return [past for row in rows if (past := bench.reader.run(row["run_id"])) is not None]


def _measured_by(past: Run) -> str:
    """The suites of a measurement; its id where they are not known."""
    return ", ".join(suites_of(past)) or past.run_id
