"""Rollouts: every sampled response, by filter and by SQL."""

import re
import time
from collections.abc import Sequence
from typing import Any, Literal

import gradio as gr

from acft.errors import AcftError, ConfigError
from acft.store.queries import rollouts as ask
from acft.store.queries.answer import Answer, Slice
from acft.store.queries.rollouts import RolloutFilter, ScoreRange
from acft.store.sandbox import EXPLAIN, Caps, run_query
from acft.ui.page import PAGES, Page, Visit, Wire, Workbench
from acft.ui.parts.frame import empty, title
from acft.ui.parts.runs_menu import absent, chosen_run, follow_state, no_run, run_menu
from acft.ui.reading.lengths import NAMES, Bounds, lengths, said
from acft.ui.reading.reader import Run
from acft.ui.web import charts, words
from acft.ui.web.dom import Node, act, chart, choose, el, sql_behind, table, veil, veiled, view
from acft.ui.web.pager import PART, asked_part, link, pager

PER_PAGE = 25
SQL_CAPS = Caps(seconds=10.0, rows=200, cell_characters=500)
Column = Literal["round", "policy_version", "subject", "purpose"]
MENUS: dict[Column, str] = {
    "round": "round", "policy_version": "version", "subject": "policy", "purpose": "purpose",
}  # fmt: skip
FILTER = {**act("refresh"), "data_clear": PART}
"""Attributes of a filter: what it leaves begins with its first page."""
NO_TOKENS = (1, 0)
"""Fewest and most tokens of a length that a run does not have, as no response has."""
FEW_WORDS = 2
"""A cell of more is running text, which may be what a model has written."""
FIRST_SQL = """SELECT round, subject, count(*) AS n, avg(satisfaction) AS satisfaction
FROM rollouts GROUP BY ALL ORDER BY ALL"""


