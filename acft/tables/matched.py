"""Methods compared at the same cost, each over its own knob, instead of at one setting of each.

Source: derived; the idea of fixing KL to the base before comparing is that of isokl calibration.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from acft.evaluation import is_share
from acft.statistics import NOTHING, Interval, equivalence
from acft.tables.collecting import Cells, Seen, all_totals, require_comparable
from acft.tables.figures import Mark, Series, plot
from acft.tables.members import POLICY
from acft.tables.table import INTERVALS, PROMPTS_ONLY, Cell, ResultTable, Row, cell_of
from acft.totals import Floats, Totals, pooled_bootstrap
from acft.tradeoff import Point, frontier, matched, mixture_at

HEADS = ("method", "at")
"""What the two names of a row are called, in this kind of table alone."""


@dataclass(frozen=True)
class Knob:
    """A method's measured settings."""

    family: str
    points: list[Point]
    """Labelled with the name of the row."""
    totals: dict[str, list[Totals]]
    """Harm by prompt, of each run of a row."""


def knobs(found: Cells, families: dict[str, str], harm: str, cost: str) -> list[Knob]:
    """The methods whose settings have both measurements, in the order of the table.

    Args:
        found: What was measured.
        families: Method of each row, by the row's name.
        harm: Column that should be low.
        cost: Column that says what it took; low as well.
    """
    result: dict[str, Knob] = {}
    for (variant, subject), cells in found.items():
        family = families.get(variant, "")
        if not family or subject != POLICY or not cells.get(harm) or not cells.get(cost):
            continue
        values = _mean(cells[cost]), _mean(cells[harm])
        if values[0] is None or values[1] is None:
            continue
        knob = result.setdefault(family, Knob(family, [], {}))
        knob.points.append(Point(values[0], values[1], variant))
        knob.totals[variant] = all_totals(cells[harm])
    return list(result.values())


def matched_rows(ours: Knob, theirs: Knob, harm: str, cost: str, margin: float) -> Iterator[Row]:
    """Both methods at every cost that both reach, and our harm minus theirs."""
    metric = harm.rpartition(" ")[2]
    for pair in matched(ours.points, theirs.points):
        value = difference_at(ours, theirs, pair.cost, are_shares=is_share(metric))
        n_ours, n_theirs = n_runs(ours, pair.cost), n_runs(theirs, pair.cost)
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
                    min(n_ours, n_theirs),
                    value.stderr,
                    value.low,
                    value.high,
                    verdict,
                    is_prompts_only=min(n_ours, n_theirs) == 1,
                ),
            },
        )


def n_runs(knob: Knob, cost: float) -> int:
    """Runs of each setting behind the method's value at that cost, the fewest of them."""
    used = [point.label for point, _ in mixture_at(knob.points, cost)]
    return max(1, min((len(knob.totals[label]) for label in used), default=1))


def difference_at(ours: Knob, theirs: Knob, cost: float, *, are_shares: bool) -> Interval:
    """Interval of our harm minus theirs over prompts and runs, costs and settings as measured.

    No ends where a run of a setting that is used kept no measurements by prompt. That the settings
    were chosen on the same data is not in the interval: drawing the choice anew would favour
    whoever has more settings once more, since each draw has the luckiest of them.

    Args:
        are_shares: Harms are shares, of which none or all is not known exactly.
    """
    mixtures = mixture_at(ours.points, cost), mixture_at(theirs.points, cost)
    if not all(mixtures):
        return NOTHING
    mixed = [
        (knob.totals[point.label], sign * share)
        for knob, mixture, sign in zip((ours, theirs), mixtures, (1, -1), strict=True)
        for point, share in mixture
    ]
    if not all(totals for totals, _ in mixed):
        return NOTHING
    shares = [share for _, share in mixed]

    def statistic(*values: Floats) -> Floats:
        return sum((s * v for s, v in zip(shares, values, strict=True)), start=0 * values[0])

    return pooled_bootstrap([totals for totals, _ in mixed], statistic, are_shares=are_shares)


def matched_table(
    found: Cells,
    families: dict[str, str],
    harms: Sequence[str],
    costs: Sequence[str],
    ours: str,
    margin: float,
) -> ResultTable | None:
    """Every other method beside ours at matched costs; None while ours has no setting measured.

    Raises:
        DataError: A column was measured by different settings.
    """
    rows: list[Row] = []
    tried: dict[str, int] = {}
    for column in (*harms, *costs):
        cells = (columns.get(column, ()) for columns in found.values())
        require_comparable(column, (seen.protocol for cell in cells for seen in cell))
    for harm in harms:
        for cost in costs:
            measured = {knob.family: knob for knob in knobs(found, families, harm, cost)}
            tried |= {name: max(len(k.points), tried.get(name, 0)) for name, k in measured.items()}
            for other in (knob for name, knob in measured.items() if name != ours):
                if ours in measured:
                    rows += matched_rows(measured[ours], other, harm, cost, margin)
    legend = [
        "Each method on its own frontier, interpolated at costs that both reach",
        "at each cost with the best of its settings, chosen on the same data; the choice favours "
        "who has more and is not in the intervals: "
        + ", ".join(f"{family} of {n}" for family, n in tried.items()),
        f"difference: {ours} minus the other, {INTERVALS}, costs as measured",
        f"equivalent: within {margin:.0%} of the other",
        *([PROMPTS_ONLY] if any(row.cells["difference"].is_prompts_only for row in rows) else []),
        f"rows by verdict, each harm at each shared cost, which share runs and prompts and so are "
        f"no independent wins: {ours} is {_counted(rows)}",
    ]
    columns = (ours, "other", "difference")
    return ResultTable(columns, tuple(rows), HEADS, f"{'; '.join(legend)}.") if rows else None


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


def _mean(cell: Sequence[Seen]) -> float | None:
    return cell_of(cell).value
