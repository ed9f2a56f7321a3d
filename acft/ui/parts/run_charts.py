"""A run's history to figures: losses, divergences, satisfaction, oracle, speed."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from acft.ui.reading.measuring import goes_on
from acft.ui.reading.quantities import SATISFIED, quantity
from acft.ui.reading.reader import History, Point, Run, table_of
from acft.ui.web import charts
from acft.ui.web.charts import Figure, Line

GIB = 2**30
UNTESTED = "The oracle has not been tested yet."
TOXIC_SHARE = "rollout/toxic_share/"
COLORS = {
    "policy/loss": charts.BASE,
    "policy/ce": charts.POLICY,
    "policy/kl_guided_policy": charts.GUIDED,
    "policy/kl_policy_guided": charts.POLICY,
    "policy/kl_policy_base": charts.GOOD,
    SATISFIED: charts.GOOD,
    "oracle/strength": charts.GUIDED,
}


def losses(run: Run) -> Figure:
    """Cross-entropy and total loss over steps."""
    if not takes_steps(run):
        return charts.nothing("Not measured: no weights are trained.")
    return _figure(run, ("policy/ce", "policy/loss"), "nats per token")


def divergences(run: Run) -> Figure:
    """Both directions of the KL to the guided policy, and the distance from base."""
    names = ("policy/kl_guided_policy", "policy/kl_policy_guided", "policy/kl_policy_base")
    return _of_oracle(run, _figure(run, names, "nats per token"))


def satisfaction(run: Run) -> Figure:
    """Satisfaction of validation prompts against delta with its 95 % band, and the judges' view."""
    history = run.history
    low, high = (
        [p.value for p in history.scalars.get(f"rollout/satisfaction_{side}", [])]
        for side in ("low", "high")
    )
    main = _line(run, SATISFIED)
    curves = [Line(main.name, main.x, main.y, main.color, low=low, high=high, marks=True)]
    judges = sorted(n for n in history.scalars if n.startswith(TOXIC_SHARE))
    for name, color in zip(judges, charts.OTHER, strict=False):
        points = history.scalars[name]
        label = f"clean, {name.removeprefix(TOXIC_SHARE)}"
        values = [1 - p.value for p in points]
        curves.append(Line(label, _places(run, points), values, color, "dot", marks=True))
    return charts.lines(curves, "share of responses", **_axis(run), target=delta(run), share=True)


def reliability(run: Run) -> Figure:
    """Calibration of the latest oracle."""
    if not run.history.calibrations:
        return _of_oracle(run, charts.nothing(UNTESTED))
    latest = run.history.calibrations[-1]
    return charts.reliability(latest.reliability, latest.n_rollouts)


def by_position(run: Run) -> Figure:
    """AUC of the oracle along the response, first and latest round."""
    tests = run.history.calibrations
    if not tests:
        return _of_oracle(run, charts.nothing(UNTESTED))
    chosen = [tests[0], tests[-1]] if len(tests) > 1 else tests
    shades = (charts.BASE, charts.POLICY) if len(chosen) > 1 else (charts.POLICY,)
    curves = [
        Line(
            f"round {test.round}",
            [float(row["position"] or 0) for row in test.by_position],
            [row["auc"] for row in test.by_position],
            color,
        )
        for test, color in zip(chosen, shades, strict=True)
    ]
    return charts.lines(curves, "AUC", x_title="position in the response (tokens)")


def steering(run: Run) -> Figure:
    """What moves by itself: KL weight under dual ascent, strength of the oracle."""
    return _of_oracle(run, _figure(run, ("policy/kl_weight", "oracle/strength"), "value"))


def accuracy(run: Run) -> Figure:
    """AUC and Brier score of the oracle after each round, beside the Brier score of a constant."""
    tests = run.history.calibrations
    if not tests:
        return _of_oracle(run, charts.nothing(UNTESTED))
    rounds = [test.round for test in tests]
    curves = [
        Line(label, rounds, [test.metrics.get(name) for test in tests], color, marks=True)
        for name, label, color in (
            ("auc", "AUC", charts.POLICY),
            ("brier", "Brier", charts.GUIDED),
            ("brier_constant", "Brier of a constant", charts.BASE),
        )
    ]
    return charts.lines(curves, "value", x_title="round", until=run.status.rounds)


def speed(run: Run) -> Figure:
    """Tokens that training reads in a second, over steps."""
    if not takes_steps(run):
        return charts.nothing("Not measured: no weights are trained.")
    return _figure(run, ("time/tokens_per_second",), "tokens per second")


def memory(run: Run) -> Figure:
    """Peak memory of the worker over steps."""
    line = _line(run, "memory/peak_bytes")
    in_gib = replace(line, y=[value / GIB for value in line.y if value is not None])
    return charts.lines([in_gib], "GiB", **_axis(run))


def _of_oracle(run: Run, figure: Figure) -> Figure:
    """The figure, or why it stays empty where a method without an oracle has ended."""
    is_over = not figure["data"] and not goes_on(run)
    if is_over and not run.may_have_oracle:
        return charts.nothing(f"Not measured: the method {run.method} has no oracle.")
    return figure


def round_ends(history: History) -> list[int]:
    """Steps at which rounds ended; nothing ends where the base policy was validated."""
    return [step for step in sorted(history.last_steps.values())[:-1] if step > 0]


def delta(run: Run) -> float | None:
    """The satisfaction asked for."""
    value = table_of(run.settings, "method").get("delta")
    return float(value) if isinstance(value, (int, float)) else None


def _figure(run: Run, names: Sequence[str], unit: str) -> Figure:
    curves = [_line(run, name) for name in names if name in run.history.scalars]
    return charts.lines(curves, unit, **_axis(run))


def takes_steps(run: Run) -> bool:
    """Whether the policy is trained, as far as is known: a round has ended with a step, or none."""
    return not run.history.rounds or any(run.history.last_steps.values())


def _axis(run: Run) -> dict[str, Any]:
    """Title and end of the axis: optimiser steps, or rounds where none are taken."""
    if takes_steps(run):
        return {"rounds": round_ends(run.history), "until": run.status.steps}
    return {"x_title": "round", "until": run.status.rounds}


def _places(run: Run, points: Sequence[Point]) -> list[int]:
    """Where points stand on that axis."""
    by_step = takes_steps(run)
    return [point.step if by_step else point.round for point in points]


def _line(run: Run, name: str) -> Line:
    points = run.history.scalars.get(name, [])
    return Line(
        quantity(name).label,
        _places(run, points),
        [point.value for point in points],
        COLORS.get(name, charts.POLICY),
        marks=len(points) < 30,
    )
