"""Which run a page is about, and the menu to choose another."""

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from acft.errors import AcftError
from acft.ui.page import REST_SECONDS, Visit, Wire, Workbench
from acft.ui.parts.frame import empty
from acft.ui.reading.names import distinctions
from acft.ui.reading.reader import Run
from acft.ui.reading.states import state_chip
from acft.ui.web import words
from acft.ui.web.dom import Node, choose, el, notice
from acft.ui.web.pager import PART

TITLE_LETTERS = 48
"""Of a title in a menu, which opens as wide as its longest line."""


def chosen_run(bench: Workbench, visit: Visit) -> Run | None:
    """The run of the address; without one the newest that has trained a round, else the newest."""
    if visit.run_id:
        return bench.reader.run(visit.run_id)
    runs = bench.reader.runs()
    listed = [run for run in runs if not run.labels.archived]
    ripe = [run for run in listed if run.status.kind == "training" and run.history.rounds]
    return next(iter(ripe or listed or runs), None)


def no_run(bench: Workbench, visit: Visit) -> Node:
    """That the address names no run, or that there is none, with the ways on."""
    to_list = el("a.go", "Go to all runs", href="./")
    if not bench.reader.run_ids():
        return empty("No runs yet.", to_list)
    return el("div", run_menu(bench), empty(absent(visit), to_list))


def absent(visit: Visit) -> str:
    """Why a page is about no run, in one sentence."""
    return f"There is no run {visit.run_id}." if visit.run_id else "No runs yet."


def menu(
    bench: Workbench, chosen: str = "", name: str = "run", label: str = "Run",
    clear: Sequence[str] = (PART,),
) -> Node:  # fmt: skip
    """A menu of runs; the one that is picked becomes parameter ``name`` of the page's address.

    Runs of one title are told apart. Archived runs are left out, except the chosen one. Parameters
    named in ``clear`` leave the address.
    """
    nothing = [] if chosen else [("", "choose a run")]
    runs = [r for r in bench.reader.runs() if not r.labels.archived or r.run_id == chosen]
    told = distinctions(bench.reader, runs)
    pairs = [
        (run.run_id, " · ".join(
            filter(None, [words.short(run.title, TITLE_LETTERS), told[run.run_id], run.run_id])))
        for run in runs
    ]  # fmt: skip
    return choose([*nothing, *pairs], chosen, label, data_nav=name, data_clear=",".join(clear))


def run_menu(bench: Workbench, run: Run | None = None, clear: Sequence[str] = (PART,)) -> Node:
    """A menu of all runs with the state of the chosen one, if one is chosen."""
    all_runs = menu(bench, run.run_id if run else "", clear=clear)
    return el("p.runmenu", el("span.side", "Run "), all_runs, " ", state_chip(run) if run else None)


def follow_state(
    bench: Workbench,
    wire: Wire,
    part: Any,
    find: Callable[[Workbench, Visit], Run | None],
    draw: Callable[..., Node],
    inputs: Sequence[Any] = (),
) -> None:
    """Draws a part with a run's menu anew when the run's state has changed.

    Asked seldom, since nothing else of the part depends on it, and by who comes back to the page.

    Args:
        bench: Where the run is.
        wire: Connects it.
        part: A view with the act ``look``.
        find: The run of a visit.
        draw: The part as it is now, from the visit and what ``inputs`` hold.
        inputs: Components.
    """
    timer, seen = gr.Timer(REST_SECONDS), gr.State(None)

    def opened(visit: Visit) -> str:
        return _state(find(bench, visit))

    def follow(visit: Visit, last: str | None, *values: Any) -> list[Any]:
        try:
            now = _state(find(bench, visit))
            return [gr.skip() if now == last else draw(visit, *values), now]
        except AcftError as error:  # which the next turn draws over
            return [notice(error), None]

    wire.on_load(opened, outputs=[seen])
    for event in (timer.tick, part.look):
        wire.read(event, follow, inputs=[seen, *inputs], outputs=[part, seen])


def _state(run: Run | None) -> str:
    return f"{run.run_id} {run.state.label}" if run else ""
