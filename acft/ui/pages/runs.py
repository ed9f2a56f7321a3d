"""Runs: every run with its true state, and the way into the first one."""

from collections.abc import Sequence

import gradio as gr

from acft.ui import words
from acft.ui.dom import Node, act, el, sparkline, table, view
from acft.ui.frame import empty, title
from acft.ui.page import PAGES, Page, Visit, Wire, Workbench
from acft.ui.reader import Run
from acft.ui.states import state_chip

POLL_SECONDS = 2.0
SATISFACTION = ("validation/satisfaction", "rollout/satisfaction")


def overview(bench: Workbench, visit: Visit) -> Node:
    """The table of runs, or what to do when there is none."""
    runs = bench.reader.runs()
    if not runs:
        return empty(
            "No runs yet.",
            "The quickstart tunes a small pretrained model on this computer in about ten minutes: "
            "its toxicity falls while you watch.",
        )
    columns: Sequence[str] = (
        "Run", "State", "Round", "Satisfaction", "KL(guided ‖ policy)", "Time", "Left", "",
    )  # fmt: skip
    rows = [_row(run, visit) for run in runs]
    return table(list(columns), rows, caption="Runs, newest first", numeric={5, 6})


def _row(run: Run, visit: Visit) -> list[Node]:
    history = run.history
    name = next((n for n in SATISFACTION if n in history.scalars), SATISFACTION[0])
    satisfied = [point.value for point in history.scalars.get(name, [])]
    kl = [point.value for point in history.scalars.get("policy/kl_guided_policy", [])]
    ended = run.status.ended or run.status.heartbeat
    spent = ended - run.status.started if run.status.started else None
    return [
        el("span", el("a", run.title, href=f"run?run={run.run_id}"),
           el("span.sub", f"{run.run_id} · {run.method or 'not started'}")),
        state_chip(run),
        el("span", f"{run.status.round} of {run.status.rounds or '?'}",
           el("span.sub", f"step {run.status.step}")),
        _trend(satisfied, "satisfaction", words.percent(satisfied[-1] if satisfied else None)),
        _trend(kl, "KL(guided ‖ policy)", f"{words.number(kl[-1])} nats" if kl else words.DASH),
        words.duration(spent),
        words.duration(run.status.seconds_left) if run.state.is_live else "",
        _actions(run, visit),
    ]  # fmt: skip


def _trend(values: list[float], label: str, last: str) -> Node:
    return el("span.trend", sparkline(values[-200:], label), el("span.num", last))


def _actions(run: Run, visit: Visit) -> Node:
    links: list[Node] = [el("a", "open", href=f"run?run={run.run_id}")]
    if run.state.is_live and visit.may_change:
        stop = act("stop", run=run.run_id)
        links.append(el("button.quiet", "stop", type="button", **stop))
    return el("span.actions", links)


def _build(bench: Workbench, wire: Wire) -> None:
    view(title("Runs", "Every run on this machine, as it really is."))
    board = view(acts=("stop",))
    timer = gr.Timer(POLL_SECONDS)

    def show(visit: Visit) -> Node:
        return overview(bench, visit)

    wire.on_load(show, outputs=[board])
    wire.read(timer.tick, show, outputs=[board])


PAGES.add("runs")(Page("Runs", "", 10, _build))
