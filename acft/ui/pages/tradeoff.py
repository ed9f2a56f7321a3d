"""Trade-off: toxicity against utility for base, every checkpoint and every run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from acft.store.queries.evaluations import Measure, measures, trade_off
from acft.ui.page import PAGES, Page, Visit, Wire, Workbench
from acft.ui.parts.frame import empty, title
from acft.ui.reading import checkpoints, families
from acft.ui.reading.names import run_names
from acft.ui.reading.pairs import Subject
from acft.ui.reading.quantities import SHARE, comparison, is_share, measured
from acft.ui.reading.reader import Run
from acft.ui.web import charts, words
from acft.ui.web.dom import Node, act, chart, choose, el, sql_behind, table, unbroken, view

UTILITY = ("perplexity", "utility/perplexity", "bits_per_byte", "judge_perplexity", "distinct")
TOXICITY = ("toxic_share", "toxicity_probability", "expected_max", "satisfaction", "mean_toxicity")
MAIN_SUITES = ("rtp", "perplexity")
BY_METHOD, BY_RUN = "method", "run"
"""What the colours of the chart tell apart, in the address."""
MATCHED = "Methods at the same utility"
HOW_MATCHED = (
    "each method by its own frontier, interpolated between two of its policies; beyond its most "
    "expensive useful one it keeps what that one reaches, and who has more policies is favoured. "
    "No intervals, and runs may differ in more than the method: acft table experiments/frontier "
    "compares runs made for it, with intervals over prompts and runs."
)
SAID_BY_AXIS = ("", SHARE, "score")
"""Units that an axis shows, or that say nothing."""


@dataclass(frozen=True)
class Drawn:
    """What a visit is shown."""

    measures: list[Measure]
    """All that can be chosen."""
    across: Measure | None
    up: Measure | None
    points: list[dict[str, Any]]
    """Every policy that has both."""
    n_policies: int
    """How many there are of which one of them, or another such measure, is known."""
    sql: str = ""
    """The query behind the points; empty where they come from the files of runs."""
    by: str = BY_METHOD
    """What colours tell apart."""
    at: str = ""
    """The method at whose utilities all are compared, as asked for."""

    @property
    def signs(self) -> families.Signs:
        """Of both axes, whether less (1) or more (-1) is better, 0 where nobody has said."""
        across, up = (families.sign(m.metric) if m else 0 for m in (self.across, self.up))
        return across, up


def drawn(bench: Workbench, visit: Visit) -> Drawn:
    """The quantities that the address names, else those that most policies have both of."""
    rows = sorted(measures(bench.store).records(), key=lambda row: -row["n_runs"])
    runs = [run for run in bench.reader.runs() if not run.labels.archived]
    present = {run.run_id for run in runs}
    of: dict[Measure, set[str]] = {
        Measure(row["suite"], row["metric"]): {
            policy for policy in row["policies"] or () if policy.partition(" ")[0] in present
        }
        for row in rows
    }
    plain = [m for m in of if not comparison(m.metric)]
    after_rounds = checkpoints.measures(runs)
    of |= {measure: checkpoints.measured_in(runs, measure) for measure in after_rounds}
    everything = [*sorted(plain, key=lambda m: (m.suite, m.metric)), *after_rounds]
    across, up = first_axes(plain, of)
    if named := _named(everything, visit.query.get("y", "")):
        # Numbers of test and of validation data are never drawn against each other.
        same = after_rounds if named.suite == checkpoints.SUITE else plain
        across, up = _across(same, named, of), named
    same = after_rounds if up in after_rounds else plain
    across = _named(same, visit.query.get("x", "")) or across
    points, sql = _points(bench, runs, across, up)
    policies = {policy for measure in same for policy in of[measure]}
    by = BY_RUN if visit.query.get("by") == BY_RUN else BY_METHOD
    return Drawn(everything, across, up, points, len(policies), sql, by, visit.query.get("at", ""))


def first_axes(
    found: Sequence[Measure], of: Mapping[Measure, set[str]]
) -> tuple[Measure | None, Measure | None]:
    """What is drawn across and up where nobody says; policies by measure are in ``of``."""
    pairs = [(_across(found, up, of), up) for up in _ranked(found, TOXICITY)]

    def n_shared(pair: tuple[Measure | None, Measure]) -> int:
        across, up = pair
        return 0 if across is None else len(of[across] & of[up])

    return max(pairs, key=n_shared, default=(None, None))


def _across(
    found: Sequence[Measure], up: Measure, of: Mapping[Measure, set[str]]
) -> Measure | None:
    """The utility of most policies that have ``up`` too, the first of several."""
    return max(_ranked(found, UTILITY), key=lambda m: len(of[m] & of[up]), default=None)


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


def _ranked(found: Sequence[Measure], names: Sequence[str]) -> list[Measure]:
    """The measures by name, whole before categories, main suites before others."""

    def rank(measure: Measure) -> tuple[int, bool, bool]:
        place = next(i for i, name in enumerate(names) if measure.metric.startswith(name))
        quantity = measure.metric.partition("/")[0].partition("@")[0]
        is_whole = quantity in names and "@" not in measure.metric
        return place, not is_whole, measure.suite.partition("/")[0] not in MAIN_SUITES

    return sorted((m for m in found if m.metric.startswith(tuple(names))), key=rank)


def _points(
    bench: Workbench, runs: list[Run], across: Measure | None, up: Measure | None
) -> tuple[list[dict[str, Any]], str]:
    """Every policy that has both measures, and the query that found them."""
    if across is None or up is None:
        return [], ""
    is_validation, sql = up.suite == checkpoints.SUITE, ""
    if is_validation:
        found = checkpoints.points(runs, across, up)
    else:
        answer = trade_off(bench.store, [run.run_id for run in runs], across, up)
        found, sql = answer.records(), answer.sql
    drawn_runs = {point["run_id"] for point in found}
    names = run_names(bench.reader, [run for run in runs if run.run_id in drawn_runs])
    points = [
        point | {"texts": _texts_of(point, is_validation=is_validation),
                 "name": names[point["run_id"]], "family": family}
        for point, family in zip(found, families.families(bench.reader, runs, found), strict=True)
    ]  # fmt: skip
    return points, sql


def _texts_of(point: Mapping[str, Any], *, is_validation: bool) -> str:
    """Address of the comparison of a policy with its run's base; of the base, with the result."""
    who = Subject(str(point["subject"]), int(point["policy_version"]))
    query = {"run": point["run_id"], "split": "validation" if is_validation else "",
             "right": "" if who.label == "base" else who.key}  # fmt: skip
    return f"compare?{urlencode({name: value for name, value in query.items() if value})}"


