"""Figures of tables, as a paper prints them; drawn without a screen."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.typing import RcKeyType

WIDTH, HEIGHT, ROW_HEIGHT = 7.0, 4.2, 0.3
"""Inches."""
STYLE: dict[RcKeyType, Any] = {
    "axes.axisbelow": True, "axes.grid": True, "grid.color": "#e3e3e3", "font.size": 9,
    "axes.spines.top": False, "axes.spines.right": False,
    "legend.frameon": False, "lines.markersize": 5,
    "text.parse_math": False,  # names of rows and columns are no formulas
    "svg.fonttype": "none", "pdf.fonttype": 42,  # text stays text
    "svg.hashsalt": "acft",  # the same numbers give the same file
}  # fmt: skip
UNDATED = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


@dataclass(frozen=True)
class Mark:
    """A measured point; the interval is of ``y``."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    label: str = ""


@dataclass(frozen=True)
class Series:
    """Marks of one colour."""

    name: str
    marks: Sequence[Mark]
    line: Sequence[tuple[float, float]] = field(default_factory=list)
    """Joined without marks."""


def plot(series: Sequence[Series], x_label: str, y_label: str) -> Figure:
    """All series on common axes, with their names beside them and the marks' own at the marks."""
    with mpl.rc_context(STYLE):
        figure, axes = _empty(HEIGHT)
        for number, one in enumerate(series):
            color = f"C{number}"
            for mark in one.marks:
                if mark.low is not None and mark.high is not None:
                    axes.vlines(mark.x, mark.low, mark.high, color=color, alpha=0.4)
                axes.annotate(
                    mark.label, (mark.x, mark.y), (4, 4), textcoords="offset points", fontsize=6
                )
            dots = [(mark.x, mark.y) for mark in one.marks]
            if dots:
                axes.plot(*_columns(dots), "o", color=color, label=one.name)
            if one.line:
                axes.plot(*_columns(one.line), color=color, label=None if dots else one.name)
        axes.set(xlabel=x_label, ylabel=y_label)
        if series:
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def intervals(rows: Sequence[tuple[str, Mark]], x_label: str) -> Figure:
    """A line for each row: a dot at ``y`` and its interval, names on the left."""
    with mpl.rc_context(STYLE):
        figure, axes = _empty(0.8 + ROW_HEIGHT * len(rows))
        for place, (_, mark) in enumerate(rows):
            if mark.low is not None and mark.high is not None:
                axes.hlines(place, mark.low, mark.high, color="C0", alpha=0.6)
            axes.plot(mark.y, place, "o", color="C0")
        _draw_open(axes, rows)
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.set(xlabel=x_label, ylim=(len(rows) - 0.5, -0.5))
    return figure


def save(figure: Figure, path: Path) -> list[Path]:
    """Paths of the figure as SVG and as PDF, for screens and for LaTeX; ``path`` has no ending."""
    files = [path.with_name(path.name + ending) for ending in UNDATED]
    with mpl.rc_context(STYLE):
        for file in files:
            figure.savefig(file, metadata=UNDATED[file.suffix])
    return files


def _empty(height: float) -> tuple[Figure, Axes]:
    figure = Figure((WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def _draw_open(axes: Axes, rows: Sequence[tuple[str, Mark]]) -> None:
    """Intervals without a limit at one end, up to the border, with an arrow there."""
    borders = axes.get_xlim()
    for place, (_, mark) in enumerate(rows):
        if (mark.low is None) != (mark.high is None):
            is_above = mark.high is None
            low = borders[0] if mark.low is None else mark.low
            high = borders[1] if mark.high is None else mark.high
            axes.plot((low, high), (place, place), color="C0", alpha=0.6)
            axes.plot(borders[is_above], place, ">" if is_above else "<", color="C0", clip_on=False)
    axes.set_xlim(borders)


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