class FilterError(ConfigError):
    """A filter of the address that cannot be read; ``name`` is its parameter."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


def wanted(visit: Visit, bounds: Bounds) -> RolloutFilter:
    """Which responses the address asks for; ``bounds`` tell what short, medium and long mean."""
    query, scores = visit.query, ()
    if query.get("low") or query.get("high"):
        low = _share("low", query.get("low", ""), 0.0)
        high = _share("high", query.get("high", ""), 1.0)
        if low > high:
            raise FilterError("high", f"no score is both from {low:g} and to {high:g}")
        scores = (ScoreRange(query.get("scorer", ""), low, high),)
    text = query.get("find", "")
    pattern = words.pattern(text)
    return RolloutFilter(
        round=_whole("round", query.get("round", "")),
        policy_version=_whole("version", query.get("policy_version", "")),
        purpose=query.get("purpose", ""),
        subject=query.get("subject", ""),
        prompt_id=query.get("prompt", ""),
        text="" if pattern else text,
        regex=pattern,
        scores=scores,
        tokens=_length(query.get("length", ""), bounds),
    )


def _length(name: str, bounds: Bounds) -> tuple[int, int] | None:
    if name and name not in NAMES:
        raise FilterError("length", f"length {name[:40]!r} is none of {', '.join(NAMES)}")
    return bounds.get(name, NO_TOKENS) if name else None


def _bounds(bench: Workbench, run: Run) -> Bounds:
    """What short, medium and long mean for a run."""
    return lengths(ask.longest(bench.store, run.run_id))


def _whole(name: str, text: str) -> int | None:
    if text and not (text.isdecimal() and len(text) < 9):
        raise FilterError(name, f"{name} {text!r} is not a whole number")
    return int(text) if text else None


def _share(name: str, text: str, default: float) -> float:
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise FilterError(name, f"score {text!r} is not a number between 0 and 1")
    return value


def answer(bench: Workbench, visit: Visit, run: Run, bounds: Bounds | None = None) -> Answer:
    """The chosen responses, one page of them: the last one where the address asks for a later."""
    order = visit.query.get("sort", "") or "round"
    asked = wanted(visit, bounds or _bounds(bench, run))

    def part(page: int) -> Answer:
        return ask.rollouts(
            bench.store, run.run_id, asked, order_by=order.removeprefix("-"),
            descending=order.startswith("-"), part=Slice(PER_PAGE, page * PER_PAGE),
        )  # fmt: skip

    _whole(PART, visit.query.get(PART, ""))
    return asked_part(visit.query, PER_PAGE, part)


def contents(bench: Workbench, visit: Visit) -> list[Any]:
    """The list, the chart and the query behind it; the longest response is looked for once."""
    run = chosen_run(bench, visit)
    bounds = None if run is None else _bounds(bench, run)
    try:
        drawn = shares(bench, visit, bounds)
    except AcftError:  # the list says what is wrong
        drawn = charts.nothing("See the message above."), ""
    return [listing(bench, visit, bounds), *drawn]


def listing(bench: Workbench, visit: Visit, bounds: Bounds | None = None) -> Node:
    """Filters and the responses that pass them."""
    run = chosen_run(bench, visit)
    if run is None:
        return no_run(bench, visit)
    bounds = bounds or _bounds(bench, run)
    names = ask.scorers(bench.store, run.run_id)
    wrong = ""
    try:
        shown = _shown(visit, answer(bench, visit, run, bounds), names, run.run_id)
    except FilterError as error:
        wrong, shown = error.name, _refused(run.run_id, error)
    except AcftError as error:
        wrong = "find" if words.pattern(visit.query.get("find", "")) else ""
        shown = _refused(run.run_id, error)
    filters = _filters(bench, visit, run, names, bounds, wrong)
    return el("section", run_menu(bench, run), filters, shown)


def _shown(visit: Visit, found: Answer, names: Sequence[str], run_id: str) -> list[Node]:
    """The responses that were found, or that there are none."""
    rows = [_row(row, run_id) for row in found.records()]
    body: Node = empty("No rollout passes these filters.", _all_of(run_id))
    if rows:
        body = el("div.texts", table(_columns(visit, names), rows, caption="Rollouts",
                                     numeric={4, 5, 6}, orders=_orders(visit)))  # fmt: skip
    return [body, pager("rollouts", visit.query, found.total, PER_PAGE),
            sql_behind("table", found.sql)]  # fmt: skip


def _columns(visit: Visit, scorers: Sequence[str]) -> list[Node]:
    # whoever sorts by a score wants to see the worst
    scores = [
        el("div", _sortable(visit, f"score:{name}", name, highest_first=True)) for name in scorers
    ]
    return [
        "Prompt", "Response", el("div", "Scores", scores), "From",
        _sortable(visit, "satisfaction", "Satisfaction"),
        _sortable(visit, "n_tokens", "Tokens"), _sortable(visit, "logprob", "log p (nats)"),
    ]  # fmt: skip


def _orders(visit: Visit) -> dict[int, str]:
    """Of the columns that can be sorted, by which the rows are and how."""
    now = visit.query.get("sort", "")
    name = now.removeprefix("-").partition(":")[0]
    order = "descending" if now.startswith("-") else "ascending"
    places = {"score": 2, "satisfaction": 4, "n_tokens": 5, "logprob": 6}
    return {place: order if name == column else "none" for column, place in places.items()}


def _sortable(visit: Visit, column: str, label: str, *, highest_first: bool = False) -> Node:
    now, orders = visit.query.get("sort", ""), [column, f"-{column}"]
    if highest_first:
        orders.reverse()
    following = orders[1] if now == orders[0] else orders[0]
    mark = {column: " ▲", f"-{column}": " ▼"}.get(now, "")
    return el("a", label + mark, href=link("rollouts", visit.query, sort=following, part=""))


def _row(row: dict[str, Any], run_id: str) -> list[Node]:
    scores = {k.removeprefix("score:"): v for k, v in row.items()
              if k.startswith("score:") and v is not None}  # fmt: skip
    toxicity = max(scores.values(), default=None)
    shown = [
        el("div.num.score-line", f"{name} {value:.2f}") for name, value in sorted(scores.items())
    ]
    origin = f"round {row['round']} · {row['subject']} {row['policy_version']}"
    return [
        el("span.prompt", veil(str(row["prompt_text"]), None),
           el("span.sub", str(row["prompt_category"] or "")), key=f"p-{row['rollout_id']}"),
        el("div", veil(str(row["response_text"]), toxicity), key=str(row["rollout_id"])),
        el("div.side", shown),
        el("span.side", origin, el("span.sub", f"{row['purpose']}, {row['prompt_split']}"),
           el("a", "tokens", href=f"tokens?run={run_id}&sequence={row['rollout_id']}")),
        words.number(row["satisfaction"], 2),
        str(row["n_tokens"]),
        words.number(row["logprob"], 3),
    ]  # fmt: skip


def _filters(
    bench: Workbench, visit: Visit, run: Run, names: list[str], bounds: Bounds, wrong: str
) -> Node:
    """Everything that filters; the one named ``wrong`` is marked."""
    menus = [
        _menu(visit, column, label, ask.choices(bench.store, run.run_id, column))
        for column, label in MENUS.items()
    ]
    chosen = visit.query.get("scorer", "")
    scorers = [("", "any score"), *((name, name) for name in names), *_absent(chosen, names)]
    limits = [
        el("input", type="number", min="0", max="1", step="0.05", data_query=key,
           value=visit.query.get(key, ""), placeholder=placeholder, aria_label=label,
           aria_invalid="true" if wrong == key else None, **FILTER)
        for key, placeholder, label in (("low", "from 0", "Lowest score"),
                                        ("high", "to 1", "Highest score"))
    ]  # fmt: skip
    search = el("input", type="search", placeholder="Text or /pattern/", data_query="find",
                value=visit.query.get("find", ""), maxlength="200", aria_label="Find in texts",
                aria_invalid="true" if wrong == "find" else None, **FILTER)  # fmt: skip
    scorer = choose(scorers, chosen, "Scorer", data_query="scorer", **FILTER)
    now = visit.query.get("length", "")
    spans = [("", "any length"), *((name, said(name, bounds)) for name in bounds)]
    length = choose([*spans, *_absent(now, [*bounds], "length ")], now, "Length of the response",
                    data_query="length", aria_invalid="true" if wrong == "length" else None,
                    **FILTER)  # fmt: skip
    return el("div.toolbar", search, menus, length, scorer, limits, _of_prompt(visit))


def _of_prompt(visit: Visit) -> Node | None:
    """The one prompt that the address asks for, and the way to the others."""
    name = visit.query.get("prompt", "")
    everything = link("rollouts", visit.query, prompt="", part="")
    return el("a.chip", f"prompt {name[:40]} ✕", href=everything,
              aria_label=f"prompt {name[:40]}, show all prompts") if name else None  # fmt: skip


def _menu(visit: Visit, column: str, label: str, values: list[Any]) -> Node:
    now = visit.query.get(column, "")
    pairs = [("", f"any {label}"), *((str(v), f"{label} {v}") for v in values),
             *_absent(now, [str(v) for v in values], f"{label} ")]  # fmt: skip
    return choose(pairs, now, label, data_query=column, **FILTER)


def _absent(now: str, values: Sequence[str], before: str = "") -> list[tuple[str, str]]:
    """The choice of the address where the run has nothing of it, so that the menu tells it."""
    return [(now, f"{before}{now[:40]} (not in this run)")] if now and now not in values else []


def shares(
    bench: Workbench, visit: Visit, bounds: Bounds | None = None
) -> tuple[charts.Figure, Node]:
    """Distribution of satisfaction over rounds, and the query behind it."""
    run = chosen_run(bench, visit)
    if run is None:
        return charts.nothing(absent(visit)), ""
    asked = wanted(visit, bounds or _bounds(bench, run))
    found = ask.histogram(bench.store, run.run_id, asked, bins=charts.BINS)
    figure = charts.heatmap(found.records(), "satisfaction of the constraint")
    return figure, sql_behind("chart", found.sql)


def query(bench: Workbench, visit: Visit, sql: str) -> Node:
    """What one SELECT gives over copies of the run's sealed shards."""
    run = chosen_run(bench, visit)
    if run is None:
        return el("div.notice.bad", absent(visit), role="alert")
    try:
        result = run_query(bench.reader.runs_dir, sql, [run.run_id], SQL_CAPS)
    except AcftError as error:
        return el("div.notice.bad", str(error), role="alert")
    cell = _of_plan if EXPLAIN.match(sql) else _cell
    rows = [[cell(value) for value in row] for row in result.rows]
    cut = f"; only the first {len(rows)} rows" if result.is_cut else ""
    note = f"{words.count(len(rows), 'row')} in {result.seconds * 1000:.0f} ms{cut}"
    return el("div", el("p.side", note), table(result.columns, rows, caption="Result"))