def menus(shown: Drawn) -> Node:
    """Which quantities are drawn."""
    found, across, up = shown.measures, shown.across, shown.up
    if across is None or up is None:
        return empty(
            "Nothing to weigh yet.",
            "A run measures toxicity and perplexity when it ends; each policy becomes one point.",
        )
    both = f"{len(shown.points):,} of {shown.n_policies:,} policies have both."
    colors = choose([(name, f"by {name}") for name in (BY_METHOD, BY_RUN)], shown.by, "Colours",
                    data_query="by", **act("refresh"))  # fmt: skip
    return el("div.toolbar", _menu("y", "Up", found, up), _menu("x", "Across", found, across),
              el("label.side", "Colours ", colors),
              el("span.side", both, " Open circles are base policies, bars 95 % intervals. Click a "
                 "point for the texts that moved. Validation has every checkpoint."))  # fmt: skip


def _menu(name: str, label: str, found: Sequence[Measure], chosen: Measure) -> Node:
    pairs = [(_key(m), _label(m)) for m in found]
    menu = choose(pairs, _key(chosen), label, data_query=name, **act("refresh"))
    return el("label.side", f"{label} ", menu)


def figure(shown: Drawn) -> charts.Figure:
    """The points with their intervals, and the best ones of each method where it has a colour."""
    across, up = shown.across, shown.up
    if across is None or up is None:
        return charts.nothing("No policy has been measured yet.")
    shares = "".join(a for a, m in (("x", across), ("y", up)) if is_share(m.metric))
    lines = families.frontiers(shown.points, shown.signs) if shown.by == BY_METHOD else None
    return charts.trade_off(shown.points, _label(across), _label(up), shares, lines)


