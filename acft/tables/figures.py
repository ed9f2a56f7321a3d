"""Figures of tables as SVG files, drawn without a plotting library."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 400, 70, 190, 20, 50
COLORS = ("#4c5fd5", "#d1495b", "#2a9d8f", "#e09f3e", "#6d597a", "#457b9d", "#8a8d91", "#9c6644")
TICKS = 5
Place = float | int
"""On the page."""
STYLE = 'font-family="sans-serif" font-size="12" fill="#333"'


@dataclass(frozen=True)
class Mark:
    """A measured point; the interval goes up and down."""

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


@dataclass(frozen=True)
class _Frame:
    """From numbers to places on the page."""

    x: tuple[float, float]
    y: tuple[float, float]

    def across(self, value: float) -> float:
        low, high = self.x
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def up(self, value: float) -> float:
        low, high = self.y
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def plot(series: Sequence[Series], x_label: str, y_label: str) -> str:
    """An SVG with all series on common axes and their names beside them."""
    frame = _Frame(
        _range([m.x for s in series for m in s.marks] + [x for s in series for x, _ in s.line]),
        _range(
            [v for s in series for m in s.marks for v in (m.y, m.low, m.high) if v is not None]
            + [y for s in series for _, y in s.line]
        ),
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'role="img" aria-label="{escape(y_label)} against {escape(x_label)}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        *_axes(frame, x_label, y_label),
    ]
    for number, one in enumerate(series):
        parts += _drawn(one, COLORS[number % len(COLORS)], frame)
        top = TOP + 14 + 18 * number
        color = COLORS[number % len(COLORS)]
        parts.append(
            f'<rect x="{WIDTH - RIGHT + 12}" y="{top - 9}" width="10" height="10" fill="{color}"/>'
        )
        parts.append(_text(WIDTH - RIGHT + 28, top, one.name))
    return "\n".join([*parts, "</svg>", ""])


def intervals(rows: Sequence[tuple[str, Mark]], x_label: str) -> str:
    """An SVG with one line for each row: a dot at ``y`` and its interval, names on the left."""
    values = [v for _, m in rows for v in (m.y, m.low, m.high) if v is not None]
    frame = _Frame(_range(values), (0.0, 1.0))
    left, height = 230, 60 + 26 * len(rows)

    def across(value: float) -> float:
        return left + (frame.across(value) - LEFT) * (WIDTH - left - 30) / (WIDTH - LEFT - RIGHT)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(x_label)}">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        _text((left + WIDTH) / 2, height - 8, x_label, "middle"),
    ]
    for tick in _ticks(frame.x):
        parts.append(_line(across(tick), 10, across(tick), height - 44, "#e3e3e3"))
        parts.append(_text(across(tick), height - 28, f"{tick:.3g}", "middle"))
    for number, (name, mark) in enumerate(rows):
        y = 24 + 26 * number
        parts.append(_text(left - 12, y + 4, name, "end"))
        if mark.low is not None and mark.high is not None:
            parts.append(_line(across(mark.low), y, across(mark.high), y, COLORS[0]))
        parts.append(f'<circle cx="{across(mark.y):.1f}" cy="{y}" r="4" fill="{COLORS[0]}"/>')
    return "\n".join([*parts, "</svg>", ""])


def _drawn(one: Series, color: str, frame: _Frame) -> list[str]:
    parts = []
    if one.line:
        points = " ".join(f"{frame.across(x):.1f},{frame.up(y):.1f}" for x, y in one.line)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
    for mark in one.marks:
        x = frame.across(mark.x)
        if mark.low is not None and mark.high is not None:
            parts.append(_line(x, frame.up(mark.low), x, frame.up(mark.high), color))
        title = f"<title>{escape(mark.label)}</title>" if mark.label else ""
        place = f'cx="{x:.1f}" cy="{frame.up(mark.y):.1f}"'
        parts.append(f'<circle {place} r="4" fill="{color}">{title}</circle>')
    return parts


def _axes(frame: _Frame, x_label: str, y_label: str) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for tick in _ticks(frame.x):
        parts.append(_line(frame.across(tick), TOP, frame.across(tick), bottom, "#e3e3e3"))
        parts.append(_text(frame.across(tick), bottom + 16, f"{tick:.3g}", "middle"))
    for tick in _ticks(frame.y):
        parts.append(_line(LEFT, frame.up(tick), right, frame.up(tick), "#e3e3e3"))
        parts.append(_text(LEFT - 8, frame.up(tick) + 4, f"{tick:.3g}", "end"))
    parts.append(_text((LEFT + right) / 2, HEIGHT - 10, x_label, "middle"))
    turned = f'transform="rotate(-90 16 {(TOP + bottom) / 2})"'
    parts.append(_text(16, (TOP + bottom) / 2, y_label, "middle", turned))
    return parts


def _range(values: Sequence[float]) -> tuple[float, float]:
    """A little more than the values take; one unit where they are all the same or none."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    pad = 0.05 * (high - low) or 0.5
    return low - pad, high + pad


def _ticks(bounds: tuple[float, float]) -> list[float]:
    low, high = bounds
    return [low + (high - low) * (number + 0.5) / TICKS for number in range(TICKS)]


def _line(x1: Place, y1: Place, x2: Place, y2: Place, color: str) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{color}" stroke-width="1.5"/>'


def _text(x: Place, y: Place, text: str, anchor: str = "start", more: str = "") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {STYLE} {more}>{escape(text)}</text>'
    )
