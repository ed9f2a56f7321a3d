"""A paper-style table of finished runs: a row for each variant, a column for each measurement.

Runs that differ in nothing but the seed share a row, and each counts once, however often it was
measured. Intervals are over prompts, and over runs as well where a cell has several: by resampling
prompts where evaluations kept measurements of each, else from the standard error of each run.
"""

import fnmatch
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from matplotlib.figure import Figure

from acft.errors import DataError
from acft.evaluation import is_share
from acft.events import COMPARISONS
from acft.registry import did_you_mean
from acft.repetitions import mean_of_runs
from acft.statistics import (
    MARGIN,
    Interval,
    brackets,
    equivalence,
    equivalence_of_change,
    recorded,
    widened,
)
from acft.tables.collecting import (
    Cells,
    Reported,
    all_totals,
    chance_of,
    collected,
    columns_in,
    difference_of,
    differences,
    left_out,
    origin_of,
    require_comparable,
)
from acft.tables.figures import Mark, intervals
from acft.tables.members import USED, Members, members_of
from acft.totals import Totals, pooled_bootstrap, ratio_change

INTERVALS = "[95 % interval] over prompts, and over runs as well where a cell has several"
PROMPTS_ONLY = (
    "prompts only: a single run was trained on a side, so how much training varies is not counted"
)


@dataclass(frozen=True)
class Cell:
    """A measurement, over seeds where several runs differ in nothing else."""

    value: float | None
    """Mean over the runs; None when it could not be measured."""
    runs: int
    stderr: float | None = None
    """Of the mean over two or more runs."""
    low: float | None = None
    """Ends of the 95 % interval, where one is known; where only one is, the other has no limit."""
    high: float | None = None
    verdict: str = ""
    """Of a comparison: equivalent, lower, higher or undecided at the margin."""
    is_change: bool = False
    """The value is a relative change, 0.1 for 10 % more."""
    is_difference: bool = False
    """The value is a difference in the column's own unit, where parts of it mean nothing."""
    is_prompts_only: bool = False
    """A comparison in which a single run was trained on a side, so that its interval and verdict
    are about these runs and not about others with the same settings."""

    @property
    def text(self) -> str:
        """Value with its uncertainty."""
        number = _percent if self.is_change else _signed if self.is_difference else _three
        span = brackets(self.low, self.high, number)
        if self.value is None and not span:
            return "–"
        text = "–" if self.value is None else number(self.value)
        if span:
            text += f" {span}"
        elif self.stderr is not None:
            return f"{text} ± {self.stderr:.2g} over {self.runs} runs only"
        text += f" ({self.runs} runs)" if self.runs > 1 else ""
        return f"{text} {self.verdict_text}".rstrip()

    @property
    def verdict_text(self) -> str:
        """The verdict with what limits it."""
        return f"{self.verdict} (prompts only)" if self.is_prompts_only else self.verdict


def _three(value: float) -> str:
    """Three digits; what rounding leaves of a difference of equal numbers is 0."""
    return f"{round(value, 12) + 0.0:.3g}"


def _signed(value: float) -> str:
    """Three digits with their sign."""
    return f"{round(value, 12) + 0.0:+.3g}"


def _percent(value: float) -> str:
    """A relative change with its sign, to three digits below 100 %."""
    return f"{round(100 * value, 12) + 0.0:+.3g} %" if abs(value) < 1 else f"{100 * value:+,.0f} %"


@dataclass(frozen=True)
class Row:
    """One variant of the experiment and whom of it was measured."""

    variant: str
    """The changed settings, without the seed."""
    subject: str
    cells: dict[str, Cell]


