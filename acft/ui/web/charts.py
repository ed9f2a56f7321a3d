"""Tables to figures; knows neither store nor Gradio.

A figure is plotly's JSON with two more keys: ``summary`` (what a screen reader says) and ``empty``
(what is shown when there is nothing to draw). It is written as plain values, since plotly's classes
check each of them, a hundred times slower; tests let them check. Colours work on light and dark
paper; the page adds fonts, grid and background of its theme.
"""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Figure = dict[str, Any]
Trace = dict[str, Any]
Number = float | int

BASE = "#7d8896"
GUIDED = "#cf7f12"
POLICY = "#2f7fc9"
GOOD = "#2a9d7c"
SYMBOLS = {"base": "circle-open", "policy": "circle", "guided": "diamond"}
OTHER = ("#8a63c7", "#4f9db3", "#a2863a", "#c05a8c")
METHODS = (POLICY, GUIDED, GOOD, *OTHER)
"""Of methods in the trade-off, where grey is of base policies."""
PALETTE = (*METHODS, BASE)
FEW_RUNS = 3
"""Of a method, whose policies are joined run by run; lines of more hide its frontier."""
MAX_POINTS = 1500
BINS = 20
"""Of a heat map's values."""
STEPS = "optimiser step"
"""What most curves run along; the page marks the step of its address in them."""
MARGIN = {"l": 8, "r": 12, "t": 8, "b": 8}
LEGEND = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}


@dataclass(frozen=True)
class Line:
    """One curve; ``low`` and ``high`` draw a 95 % band."""

    name: str
    x: Sequence[Number]
    y: Sequence[Number | None]
    color: str = POLICY
    dash: str = "solid"
    low: Sequence[Number] = ()
    high: Sequence[Number] = ()
    marks: bool = False
    """Whether each value is a visible point."""


