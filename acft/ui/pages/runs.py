"""Runs: every run with its true state, the way into the first one, and several compared."""

import math
from typing import Any
from weakref import WeakKeyDictionary

import gradio as gr

from acft.errors import AcftError
from acft.schema import Status
from acft.settings import ScheduleSettings
from acft.store.queries.runs import settings_difference
from acft.ui.control import preset, preset_names
from acft.ui.page import PAGES, POLL_SECONDS, Page, Visit, Wire, Workbench, pace, why_not
from acft.ui.parts import labels
from acft.ui.parts.demonstration import is_recorded, welcome
from acft.ui.parts.frame import empty, title
from acft.ui.parts.run_head import changed, measured_run
from acft.ui.reading.names import run_names
from acft.ui.reading.quantities import SATISFIED, SHARE, quantity
from acft.ui.reading.reader import Run, table_of
from acft.ui.reading.states import state_chip
from acft.ui.web import charts, words
from acft.ui.web.dom import (
    Node,
    act,
    chart,
    el,
    notice,
    sent,
    sparkline,
    sql_behind,
    table,
    view,
)
from acft.ui.web.pager import PART, current_page, pager

QUICKSTART = "quickstart"
OVERLAID = (SATISFIED, "policy/kl_guided_policy", "policy/ce")
MOST_COMPARED = 6
PER_PAGE = 100
ROWS: WeakKeyDictionary[Run, dict[tuple[bool, bool], list[Node]]] = WeakKeyDictionary()
"""Rows already made; a run that changes is another object."""
FIRST = (
    "The quickstart tunes a small pretrained language model on this computer, without an account "
    "or a graphics card: five to ten minutes on two processor cores, longer on fewer or busy ones. "
    "You watch its toxicity fall, see which tokens change, and read its texts beside those of the "
    "untouched model."
)


def overview(bench: Workbench, visit: Visit, runs: list[Run] | None = None) -> Node:
    """The table of runs, or what to do when there is none; they are read unless they are given."""
    runs = bench.reader.runs() if runs is None else runs
    if not runs:
        return el("div", _first(bench, visit), empty("No runs yet.", "They appear here, live."))
    is_new_here = all(map(is_recorded, runs))
    shown = [
        run
        for run in runs
        if labels.belongs(run, visit) and _matches(run, visit.query.get("find", ""))
    ]
    columns = (
        el("span.sr", "Compare"), "Run", "State", "Round", quantity(SATISFIED).label,
        "KL(guided ‖ policy)", "Time", "Left",
    )  # fmt: skip
    selected = ticked(visit)
    first = current_page(visit.query, len(shown), PER_PAGE) * PER_PAGE
    rows = [_row(r, visit, r.run_id in selected) for r in shown[first : first + PER_PAGE]]
    return el(
        "div",
        el("div.heroes", welcome(runs[0]), _first(bench, visit)) if is_new_here else None,
        _tools(bench, visit, runs, len(shown), has_hero=is_new_here),
        table(columns, rows, caption="Runs, newest first", numeric={6, 7})
        if rows
        else empty("No run passes these filters.", el("a", "Show all runs", href="./")),
        pager("./", visit.query, len(shown), PER_PAGE) if len(shown) > PER_PAGE else None,
    )


def _first(bench: Workbench, visit: Visit) -> Node | None:
    if QUICKSTART not in preset_names(bench.experiments) or bench.bind.is_demo:
        return None
    return el(
        "div.hero", el("h2", "Your first own run"), el("p", FIRST), _quickstart(visit, "go"),
        why_not(bench, visit),
    )  # fmt: skip


def _quickstart(visit: Visit, kind: str) -> Node:
    return el(
        f"button.{kind}", "Start the quickstart run", type="button",
        disabled=not visit.may_change, data_patient=True, **act("quickstart"),
    )  # fmt: skip


def _tools(
    bench: Workbench, visit: Visit, runs: list[Run], n_shown: int, *, has_hero: bool
) -> Node:
    n_all = len(runs)
    search = el(
        "input", type="search", placeholder="Find by name, id, method, setting, note",
        data_query="find", value=visit.query.get("find", ""), aria_label="Find runs",
        maxlength="80", data_clear=PART, **act("refresh"),
    )  # fmt: skip
    number = words.count(n_all, "run") if n_shown == n_all else f"{n_shown} of {n_all} runs"
    buttons: list[Node] = []
    if not bench.bind.is_demo:
        if QUICKSTART in preset_names(bench.experiments) and not has_hero:
            buttons += filter(None, [why_not(bench, visit), _quickstart(visit, "do")])
        buttons.append(el("a.go", "New run", href="launch"))
    there = {run.run_id for run in runs}
    absent = [name for name in ticked(visit) if name not in there]
    n_ticked = len(ticked(visit)) - len(absent)
    told = "tick two or more to compare them"
    if n_ticked > MOST_COMPARED:
        told = f"only the first {MOST_COMPARED} of {n_ticked} ticked runs are compared"
    if absent:
        told = f"there is no run {' or '.join(map(repr, absent))} here; {told}"
    hint = el("span.side", number, f" · {told}")
    menus = [labels.tag_menu(runs, visit), labels.archived_box(runs, visit)]
    return el("div.toolbar", search, menus, hint, el("div.actions", buttons))


