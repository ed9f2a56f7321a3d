"""The vocabulary that pays most for the constraint, over all stored texts of a run."""

from typing import Any

from acft.store.queries.answer import Slice
from acft.store.queries.tokens import most_shifted, sequences
from acft.ui.page import Visit, Workbench
from acft.ui.parts.runs_menu import chosen_run
from acft.ui.reading.reader import Run
from acft.ui.reading.tokens import none_stored
from acft.ui.web import words
from acft.ui.web.dom import Node, act, choose, el, sql_behind, table, veiled
from acft.ui.web.hot_words import is_hot

AMONG = ("all", "satisfied", "violated")
MOST_PAYING = 25
"""Rows of the table of tokens that pay most."""


def paying(bench: Workbench, visit: Visit) -> Node:
    """The vocabulary that pays most over all stored texts of the run."""
    run = chosen_run(bench, visit)
    if run is None:
        return ""
    among: Any = visit.query.get("among", "all")
    among = among if among in AMONG else "all"
    found = most_shifted(bench.store, run.run_id, among=among, part=Slice(MOST_PAYING))
    rows = [
        [_token(str(row["token_text"])), f"{row['n']:,}", words.number(row["kl_sum"]),
         words.number(row["kl_mean"]), words.signed(row["shift_mean"]),
         words.signed(row["pull_mean"])]
        for row in found.records()
    ]  # fmt: skip
    menu = choose([(name, name) for name in AMONG], among, "Among", data_query="among",
                  **act("refresh"))  # fmt: skip
    columns = ["Token", "n", "Σ KL (nats)", "Mean KL", "Tuned − base", "Guided − tuned"]
    if rows:
        body = table(columns, rows, caption="Tokens that pay most", numeric={1, 2, 3, 4, 5})
    else:
        body = el("p.side", _no_values(bench, run, among))
    return el(
        "section", el("h2", "Tokens that pay most"),
        el("p.side", "Over all stored texts of the run, among ",
           menu, " rollouts."),
        el("div.compact", body),
        sql_behind("table", found.sql),
    )  # fmt: skip


def _no_values(bench: Workbench, run: Run, among: str) -> str:
    """Why the table is empty."""
    n = sequences(bench.store, run.run_id, part=Slice(1)).total
    if not n or among == "all":
        return none_stored(run)
    return (
        f"Of the {words.count(n, 'text')} with token values none is a rollout that {among} the "
        "constraint; texts of the corpus are judged by nobody."
    )


def _token(text: str) -> Node:
    """A token with its spaces visible; blurred when it is toxic by itself."""
    shown = text.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "·") or "∅"
    return veiled(shown) if is_hot(text) else el("code", shown)
