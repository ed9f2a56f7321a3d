"""Methods compared at the same cost, each over its own knob, instead of at one setting of each.

A setting may be the limit of several methods; it is then a point of each, with the same runs.

Source: derived; the idea of fixing KL to the base before comparing is that of isokl calibration.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from matplotlib.figure import Figure

from acft.evaluation import is_share
from acft.statistics import NOTHING, Interval, equivalence
from acft.tables.collecting import Cells, Reported, all_totals, require_comparable
from acft.tables.figures import Mark, Series, plot
from acft.tables.members import POLICY
from acft.tables.table import INTERVALS, PROMPTS_ONLY, Cell, ResultTable, Row, cell_of
from acft.totals import Floats, Totals, pooled_bootstrap
from acft.tradeoff import Point, frontier, matched, mixture_at

HEADS = ("method", "at")
"""What the two names of a row are called, in this kind of table alone."""
Families = Mapping[str, tuple[str, ...]]
"""Methods of each row, by the row's name."""


@dataclass(frozen=True)
class Knob:
    """A method's measured settings."""

    family: str
    points: list[Point]
    """Labelled with the name of the row."""
    totals: dict[str, list[Totals]]
    """Harm by prompt, of each run of a row."""
    trained: set[str] = field(default_factory=set)
    """The rows that another seed would train otherwise."""


def knobs(found: Cells, families: Families, harm: str, cost: str) -> list[Knob]:
    """The methods whose settings have both measurements, in the order of the table.

    Args:
        found: What was measured.
        families: Methods of each row.
        harm: Column that should be low.
        cost: Column that says what it took; low as well.
    """
    result: dict[str, Knob] = {}
    for (variant, subject), cells in found.items():
        if subject != POLICY or not cells.get(harm) or not cells.get(cost):
            continue
        values = _mean(cells[cost]), _mean(cells[harm])
        if values[0] is None or values[1] is None:
            continue
        for family in families.get(variant, ()):
            knob = result.setdefault(family, Knob(family, [], {}))
            knob.points.append(Point(values[0], values[1], variant))
            knob.totals[variant] = all_totals(cells[harm])
            if any(seen.is_trained for seen in cells[harm]):
                knob.trained.add(variant)
    return list(result.values())


def matched_rows(ours: Knob, theirs: Knob, harm: str, cost: str, margin: float) -> Iterator[Row]:
    """Both methods at every cost that both reach, and our harm minus theirs.

    Not at costs where both are the same runs: nothing is compared there.
    """
    metric = harm.rpartition(" ")[2]
    for pair in matched(ours.points, theirs.points):
        if not _weights(ours, theirs, pair.cost):
            continue
        value = difference_at(ours, theirs, pair.cost, are_shares=is_share(metric))
        runs = [_runs(knob, pair.cost) for knob in (ours, theirs)]
        n_ours, n_theirs, n_both = map(_fewest, (*runs, runs[0] + runs[1]))
        # the margin is relative to what the other method leaves
        verdict = equivalence(value, margin * pair.theirs)
        yield Row(
            f"{theirs.family}: {harm}",
            f"{cost} {pair.cost:.4g}",
            {
                ours.family: Cell(pair.ours, n_ours),
                "other": Cell(pair.theirs, n_theirs),
                "difference": Cell(
                    pair.difference,
                    n_both,
                    value.stderr,
                    value.low,
                    value.high,
                    verdict,
                    is_prompts_only=any(n <= 1 for n in runs[0] + runs[1]),
                ),
            },
        )


def _runs(knob: Knob, cost: float) -> list[int]:
    """Number of runs of each trained setting behind the method's value at that cost."""
    used = [point.label for point, _ in mixture_at(knob.points, cost)]
    return [len(knob.totals[label]) for label in used if label in knob.trained]


def _fewest(runs: Sequence[int]) -> int:
    """The fewest runs of a setting; what is not trained has one, however many there could be."""
    return max(1, min(runs, default=1))


def _weights(ours: Knob, theirs: Knob, cost: float) -> dict[str, float]:
    """By how much the harm of each setting counts in our harm minus theirs, where that is not 0.

    A setting of both methods counts once, by the difference of its shares: it is the same runs.
    """
    added = defaultdict[str, float](float)
    for knob, sign in ((ours, 1), (theirs, -1)):
        for point, share in mixture_at(knob.points, cost):
            added[point.label] += sign * share
    return {label: weight for label, weight in added.items() if weight}


def difference_at(ours: Knob, theirs: Knob, cost: float, *, are_shares: bool) -> Interval:
    """Interval of our harm minus theirs over prompts and runs, costs and settings as measured.

    No ends where a run of a setting that is used kept no measurements by prompt, or where both
    methods are the same runs. That the settings were chosen on the same data is not in the
    interval: drawing the choice anew would favour whoever has more settings once more, since each
    draw has the luckiest of them.

    Args:
        are_shares: Harms are shares, of which none or all is not known exactly.
    """
    weights, known = _weights(ours, theirs, cost), ours.totals | theirs.totals
    if not all(mixture_at(knob.points, cost) for knob in (ours, theirs)):
        return NOTHING
    if not weights or not all(known[label] for label in weights):
        return NOTHING

    def statistic(*values: Floats) -> Floats:
        counted = zip(weights.values(), values, strict=True)
        return sum((weight * value for weight, value in counted), start=0 * values[0])

    totals = [known[label] for label in weights]
    return pooled_bootstrap(totals, statistic, are_shares=are_shares)


