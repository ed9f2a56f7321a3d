"""Which run a page is about, and the menu to choose another."""

from acft.ui.dom import Node, el
from acft.ui.page import Visit, Workbench
from acft.ui.reader import Run
from acft.ui.states import state_chip


def chosen_run(bench: Workbench, visit: Visit) -> Run | None:
    """The run of the address; without one the newest that has finished a round, else the newest."""
    if visit.run_id:
        return bench.reader.run(visit.run_id)
    runs = bench.reader.runs()
    ripe = [run for run in runs if run.history.rounds]
    return next(iter(ripe or runs), None)


def run_menu(bench: Workbench, run: Run) -> Node:
    """A menu of all runs with the state of the chosen one."""
    options = [
        el("option", f"{other.title} · {other.run_id}", value=other.run_id,
           selected=other.run_id == run.run_id)
        for other in bench.reader.runs()
    ]  # fmt: skip
    menu = el("select", options, data_nav="run", aria_label="Run")
    return el("p.runmenu", el("span.side", "Run "), menu, " ", state_chip(run))