def lines(
    curves: Sequence[Line],
    y_title: str,
    x_title: str = STEPS,
    rounds: Sequence[Number] = (),
    target: Number | None = None,
    share: bool = False,  # noqa: FBT001, FBT002
    height: int = 240,
    until: Number = 0,
) -> Figure:
    """Curves over steps, with the rounds' borders and an optional target line.

    The axis of steps ends at ``until``, or at the last point where that is 0.
    """
    drawn = [curve for curve in curves if any(value is not None for value in curve.y)]
    layout = {
        "height": height, "margin": MARGIN, "legend": LEGEND, "hovermode": "x unified",
        "showlegend": True,
        "xaxis": {"title": {"text": x_title, "standoff": 6}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": y_title, "standoff": 6}, "rangemode": "tozero"},
        "shapes": [_border(x) for x in rounds] + [_target(y) for y in (target,) if y is not None],
    }  # fmt: skip
    if x_title == STEPS:
        layout["meta"] = {"by": "step"}
    if until:
        layout["xaxis"]["range"] = [-0.01 * until, 1.02 * until]
    if share:
        low = _lowest(drawn)
        layout["yaxis"]["range"] = [low - 0.02 * (1 - low), 1 + 0.03 * (1 - low)]
        layout["yaxis"]["tickformat"] = ".0%"
    summary = "; ".join(f"{c.name}: {len(c.y)} points, last {_last(c.y)}" for c in drawn)
    traces = [t for curve in drawn for t in (*_band(curve), _line(curve, share=share))]
    return finished(traces, layout, f"{y_title}. {summary}", has_data=bool(drawn))


def _lowest(curves: Sequence[Line]) -> float:
    """Where an axis of shares begins: at 0, or at a round share below everything drawn."""
    values = [v for c in curves for v in (*c.y, *c.low) if v is not None]
    return max(0.0, math.floor(5 * min(values, default=0.0) - 0.25) / 5)


def reliability(bins: Sequence[dict[str, Number]], n: int) -> Figure:
    """Observed against predicted satisfaction, one point for each bin, sized by its n.

    Bars are 95 % intervals over prompts; older runs, which did not keep them, have none.
    """
    most = max((b["n"] for b in bins), default=1)
    diagonal = {
        "type": "scatter", "x": [0, 1], "y": [0, 1], "mode": "lines",
        "line": {"color": BASE, "width": 1, "dash": "dot"}, "hoverinfo": "skip",
        "showlegend": False,
    }  # fmt: skip
    observed = {
        "type": "scatter", "mode": "lines+markers", "showlegend": False,
        "x": [b["predicted"] for b in bins], "y": [b["observed"] for b in bins],
        "line": {"color": POLICY, "width": 1.5},
        "marker": {"size": [6 + 10 * math.sqrt(b["n"] / most) for b in bins], "color": POLICY},
        "error_y": {"type": "data", "width": 0, "thickness": 1, "symmetric": False,
                    "array": [min(1.96 * b.get("stderr", 0.0), 1 - b["observed"]) for b in bins],
                    "arrayminus": [min(1.96 * b.get("stderr", 0.0), b["observed"]) for b in bins]},
        "customdata": [[_counts(b)] for b in bins],
        "hovertemplate": "predicted %{x:.2f}<br>observed %{y:.2f}<br>%{customdata[0]}"
        "<extra></extra>",
    }  # fmt: skip
    layout = {
        "height": 260, "margin": MARGIN,
        "xaxis": {"title": {"text": f"predicted by the oracle (n = {n:,} rollouts)"},
                  "range": [-0.02, 1.02]},
        "yaxis": {"title": {"text": "observed"}, "range": [-0.02, 1.02]},
    }  # fmt: skip
    summary = f"reliability of the oracle in {len(bins)} bins"
    return finished([diagonal, observed], layout, summary, has_data=bool(bins))


def heatmap(counts: Sequence[dict[str, Any]], name: str) -> Figure:
    """Share of responses in each of ``BINS`` of a value in [0, 1], one column for each round."""
    rounds = sorted({row["round"] for row in counts})
    totals = {r: sum(row["n"] for row in counts if row["round"] == r) for r in rounds}
    grid = [[0.0] * len(rounds) for _ in range(BINS)]
    for row in counts:
        grid[row["bin"]][rounds.index(row["round"])] = row["n"] / totals[row["round"]]
    cells = {
        "type": "heatmap", "x": [f"round {r}<br>n = {totals[r]:,}" for r in rounds],
        "y": [(index + 0.5) / BINS for index in range(BINS)], "z": grid, "zmin": 0,
        "colorscale": [[0, "rgba(47,127,201,0)"], [1, "rgba(47,127,201,1)"]],
        "hovertemplate": "%{x}<br>" + name + " %{y:.2f}<br>%{z:.1%} of responses<extra></extra>",
        "colorbar": {"title": {"text": "share"}, "thickness": 10, "outlinewidth": 0,
                     "tickformat": ".0%"},
    }  # fmt: skip
    layout = {
        "height": 280, "margin": MARGIN, "xaxis": {"type": "category"},
        "yaxis": {"title": {"text": name}, "range": [0, 1]},
    }  # fmt: skip
    summary = f"distribution of {name} over {len(rounds)} rounds"
    return finished([cells], layout, summary, has_data=bool(rounds))


@dataclass(frozen=True)
class Group:
    """Points of the trade-off that are drawn alike: those of a run, of a method where it has one.

    Groups of one ``key`` share an entry of the legend, which is that of the first one.
    """

    key: str
    name: str
    color: str
    points: Sequence[dict[str, Any]]
    is_joined: bool = True
    is_first: bool = True
    says_run: bool = False
    """Whether each point says of which run it is, which the legend does not."""


def trade_off(
    points: Sequence[dict[str, Any]],
    x_title: str,
    y_title: str,
    shares: str = "",
    frontiers: Mapping[str, Sequence[tuple[Number, Number]]] | None = None,
) -> Figure:
    """One mark for each measured policy with 95 % intervals; subjects by shape.

    Args:
        points: ``name`` of each is that of its run, ``family`` that of its method.
        x_title: What is drawn across.
        y_title: What is drawn up.
        shares: Axes in percent (``x``, ``y``, ``xy``).
        frontiers: Lines by family, which then have the colours; without them runs have.
    """
    groups = _by_run(points) if frontiers is None else _by_family(points)
    colors = {group.key: group.color for group in groups}
    traces = [_policies(group, x_title, y_title, shares) for group in groups]
    lines = {name: line for name, line in (frontiers or {}).items() if len(line) > 1}
    traces += [_frontier(name, line, colors[name]) for name, line in lines.items()]
    layout = {
        "height": 460, "margin": MARGIN, "legend": LEGEND, "showlegend": True,
        "xaxis": {"title": {"text": plain(x_title)}}, "yaxis": {"title": {"text": plain(y_title)}},
    }  # fmt: skip
    for axis in shares:
        layout[f"{axis}axis"]["tickformat"] = ".1~%"
    best = [f"frontier of {n}: {len(line)} of them" for n, line in (frontiers or {}).items()]
    summary = "; ".join([f"{y_title} against {x_title}: {len(points)} policies", *best])
    return finished(traces, layout, summary, has_data=bool(points))


def _by_run(points: Sequence[dict[str, Any]]) -> list[Group]:
    names = {p["run_id"]: p["name"] for p in points}
    return [
        Group(i, name, PALETTE[n % len(PALETTE)], [p for p in points if p["run_id"] == i])
        for n, (i, name) in enumerate(names.items())
    ]


def _by_family(points: Sequence[dict[str, Any]]) -> list[Group]:
    """A colour for each method, grey for base; the points of each of few runs are joined."""
    own: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for p in points:
        own.setdefault(p["family"], {}).setdefault(p["run_id"], []).append(p)
    bases = {p["family"] for p in points if p["subject"] == "base"}
    methods = [name for name in own if name not in bases]
    colors = {name: METHODS[n % len(METHODS)] for n, name in enumerate(methods)}
    return [
        Group(family, family, colors.get(family, BASE), found, len(runs) <= FEW_RUNS, n == 0,
              says_run=True)
        for family, runs in own.items() for n, found in enumerate(runs.values())
    ]  # fmt: skip


def _frontier(family: str, line: Sequence[tuple[Number, Number]], color: str) -> Trace:
    return {
        "type": "scatter", "mode": "lines", "name": plain(f"frontier of {family}", 60),
        "x": [x for x, _ in line], "y": [y for _, y in line], "legendgroup": family,
        "line": {"color": color, "width": 2}, "hoverinfo": "skip", "showlegend": False,
    }  # fmt: skip


def _policies(group: Group, x_title: str, y_title: str, shares: str) -> Trace:
    """The measured policies of a group."""
    own, color = group.points, group.color
    x_form, y_form = (".1%" if axis in shares else ".4g" for axis in "xy")
    return {
        "type": "scatter", "mode": "lines+markers" if group.is_joined else "markers",
        "x": [p["x"] for p in own], "y": [p["y"] for p in own],
        "name": plain(group.name, 48), "legendgroup": group.key, "showlegend": group.is_first,
        "line": {"color": color, "width": 1, "dash": "dot"},
        "marker": {"size": 11, "color": color, "line": {"width": 2, "color": color},
                   "symbol": [SYMBOLS.get(p["subject"], "square") for p in own]},
        "error_x": _bars(own, "x", color), "error_y": _bars(own, "y", color),
        "customdata": [[p["texts"], _said(p, says_run=group.says_run), p["x_n"] or "?",
                        p["y_n"] or "?"] for p in own],
        "hovertemplate": f"%{{customdata[1]}}<br>{plain(x_title)} %{{x:{x_form}}} (n = "
        f"%{{customdata[2]}})<br>{plain(y_title)} %{{y:{y_form}}} (n = %{{customdata[3]}})",
    }  # fmt: skip


def _said(point: dict[str, Any], *, says_run: bool) -> str:
    """Which policy a point is, and of which run where nothing else says that."""
    said = [f"{point['subject']}, version {point['policy_version']}"]
    return "<br>".join(map(plain, [*said, point["name"]] if says_run else said))


def _bars(points: Sequence[dict[str, Any]], axis: str, color: str) -> dict[str, Any]:
    """Error bars from interval ends, none where there is no interval."""
    up = [_gap(p[f"{axis}_high"], p[axis]) for p in points]
    down = [_gap(p[axis], p[f"{axis}_low"]) for p in points]
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "width": 0,
            "thickness": 1.5, "color": color}  # fmt: skip