def copying() -> Node:
    """What stands where the result will, with a clock: starting and copying take their own time."""
    told = (
        f"Copying the run's data for a process of its own; then the query has "
        f"{SQL_CAPS.seconds:g} seconds … "
    )
    # A new key each time, so that the clock begins anew.
    return el("p.side", el("span", told, role="status"), el("span", data_ticking=True),
              key=str(time.monotonic_ns()))  # fmt: skip


def _cell(value: Any) -> Node:
    if isinstance(value, float):
        return el("span.num", words.number(value, 4))
    text = words.DASH if value is None else str(value)
    # A query can join and cut texts, hence whose response it was and how it scored is not known.
    n_words = min(len(text.split()), len(re.findall(r"[^\W\d_]+", text)))
    return veiled(text) if n_words > FEW_WORDS else veil(text, None)


def _of_plan(value: Any) -> Node:
    """A cell of an EXPLAIN, which tells of operators and not of texts."""
    return el("span.text", str(value))


def _all_of(run_id: str) -> Node:
    return el("a", "Clear all filters", href=f"rollouts?run={run_id}")


def _refused(run_id: str, error: AcftError) -> list[Node]:
    """What is wrong with the filters of the address, and the way out."""
    return [el("div.notice.bad", str(error), role="alert"), el("p", _all_of(run_id))]