@dataclass(frozen=True)
class ResultTable:
    """Everything measured in an experiment."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    heads: tuple[str, str] = ("variant", "subject")
    """What the two names of a row are called."""
    caption: str = ""
    """How the numbers are to be read."""

    @property
    def markdown(self) -> str:
        """The table as Markdown."""
        head, *body = self._lines()
        lines = [head, ["---"] * len(head), *body]
        body = "\n".join("| " + " | ".join(map(_escape, line)) + " |" for line in lines)
        return f"{body}\n\n{self.caption}" if self.caption else body

    @property
    def latex(self) -> str:
        """The table as a LaTeX ``tabular`` with booktabs rules."""
        head, *body = ([_latex(cell) for cell in line] for line in self._lines())
        lines = [" & ".join(line) + r" \\" for line in (head, *body)]
        return "\n".join(
            [
                rf"\begin{{tabular}}{{ll{'r' * len(self.columns)}}}",
                r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule",
                r"\end{tabular}",
                *([f"% {self.caption}"] if self.caption else []),
            ]
        )  # fmt: skip

    def with_origin(self, members: Members) -> "ResultTable":
        """The same with a caption that ends in what it was made from."""
        return replace(self, caption=f"{self.caption} {origin_of(members, self.columns)}".strip())

    def _lines(self) -> list[list[str]]:
        lines = [[*self.heads, *self.columns]]
        for row in self.rows:
            cells = [row.cells[name].text if name in row.cells else "" for name in self.columns]
            lines.append([row.variant, row.subject, *cells])
        return lines


def result_table(
    runs_dir: Path,
    experiment: str,
    patterns: Sequence[str] = ("*",),
    against: str = "",
    margin: float = MARGIN,
) -> ResultTable:
    """The measurements of all finished runs of an experiment, sweep or tag.

    Args:
        runs_dir: Directory of all runs.
        experiment: Name of the settings file without its ending, of a sweep or of a tag.
        patterns: Columns to keep, as ``suite/scorer quantity`` with wildcards. Measurements of
            single prompt categories (``quantity@category``) need a pattern with ``@``; comparisons
            with base one that ends as they do (``_change``, ``_difference``); what the runs cost,
            one that begins with ``budget``, and their validation with ``validation``.
        against: Show relative changes instead, from the same variant's subject of that name
            (``base``) or else from the variant of that name.
        margin: Equivalent are those of which neither is above the other by this share, interval
            included; of a difference, this share of what the reference has beyond chance.

    Raises:
        DataError: No finished run of that name has measured anything, or none of it is wanted.
    """
    members = members_of(runs_dir, experiment)
    table = table_of(members, patterns, against, margin)
    if table is None:
        raise DataError(
            f"no finished run of {experiment!r} in {str(runs_dir)!r} has measurements; name an "
            "experiment, sweep or tag, or measure its runs with 'acft evaluate'"
        )
    return table.with_origin(members)


def table_of(
    members: Members,
    patterns: Sequence[str] = ("*",),
    against: str = "",
    margin: float = MARGIN,
) -> ResultTable | None:
    """The measurements of finished runs, each under the name of its variant; None without any.

    Raises:
        DataError: Nothing can be compared with ``against``, or no pattern names what was measured.
    """
    found = collected(members, patterns)
    if not found:
        return None
    table = _compared(found, against, margin) if against else _measured(found)
    empty = [
        repr(pattern) for pattern in patterns if not fnmatch.filter(columns_in(found), pattern)
    ]
    lacks = f" Not measured: {', '.join(empty)}." if empty else ""
    if out := len(left_out(members, patterns)):
        lacks += f" {out} of the runs are left out where others were measured more fully."
    columns = sorted(table.columns, key=lambda column: _place(column, patterns))
    return replace(table, columns=tuple(columns), caption=f"{table.caption}{lacks}")


def _place(column: str, patterns: Sequence[str]) -> int:
    """Number of the first pattern that names the column."""
    return [fnmatch.fnmatchcase(column, pattern) for pattern in patterns].index(True)


def _measured(found: Cells) -> ResultTable:
    rows = [
        Row(*row, {name: cell_of(seen) for name, seen in cells.items()})
        for row, cells in found.items()
    ]
    cells = [cell for row in rows for cell in row.cells.values()]
    legend = [INTERVALS] if any(cell.low is not None for cell in cells) else []
    if any(cell.low is None and cell.stderr is not None for cell in cells):
        legend.append("± the standard error over runs only")
    for column in columns_of(rows):
        protocols = (seen.protocol for cells in found.values() for seen in cells.get(column, ()))
        if differing := differences(protocols, leaving_out=USED):
            legend.append(f"{column} was not measured alike in all rows ({differing})")
    return ResultTable(columns_of(rows), tuple(rows), caption=_sentence(legend))


def _sentence(parts: Sequence[str]) -> str:
    return f"{'; '.join(parts)}." if parts else ""


def _compared(found: Cells, against: str, margin: float) -> ResultTable:
    """Relative changes of every cell whose measurements are kept by prompt on both sides."""
    rows = []
    for (variant, subject), cells in found.items():
        other = (variant, against) if (variant, against) in found else (against, subject)
        if other == (variant, subject) or other not in found:
            continue
        changes = {}
        for column, seen in cells.items():
            cell = _compared_cell(column, found[other].get(column, []), seen, margin)
            if cell is not None:
                changes[column] = cell
        rows.append(Row(variant, subject, changes))
    if not any(row.cells for row in rows):
        columns = list(dict.fromkeys(column for cells in found.values() for column in cells))
        if columns and all(column.endswith(COMPARISONS) for column in columns):
            raise DataError(
                f"{', '.join(columns)}: nothing can be compared with {against!r}, since that is "
                "compared with base already; leave out --against, or name other columns"
            )
        names = list(dict.fromkeys(name for row in found for name in row))
        raise DataError(
            f"nothing can be compared with {against!r}"
            f"{'' if against in names else did_you_mean(against, names)}; rows and subjects are: "
            f"{', '.join(map(repr, names))}, and both sides must have been measured by 'acft "
            "evaluate' or a table: a run's own report keeps no prompts to compare by"
        )
    legend = [
        f"Relative change from {against}, {INTERVALS}",
        f"equivalent: neither more than {margin:.0%} above the other, interval included",
    ]
    cells = [(column, cell) for row in rows for column, cell in row.cells.items()]
    if apart := dict.fromkeys(column for column, cell in cells if cell.is_difference):
        legend.append(
            f"{', '.join(apart)}: difference instead, equivalent within {margin:.0%} of what "
            f"{against} has beyond chance, if anything"
        )
    if any(cell.is_prompts_only for _, cell in cells):
        legend.append(PROMPTS_ONLY)
    return ResultTable(columns_of(rows), tuple(rows), caption=_sentence(legend))


def _compared_cell(
    column: str, first: Sequence[Reported], second: Sequence[Reported], margin: float
) -> Cell | None:
    """How the second side of a column compares with the first; None where nothing can tell."""
    sides = (first, second)
    pair = [all_totals(side) for side in sides]
    event = second[0].event
    difference = difference_of(event)
    are_shares = is_share(event.metric)
    is_difference = False
    if all(pair) and (are_shares or _is_above_none(pair[0])):
        require_comparable(column, (one.protocol for side in sides for one in side))
        found = pooled_bootstrap(pair, ratio_change, are_shares=are_shares)
        verdict = equivalence_of_change(found, margin)
    elif difference and first and all(one.beside for side in sides for one in side):
        require_comparable(column, (one.protocol for side in sides for one in side))
        kept = [[one.beside for one in side] for side in sides]
        found, is_difference = difference(event.metric, *kept), True
        verdict = equivalence(found, margin * _skill(first))
    else:
        return None
    ends = recorded(found)
    return Cell(
        found.value, len(second), found.stderr, ends.low, ends.high, verdict,
        is_change=not is_difference, is_difference=is_difference,
        is_prompts_only=any(map(_is_single, sides)),
    )  # fmt: skip


def _skill(side: Sequence[Reported]) -> float:
    """How far the mean over a side's runs is above the value that shows no skill; 0 where below."""
    value, chance = cell_of(side).value, chance_of(side[0].event.suite)
    return max(0.0, value - chance) if value is not None else 0.0