def _matches(run: Run, wanted: str) -> bool:
    text = " ".join([run.title, run.run_id, run.method, run.state.label, run.labels.notes,
                     run.launch.sweep, *run.launch.overrides, *run.labels.tags])  # fmt: skip
    return all(word in text.lower() for word in wanted.lower().split())


def _row(run: Run, visit: Visit, selected: bool) -> list[Node]:  # noqa: FBT001
    rows = ROWS.setdefault(run, {})
    kind = (visit.may_change, selected)
    if kind not in rows:
        rows[kind] = _new_row(run, visit, selected)
    return rows[kind]


def _new_row(run: Run, visit: Visit, selected: bool) -> list[Node]:  # noqa: FBT001
    history, run_id = run.history, run.run_id
    satisfied = [point.value for point in history.scalars.get(SATISFIED, [])]
    kl = [point.value for point in history.scalars.get("policy/kl_guided_policy", [])]
    ended = run.status.ended or run.status.heartbeat
    spent = ended - run.status.started if run.status.started else None
    return [
        el("input", type="checkbox", name=run_id, checked=selected, key=run_id,
           data_member="select", aria_label=f"Compare {run.title}", **act("refresh")),
        el("div.titled", el("a", run.title, href=f"run?run={run_id}"), " ", labels.chips(run),
           el("span.sub", f"{run_id} · {run.method or 'not started'}", changed(run),
              measured_run(run)),
           labels.notes(run), labels.editor(run, visit), key=run_id),
        el("span", state_chip(run), _reason(run)),
        el("span", f"{run.status.round} of {_rounds(run)}",
           el("span.sub", f"step {run.status.step:,}" if run.status.kind == "training"
              else "parts")),
        _trend(satisfied, "satisfaction", words.percent(satisfied[-1] if satisfied else None)),
        _trend(kl, "KL(guided ‖ policy)", f"{words.number(kl[-1])} nats" if kl else words.DASH),
        words.duration(spent),
        _left(run.status) if run.state.is_live else "",
    ]  # fmt: skip


def _rounds(run: Run) -> str:
    """Rounds of the run, those of its settings until it has begun."""
    asked = table_of(run.settings, "schedule").get("rounds", ScheduleSettings().rounds)
    return str(run.status.rounds or (asked if run.status.kind == "training" else "?"))


def _left(status: Status) -> Node:
    """Time until the end, or until that of the present part while only that can be told."""
    part = status.phase_seconds_left
    if status.seconds_left is not None or part is None:
        return words.duration(status.seconds_left)
    return el("span", words.duration(part), el("span.sub", "of this part"))


def _reason(run: Run) -> Node | None:
    is_plain = run.state.state in ("finished", "running") and not run.state.is_stalled
    text = "" if is_plain else run.state.message or run.status.message
    return el("span.sub.reason", text if len(text) < 90 else text[:89] + "…") if text else None


def _trend(values: list[float], label: str, last: str) -> Node:
    if not values:
        return words.DASH
    return el("span.trend", sparkline(values, label), el("span.num", last, title=_moved(values)))


def _moved(values: list[float]) -> str:
    """In which direction a quantity went since it was first measured."""
    if len(values) < 2:
        return "measured once"
    way = "up" if values[-1] > values[0] else "down" if values[-1] < values[0] else "unchanged"
    return f"{way} since the first of {len(values):,} values"


def ticked(visit: Visit) -> list[str]:
    """Runs ticked for comparison, each once, the first one first."""
    return list(dict.fromkeys(filter(None, visit.query.get("select", "").split(","))))


def chosen(bench: Workbench, visit: Visit) -> list[str]:
    """The ticked runs that are compared; what is no run here is left out."""
    return [name for name in ticked(visit) if bench.reader.paths(name)][:MOST_COMPARED]


def overlay(bench: Workbench, visit: Visit, name: str) -> charts.Figure:
    """One quantity of the ticked runs in one figure."""
    found = [run for run in map(bench.reader.run, chosen(bench, visit)) if run is not None]
    names = run_names(bench.reader, found)
    curves = [
        charts.Line(
            names[run.run_id],
            [point.step for point in run.history.scalars.get(name, [])],
            [point.value for point in run.history.scalars.get(name, [])],
            charts.PALETTE[index % len(charts.PALETTE)],
        )
        for index, run in enumerate(found)
    ]
    described = quantity(name)
    height = 200 + 20 * len(curves)  # a legend has a line for each run
    return charts.lines(curves, described.label, share=described.unit == SHARE, height=height)