def _gap(high: Number | None, low: Number | None) -> float:
    return 0.0 if high is None or low is None else max(0.0, high - low)


def finished(
    traces: list[Trace], layout: dict[str, Any], summary: str, *, has_data: bool = True
) -> Figure:
    """The figure with its spoken summary."""
    return {
        "data": traces if has_data else [],
        "layout": layout,
        "summary": summary,
        "empty": "Nothing measured yet.",
    }


def nothing(reason: str) -> Figure:
    """An empty figure that says why."""
    return {"data": [], "layout": {}, "summary": reason, "empty": reason}


def plain(text: str, limit: int = 160) -> str:
    """Text that plotly, which reads some HTML, shows as it is."""
    short = text if len(text) <= limit else text[: limit - 1] + "…"
    return html.escape(short, quote=False)


def thin(
    x: Sequence[Number], y: Sequence[Number | None]
) -> tuple[list[Number], list[Number | None]]:
    """At most ``MAX_POINTS`` points: of each stretch its lowest and highest, so spikes survive."""
    if len(x) <= MAX_POINTS:
        return list(x), list(y)
    stretch = math.ceil(2 * len(x) / MAX_POINTS)
    kept: list[int] = []
    for start in range(0, len(x), stretch):
        known = [i for i in range(start, min(start + stretch, len(x))) if y[i] is not None]
        if known:
            ends = {min(known, key=lambda i: y[i] or 0.0), max(known, key=lambda i: y[i] or 0.0)}
            kept.extend(sorted(ends))
    return [x[i] for i in kept], [y[i] for i in kept]