def matched_table(
    found: Cells,
    families: Families,
    harms: Sequence[str],
    costs: Sequence[str],
    ours: str,
    margin: float,
    trainers: Collection[str] = (),
) -> ResultTable | None:
    """Every other method beside ours at matched costs; None while ours has no setting measured.

    Args:
        found: What was measured.
        families: Methods of each row.
        harms: Columns that should be low.
        costs: Columns that say what it took; low as well.
        ours: The method that the others are compared with.
        margin: Equivalent within this share of what the other leaves.
        trainers: Scorers that trained or steered what they judge, whole or with a part.

    Raises:
        DataError: A column was measured by different settings.
    """
    rows: list[Row] = []
    independent: list[Row] = []
    tried: dict[str, int] = {}
    seen_rows = set[str]()
    for column in (*harms, *costs):
        cells = (columns.get(column, ()) for columns in found.values())
        require_comparable(column, (seen.protocol for cell in cells for seen in cell))
    for harm in harms:
        for cost in costs:
            measured = {knob.family: knob for knob in knobs(found, families, harm, cost)}
            tried |= {name: max(len(k.points), tried.get(name, 0)) for name, k in measured.items()}
            seen_rows.update(point.label for knob in measured.values() for point in knob.points)
            for other in (knob for name, knob in measured.items() if name != ours):
                if ours in measured:
                    new = list(matched_rows(measured[ours], other, harm, cost, margin))
                    rows += new
                    independent += [] if _scorer(harm) in trainers else new
    legend = [
        "Each method on its own frontier, interpolated at costs that both reach",
        "at each cost with the best of its settings, chosen on the same data; the choice favours "
        "who has more and is not in the intervals: "
        + ", ".join(f"{family} of {n}" for family, n in tried.items()),
        *_shared({row: families[row] for row in families if row in seen_rows}),
        f"difference: {ours} minus the other, {INTERVALS}, costs as measured",
        f"equivalent: within {margin:.0%} of the other",
        *([PROMPTS_ONLY] if any(row.cells["difference"].is_prompts_only for row in rows) else []),
        f"rows by verdict, each harm at each shared cost, which share runs and prompts and so are "
        f"no independent wins: {ours} is {_counted(rows)}",
        *_without_trainers(
            [harm for harm in harms if _scorer(harm) in trainers], ours, independent
        ),
    ]
    columns = (ours, "other", "difference")
    return ResultTable(columns, tuple(rows), HEADS, f"{'; '.join(legend)}.") if rows else None


def _shared(families: Families) -> Iterator[str]:
    """One part of a sentence for each row that is a setting of several methods."""
    for row, names in families.items():
        if len(names) > 1:
            yield f"{row} is one setting of {', '.join(names)} and not compared with itself"


def _scorer(column: str) -> str:
    """Whose scores a column is made of; empty where it is of no scorer."""
    return column.partition(" ")[0].partition("/")[2]


def _without_trainers(judged: Sequence[str], ours: str, rows: Sequence[Row]) -> Iterator[str]:
    """Which harms were trained on, and the verdicts of the other judges alone."""
    if judged:
        yield f"trained on, as its scorer trains or steers these methods: {', '.join(judged)}"
        counts = f"{ours} is {_counted(rows)}" if rows else "there are none"
        yield f"rows by verdict of the judges that did not train: {counts}"


def _counted(rows: Sequence[Row]) -> str:
    """In how many rows the difference to each method has which verdict."""
    verdicts: dict[str, Counter[str]] = {}
    for row in rows:
        method = row.variant.partition(":")[0]
        verdicts.setdefault(method, Counter())[row.cells["difference"].verdict_text] += 1
    told = [
        (name, ", ".join(f"{verdict} {n}" for verdict, n in sorted(found.items())))
        for name, found in verdicts.items()
    ]
    return "; ".join(f"{counts} times against {name}" for name, counts in told)


def trade_off_figure(measured: Sequence[Knob], cost: str, harm: str) -> Figure:
    """Every setting, with the frontier of each method as a line."""
    series = [
        Series(
            knob.family,
            [
                _mark(p, knob.totals[p.label], is_share(harm.rpartition(" ")[2]))
                for p in knob.points
            ],
            [(point.cost, point.harm) for point in frontier(knob.points)],
        )
        for knob in measured
    ]
    return plot(series, cost, harm)


def _mark(point: Point, totals: Sequence[Totals], are_shares: bool) -> Mark:  # noqa: FBT001
    found = None
    if totals:
        found = pooled_bootstrap([totals], lambda value: value, are_shares=are_shares)
    ends = (found.low, found.high) if found else (None, None)
    return Mark(point.cost, point.harm, *ends, label=point.label)


def _mean(cell: Sequence[Reported]) -> float | None:
    return cell_of(cell).value