def differences(bench: Workbench, visit: Visit) -> Node:
    """Settings in which the ticked runs differ.

    One that waits has recorded no defaults yet, and would seem to differ in all of them.
    """
    found = [run for run in map(bench.reader.run, chosen(bench, visit)) if run is not None]
    if len(found) < 2:
        return ""
    started = [run for run in found if run.paths.resolved.exists()]
    waiting = [run for run in found if started and run not in started]
    later = [el("p.side", f"{' and '.join(run.run_id for run in waiting)} will be compared when "
                "started.")] if waiting else []  # fmt: skip
    found = started or found
    run_ids = [run.run_id for run in found]
    titles = [el("span", run.title, el("span.sub", f" {run.run_id}")) for run in found]
    asked = settings_difference(bench.store, run_ids)
    rows = [
        [el("code", str(row["setting"])), *[_value(row.get(run_id)) for run_id in run_ids]]
        for row in asked.records()
    ]
    body: Node = el("p.side", "Their settings are the same.") if len(found) > 1 else ""
    if rows and len(found) > 1:
        body = el("div.named", table(["Setting", *titles], rows, caption="Settings that differ"),
                  sql_behind("table", asked.sql))  # fmt: skip
    return el("section", el("h2", "Settings that differ"), later, body)


def _value(value: Any) -> Node:
    return el("span.mono", words.DASH if value is None else str(value))


def start_quickstart(bench: Workbench, visit: Visit) -> Node:
    """Launches the packaged preset and leads to the run's page."""
    text = preset(bench.experiments, QUICKSTART)
    run_id = bench.control.launch(text, bench.request_id(visit, text), experiment=QUICKSTART)
    return el("div", el("p.side", "Started; opening the run …"), data_goto=f"run?run={run_id}")


Shown = tuple[int, float]
"""What a tab has of the table, as a hash, and how often it asks."""


def news(bench: Workbench, visit: Visit, last: Shown | None) -> list[Any]:
    """Table, timer and what the tab then has; each only where it has changed."""
    runs = bench.reader.runs()
    table_now, seconds = overview(bench, visit, runs), pace(runs)
    now = hash(sent(table_now)), seconds
    if now == last:
        return [gr.skip()] * 3
    timer = gr.skip() if last and last[1] == seconds else gr.Timer(seconds)
    return [table_now, timer, now]


Progress = tuple[tuple[str, str, int, int, float], ...]
"""How far each compared run is; figures are drawn anew when it changes."""


def progress(bench: Workbench, visit: Visit) -> Progress:
    """State, rounds and, to a hundredth part of them, events of the compared runs."""
    names = chosen(bench, visit)
    if len(names) < 2:
        return ()
    found = [run for run in map(bench.reader.run, names) if run is not None]
    return tuple((run.run_id, run.state.label, len(run.history.rounds), len(run.settings),
                  math.log1p(run.history.n_events) // 0.01) for run in found)  # fmt: skip


def compare(bench: Workbench, visit: Visit, before: Progress | None = None) -> list[Any]:
    """How far the compared runs are, whether there are any, their figures and differences.

    What they had drawn when they were as far as ``before`` stays.
    """
    now, several = progress(bench, visit), len(chosen(bench, visit)) > 1
    if now == before:
        return [gr.skip()] * (3 + len(OVERLAID))
    figures = [overlay(bench, visit, name) if several else None for name in OVERLAID]
    return [now, gr.Row(visible=several), *figures, differences(bench, visit)]


def _build(bench: Workbench, wire: Wire) -> None:
    view(title("Runs", "Every run on this machine, as it really is."))
    board = view(acts=("refresh", "quickstart", "relabel", "look"))
    with gr.Row(visible=False) as row:
        plots = []
        for name in OVERLAID:
            with gr.Column(min_width=300):
                view(el("div.figure-title", el("b", quantity(name).label)))
                plots.append(chart())
    settings = view()
    timer, shown = gr.Timer(POLL_SECONDS), gr.State(None)
    beside = [gr.State(None), row, *plots, settings]

    def show(visit: Visit) -> list[Any]:
        return [overview(bench, visit), *compare(bench, visit)]

    def tick(visit: Visit, last: Shown | None, before: Progress | None) -> list[Any]:
        try:
            return [*news(bench, visit, last), *compare(bench, visit, before)]
        except AcftError as error:  # which the next turn draws over, though the table is the same
            return [notice(error), gr.skip(), None, *[gr.skip() for _ in beside]]

    def quickstart(visit: Visit) -> Node:
        return start_quickstart(bench, visit)

    def relabel(visit: Visit) -> Node:
        bench.control.label(str(visit.data.get("run", "")), **labels.changes(visit.data))
        return overview(bench, visit)

    wire.on_load(show, outputs=[board, *beside])
    for event in (timer.tick, board.look):
        wire.read(event, tick, inputs=[shown, beside[0]], outputs=[board, timer, shown, *beside])
    wire.read(board.refresh, show, outputs=[board, *beside], trigger_mode="always_last")
    wire.change(board.quickstart, quickstart, outputs=[board])
    wire.change(board.relabel, relabel, outputs=[board], trigger_mode="multiple")


PAGES.add("runs")(Page("Runs", "", 10, _build))