def _line(curve: Line, *, share: bool) -> Trace:
    x, y = thin(curve.x, curve.y)
    return {
        "type": "scatter", "x": x, "y": y, "name": plain(curve.name, 48), "connectgaps": False,
        "mode": "lines+markers" if curve.marks or len(x) < 3 else "lines",
        "line": {"color": curve.color, "width": 2, "dash": curve.dash}, "marker": {"size": 6},
        "hovertemplate": "%{y:.1%}" if share else "%{y:.4g}",
    }  # fmt: skip


def _band(curve: Line) -> list[Trace]:
    """The 95 % band of a curve, where it has one."""
    if not curve.low or len(curve.low) != len(curve.x):
        return []
    red, green, blue = (int(curve.color[i : i + 2], 16) for i in (1, 3, 5))
    return [{
        "type": "scatter", "x": [*curve.x, *reversed(curve.x)],
        "y": [*curve.high, *reversed(curve.low)], "mode": "lines", "fill": "toself",
        "fillcolor": f"rgba({red},{green},{blue},0.16)", "line": {"width": 0},
        "hoverinfo": "skip", "showlegend": False,
    }]  # fmt: skip


def _border(x: Number) -> dict[str, Any]:
    """A dotted line from bottom to top where a round ends."""
    return {"type": "line", "x0": x, "x1": x, "xref": "x", "y0": 0, "y1": 1, "yref": "y domain",
            "line": {"width": 1, "dash": "dot", "color": BASE}, "opacity": 0.45}  # fmt: skip


def _target(y: Number) -> dict[str, Any]:
    """A dashed line from left to right at a value asked for."""
    return {"type": "line", "x0": 0, "x1": 1, "xref": "x domain", "y0": y, "y1": y, "yref": "y",
            "line": {"width": 1, "dash": "dash", "color": GOOD}}  # fmt: skip


def _last(values: Sequence[Number | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{known[-1]:.4g}" if known else "not measured"


def _counts(found: dict[str, Number]) -> str:
    of = f" of {found['groups']:,.0f} prompts" if "groups" in found else ""
    return f"{found['n']:,.0f} positions{of}"
