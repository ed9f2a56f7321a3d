"""Trade-off: toxicity against utility for base, every checkpoint and every run."""

from collections.abc import Sequence
from typing import Any

from acft.store.queries.evaluations import Measure, measures, trade_off
from acft.ui.page import PAGES, Page, Visit, Wire, Workbench
from acft.ui.parts.frame import empty, title
from acft.ui.reading import checkpoints
from acft.ui.reading.quantities import SHARE, comparison, is_share, measured
from acft.ui.web import charts, words
from acft.ui.web.dom import Node, act, chart, el, table, unbroken, view

UTILITY = ("perplexity", "utility/perplexity", "bits_per_byte", "judge_perplexity", "distinct")
TOXICITY = ("toxic_share", "toxicity_probability", "expected_max", "satisfaction", "mean_toxicity")
MAIN_SUITES = ("rtp", "perplexity")
SAID_BY_AXIS = ("", SHARE, "score")
"""Units that an axis shows, or that say nothing."""


def axes(bench: Workbench, visit: Visit) -> tuple[list[Measure], Measure | None, Measure | None]:
    """All measured quantities, and the two that are drawn."""
    rows = sorted(measures(bench.store).records(), key=lambda row: -row["n_runs"])
    often = [Measure(row["suite"], row["metric"]) for row in rows]
    plain = [m for m in often if not comparison(m.metric)]
    after_rounds = checkpoints.measures(bench.reader.runs())
    everything = [*sorted(plain, key=lambda m: (m.suite, m.metric)), *after_rounds]
    up = _named(everything, visit.query.get("y", "")) or _first(plain, TOXICITY)
    # Numbers of test and of validation data are never drawn against each other.
    same = [m for m in (*plain, *after_rounds) if up and (m.suite == checkpoints.SUITE)
            == (up.suite == checkpoints.SUITE)]  # fmt: skip
    across = _named(same, visit.query.get("x", "")) or _first(same, UTILITY)
    return everything, across, up


def _key(measure: Measure) -> str:
    return f"{measure.suite}|{measure.metric}"


def _label(measure: Measure) -> str:
    if measure.suite == checkpoints.SUITE:
        return checkpoints.label(measure)
    name, _, corpus = measure.metric.partition("/")
    head, _, rest = measure.suite.partition("/")
    is_of_corpus = head == "perplexity" and bool(rest)
    corpus = corpus or (rest if is_of_corpus else "")
    found = measured(name)
    said = found.label + (f" on {corpus}" if corpus else "") + _texts(measure)
    if found.unit not in SAID_BY_AXIS and found.unit not in said.lower():
        said += f", {found.unit}"
    return said if is_of_corpus or measure.suite == name else f"{said} ({measure.suite})"


def _texts(measure: Measure) -> str:
    """Of which texts a perplexity is, since there are several."""
    if "perplexity" not in measure.metric:
        return ""
    if measure.metric.startswith("judge_"):
        return ", continuations"
    return ", harmless texts" if measure.suite.startswith("collateral") else ", test texts"


def _named(found: Sequence[Measure], key: str) -> Measure | None:
    return next((m for m in found if _key(m) == key), None)


def _first(found: Sequence[Measure], names: Sequence[str]) -> Measure | None:
    """The measure that comes first by name, whole before categories, main suites before others."""

    def rank(measure: Measure) -> tuple[int, bool, bool]:
        place = next(i for i, name in enumerate(names) if measure.metric.startswith(name))
        quantity = measure.metric.partition("/")[0].partition("@")[0]
        is_whole = quantity in names and "@" not in measure.metric
        return place, not is_whole, measure.suite.partition("/")[0] not in MAIN_SUITES

    return min((m for m in found if m.metric.startswith(tuple(names))), key=rank, default=None)