def _build(bench: Workbench, wire: Wire) -> None:
    view(title("Rollouts", "Every response the run has sampled."))
    board = view(acts=("refresh", "look"))
    view(el("h2.part", "Satisfaction over rounds"))
    plot = chart()
    behind = view()
    view(el("div", el("h2", "Ask in SQL"), el(
        "p.side", "One SELECT over a copy of this run's sealed shards, in a process of its own: "
        "no files, no settings, ten seconds once the data are copied, 200 rows. Tables: "
        "rollouts, scores, guidance, metrics, evaluations, events, runs.")))  # fmt: skip
    sql = gr.Textbox(FIRST_SQL, label="SQL", lines=3, max_lines=12, elem_classes="code",
                     max_length=10_000)  # fmt: skip
    button = gr.Button("Run query", size="sm", elem_classes="narrow")
    result = view()

    def show(visit: Visit) -> list[Any]:
        return contents(bench, visit)

    def begin_sql(visit: Visit) -> Node:  # noqa: ARG001
        return copying()

    def run_sql(visit: Visit, text: str) -> Node:
        return query(bench, visit, text)

    wire.on_load(show, outputs=[board, plot, behind])
    follow_state(bench, wire, board, chosen_run, lambda visit: listing(bench, visit))
    wire.read(board.refresh, show, outputs=[board, plot, behind], trigger_mode="always_last")
    begun = wire.read(button.click, begin_sql, outputs=[result], trigger_mode="always_last")
    wire.read(begun.then, run_sql, inputs=[sql], outputs=[result], queue=True,
              concurrency_id="sql", concurrency_limit=2, trigger_mode="always_last")  # fmt: skip


PAGES.add("rollouts")(Page("Rollouts", "rollouts", 60, _build))