def _is_above_none(runs: Sequence[Totals]) -> bool:
    """Whether a change can be told in parts of this; not of base's KL to itself, which is noise."""
    return all((totals.value or 0.0) > 0 for totals in runs)


def _is_single(side: Sequence[Reported]) -> bool:
    """Whether one side of a comparison does not show how much training varies."""
    return len(side) == 1 and side[0].is_trained


def column_figures(table: ResultTable) -> dict[str, Figure]:
    """A figure for each column that has values, by the column's name."""
    figures = {}
    for column in table.columns:
        marks = [
            (row.variant, Mark(cell.value, cell.value, cell.low, cell.high))
            for row in table.rows
            if (cell := row.cells.get(column)) is not None and cell.value is not None
        ]
        if marks:
            cells = [row.cells[column] for row in table.rows if column in row.cells]
            what = ", relative change" if any(cell.is_change for cell in cells) else ""
            what = ", difference" if any(cell.is_difference for cell in cells) else what
            figures[column] = intervals(marks, column + what)
    return figures


def columns_of(rows: Sequence[Row]) -> tuple[str, ...]:
    """Columns of all rows, in the order in which they appear."""
    return tuple(dict.fromkeys(column for row in rows for column in row.cells))


def cell_of(cell: Sequence[Reported]) -> Cell:
    """Runs that differ in the seed only as one cell."""
    events = [seen.event for seen in cell if seen.event.value is not None]
    values = [event.value for event in events if event.value is not None]
    if not values:
        return Cell(None, len(cell))
    if len(values) == 1:
        return Cell(values[0], 1, low=events[0].low, high=events[0].high)
    totals = all_totals(cell)
    if totals:
        found = pooled_bootstrap([totals], lambda value: value)
    else:
        found = mean_of_runs([Interval(e.value, e.low, e.high, e.n, e.stderr) for e in events])
    if found.value is None:
        stderr = statistics.stdev(values) / math.sqrt(len(values))
        return Cell(statistics.fmean(values), len(values), stderr)
    if is_share(events[0].metric):
        found = _as_share(found)
    return Cell(found.value, len(values), found.stderr, found.low, found.high)


def _as_share(found: Interval) -> Interval:
    """The interval inside 0 and 1, and with ends where all runs saw none or all."""
    if found.low is None or found.high is None:
        return found
    return widened(replace(found, low=max(0.0, found.low), high=min(1.0, found.high)))


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _latex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "±": r"$\pm$", "–": "--", "~": r"\textasciitilde{}",
               "^": r"\textasciicircum{}"}  # fmt: skip
    special |= {character: "\\" + character for character in "&%$#_{}"}
    return "".join(special.get(character, character) for character in text)
