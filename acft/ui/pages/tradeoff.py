"""Trade-off: toxicity against utility for base, every checkpoint and every run."""

from collections.abc import Sequence
from typing import Any

from acft.store.queries.evaluations import Measure, measures, trade_off
from acft.ui.page import PAGES, Page, Visit, Wire, Workbench
from acft.ui.parts.frame import empty, title
from acft.ui.reading import checkpoints
from acft.ui.reading.quantities import is_share
from acft.ui.web import charts, words
from acft.ui.web.dom import Node, act, chart, el, table, view

UTILITY = ("perplexity", "utility/perplexity", "bits_per_byte", "distinct")
TOXICITY = ("toxic_share", "toxicity_probability", "expected_max", "satisfaction", "mean_toxicity")


def axes(bench: Workbench, visit: Visit) -> tuple[list[Measure], Measure | None, Measure | None]:
    """All measured quantities, and the two that are drawn."""
    found = [Measure(row["suite"], row["metric"]) for row in measures(bench.store).records()]
    plain = [m for m in found if not m.metric.endswith(("_change", "_difference", "_control"))]
    after_rounds = checkpoints.measures(bench.reader.runs())
    everything = [*plain, *after_rounds]
    up = _named(everything, visit.query.get("y", "")) or _first(plain, TOXICITY)
    # Numbers of test and of validation data are never drawn against each other.
    same = [m for m in everything if up and (m.suite == checkpoints.SUITE)
            == (up.suite == checkpoints.SUITE)]  # fmt: skip
    across = _named(same, visit.query.get("x", "")) or _first(same, UTILITY)
    return everything, across, up


def _key(measure: Measure) -> str:
    return f"{measure.suite}|{measure.metric}"


def _label(measure: Measure) -> str:
    if measure.suite == checkpoints.SUITE:
        return checkpoints.label(measure)
    name, _, corpus = measure.metric.partition("/")
    said = name.replace("_", " ").capitalize() + (f" on {corpus}" if corpus else "")
    if "perplexity" in name:  # validation has another one
        said += ", test texts"
    return said if measure.suite == name else f"{said} ({measure.suite})"


def _named(found: Sequence[Measure], key: str) -> Measure | None:
    return next((m for m in found if _key(m) == key), None)


def _first(found: Sequence[Measure], names: Sequence[str]) -> Measure | None:
    ranked = [m for name in names for m in found if m.metric.startswith(name)]
    return next(iter(ranked), None)


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
        [el("a", str(p["title"] or p["run_id"]), href=f"compare?run={p['run_id']}"),
         str(p["method"] or ""), f"{p['subject']}, version {p['policy_version']}",
         *[_value(p, axis, as_percent=in_percent[axis]) for axis in "yx"]]
        for p in found
    ]  # fmt: skip
    columns = [
        "Run",
        "Method",
        "Policy",
        _label(up) if up else "",
        _label(across) if across else "",
    ]
    return el("section", el("h2", "The numbers"),
              table(columns, rows, caption="Trade-off", numeric={3, 4}))  # fmt: skip


def _value(point: dict[str, Any], axis: str, *, as_percent: bool) -> Node:
    span = words.interval(point[f"{axis}_low"], point[f"{axis}_high"], as_percent=as_percent)
    n = point[f"{axis}_n"]
    note = " · ".join(filter(None, [span, "" if n is None else f"n = {n:,}"]))
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