def points(bench: Workbench, visit: Visit) -> list[dict[str, Any]]:
    """Every policy that has both measures."""
    _, across, up = axes(bench, visit)
    if across is None or up is None:
        return []
    if up.suite == checkpoints.SUITE:
        return checkpoints.points(bench.reader.runs(), across, up)
    return trade_off(bench.store, bench.reader.run_ids(), across, up).records()


def menus(bench: Workbench, visit: Visit) -> Node:
    """Which quantities are drawn."""
    found, across, up = axes(bench, visit)
    if across is None or up is None:
        return empty(
            "Nothing to weigh yet.",
            "A run measures toxicity and perplexity when it ends; each policy becomes one point.",
        )
    return el("div.toolbar", _menu("y", "Up", found, up), _menu("x", "Across", found, across),
              el("span.side", "Open circles are base policies, bars 95 % intervals. Click a "
                 "point for the texts that moved. Validation has every checkpoint."))  # fmt: skip


def _menu(name: str, label: str, found: Sequence[Measure], chosen: Measure) -> Node:
    options = [el("option", _label(m), value=_key(m), selected=m == chosen) for m in found]
    choose = el("select", options, data_query=name, aria_label=label, **act("refresh"))
    return el("label.side", f"{label} ", choose)


def figure(bench: Workbench, visit: Visit) -> charts.Figure:
    """The points with their intervals."""
    _, across, up = axes(bench, visit)
    if across is None or up is None:
        return charts.nothing("No policy has been measured yet.")
    shares = "".join(a for a, m in (("x", across), ("y", up)) if is_share(m.metric))
    return charts.trade_off(points(bench, visit), _label(across), _label(up), shares)


def numbers(bench: Workbench, visit: Visit) -> Node:
    """The same points as a table."""
    found = points(bench, visit)
    if not found:
        return ""
    _, across, up = axes(bench, visit)
    in_percent = {a: m is not None and is_share(m.metric) for a, m in (("x", across), ("y", up))}
    rows = [
        [el("span", el("a", str(p["title"] or p["run_id"]), href=f"compare?run={p['run_id']}"),
            el("span.sub", _policy(p))),
         *[_value(p, axis, as_percent=in_percent[axis]) for axis in "yx"]]
        for p in found
    ]  # fmt: skip
    columns = ["Run and policy", _label(up) if up else "", _label(across) if across else ""]
    return el("section", el("h2", "The numbers"), el(
        "div.fits", table(columns, rows, caption="Trade-off", numeric={1, 2})))  # fmt: skip


def _policy(point: dict[str, Any]) -> str:
    """What was measured: the method, and which policy."""
    policy = f"{point['subject']}, version {point['policy_version']}"
    return " · ".join(filter(None, [str(point["method"] or ""), policy]))


def _value(point: dict[str, Any], axis: str, *, as_percent: bool) -> Node:
    span = words.interval(point[f"{axis}_low"], point[f"{axis}_high"], as_percent=as_percent)
    n = point[f"{axis}_n"]
    note = unbroken([span, "" if n is None else f"n = {n:,}"])
    value = words.percent(point[axis]) if as_percent else words.number(point[axis], 4)
    return el("span", value, el("span.sub", note))


def picked(visit: Visit) -> Node:
    """The way from a point to its texts."""
    data = visit.data.get("data") or [""]
    return el("div", data_goto=f"compare?run={data[0]}", key=str(data[0]))


def _build(bench: Workbench, wire: Wire) -> None:
    view(title("Trade-off", "What lower toxicity costs."))
    top = view(acts=("refresh",))
    plot = chart()
    below = view()
    leave = view()

    def show(visit: Visit) -> list[Any]:
        return [menus(bench, visit), figure(bench, visit), numbers(bench, visit)]

    wire.on_load(show, outputs=[top, plot, below])
    wire.read(top.refresh, show, outputs=[top, plot, below], trigger_mode="always_last")
    wire.read(plot.pick, picked, outputs=[leave])


PAGES.add("tradeoff")(Page("Trade-off", "tradeoff", 70, _build))