def matched(shown: Drawn) -> Node:
    """What each method reaches at the utilities of one, a table; or why that cannot be told."""
    across, up = shown.across, shown.up
    if across is None or up is None or not shown.points:
        return ""
    heading = el("h2", MATCHED)
    if not all(shown.signs):
        unknown = _label(up if shown.signs[0] else across)
        told = f"Whether more or less is better is not known of: {unknown}. Choose another axis."
        return el("section", heading, el("p.side", told))
    methods = [*families.frontiers(shown.points, shown.signs)]
    if len(methods) < 2:
        told = "Fewer than two methods have both numbers, so none can be compared."
        return el("section", heading, el("p.side", told))
    at = shown.at if shown.at in methods else methods[0]
    names, rows = families.matched(shown.points, shown.signs, at)
    menu = choose([(name, name) for name in methods], at, "At the utility of",
                  data_query="at", key="|".join(methods), **act("refresh"))  # fmt: skip
    first, others = is_share(across.metric), is_share(up.metric)
    cells = [
        [_number(cost, as_percent=first),
         *("not reached" if harm is None else _number(harm, as_percent=others) for harm in harms)]
        for cost, harms in rows
    ]  # fmt: skip
    columns = [_label(across), *(f"{name}: {_label(up)}" for name in names)]
    grid = table(columns, cells, caption=MATCHED, numeric={*range(len(columns))})
    return el("section", heading, el("p.side", "At the utility of ", menu, " ", HOW_MATCHED), grid)


def _number(value: float, *, as_percent: bool) -> str:
    return words.percent(value) if as_percent else words.number(value, 4)


def numbers(shown: Drawn) -> Node:
    """The same points as a table."""
    if not shown.points:
        return ""
    across, up = shown.across, shown.up
    in_percent = {a: m is not None and is_share(m.metric) for a, m in (("x", across), ("y", up))}
    rows = [
        [el("span", el("a", p["name"], href=p["texts"]),
            el("span.sub", _policy(p))),
         *[_value(p, axis, as_percent=in_percent[axis]) for axis in "yx"]]
        for p in shown.points
    ]  # fmt: skip
    columns = ["Run and policy", _label(up) if up else "", _label(across) if across else ""]
    return el(
        "section",
        el("h2", "The numbers"),
        el("div.fits", table(columns, rows, caption="Trade-off", numeric={1, 2})),
        sql_behind("chart", shown.sql) if shown.sql else None,
    )


def _policy(point: dict[str, Any]) -> str:
    """What was measured: the method, and which policy."""
    policy = f"{point['subject']}, version {point['policy_version']}"
    return " · ".join(filter(None, [str(point["method"] or ""), policy]))


def _value(point: dict[str, Any], axis: str, *, as_percent: bool) -> Node:
    span = words.interval(point[f"{axis}_low"], point[f"{axis}_high"], as_percent=as_percent)
    n = point[f"{axis}_n"]
    note = unbroken([span, "" if n is None else f"n = {n:,}"])
    return el("span", _number(point[axis], as_percent=as_percent), el("span.sub", note))


def parts(bench: Workbench, visit: Visit) -> list[Any]:
    """Every part of the page: menus, figure, tables."""
    shown = drawn(bench, visit)
    return [menus(shown), figure(shown), el("div", matched(shown), numbers(shown))]


def picked(visit: Visit) -> Node:
    """The way from a point to its texts."""
    where = str((visit.data.get("data") or [""])[0])
    return el("div", data_goto=where, key=where) if where.startswith("compare?") else ""


def _build(bench: Workbench, wire: Wire) -> None:
    view(title("Trade-off", "What lower toxicity costs."))
    top = view(acts=("refresh",))
    plot = chart()
    below = view(acts=("refresh",))
    leave = view()

    def show(visit: Visit) -> list[Any]:
        return parts(bench, visit)

    wire.on_load(show, outputs=[top, plot, below])
    for part in (top, below):
        wire.read(part.refresh, show, outputs=[top, plot, below], trigger_mode="always_last")
    wire.read(plot.pick, picked, outputs=[leave])


PAGES.add("tradeoff")(Page("Trade-off", "tradeoff", 70, _build))
