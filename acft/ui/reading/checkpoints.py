"""What validation measured after each round: every checkpoint as a point of the trade-off."""

from typing import Any

from acft.store.queries.evaluations import Measure
from acft.ui.reading.quantities import SATISFIED, quantity
from acft.ui.reading.reader import Run

SUITE = "validation, every checkpoint"
NAMES = (SATISFIED, "utility/perplexity_validation", "policy/kl_policy_base")
JUDGED = "rollout/toxic_share/"


def measures(runs: list[Run]) -> list[Measure]:
    """Everything that some run measured after each round."""
    judged = {n for run in runs for n in run.history.scalars if n.startswith(JUDGED)}
    known = [n for n in NAMES if any(n in run.history.scalars for run in runs)]
    return [Measure(SUITE, name) for name in (*sorted(judged), *known)]


def measured_in(runs: list[Run], measure: Measure) -> set[str]:
    """The checkpoints of which there is a value, by run and round."""
    return {f"{run.run_id} {number}" for run in runs for number in _by_round(run, measure.metric)}


def label(measure: Measure) -> str:
    """What an axis is called."""
    name = measure.metric
    if name.startswith(JUDGED):
        return f"toxic share by {name.removeprefix(JUDGED)} ({SUITE})"
    return f"{quantity(name).label} ({SUITE})"


def points(runs: list[Run], across: Measure, up: Measure) -> list[dict[str, Any]]:
    """One point for each round of each run that has both; version 0 is the base."""
    found = []
    for run in runs:
        x, y = (_by_round(run, measure.metric) for measure in (across, up))
        for number in sorted(x.keys() & y.keys()):
            found.append(
                {
                    "run_id": run.run_id, "title": run.title, "method": run.method,
                    "subject": "policy" if number else "base", "policy_version": number,
                    **_axis("x", run, across.metric, number, x[number]),
                    **_axis("y", run, up.metric, number, y[number]),
                }
            )  # fmt: skip
    return found


def _axis(axis: str, run: Run, name: str, number: int, value: float) -> dict[str, Any]:
    ends = {side: _by_round(run, f"{name}_{side}").get(number) for side in ("low", "high")}
    return {
        axis: value,
        f"{axis}_low": ends["low"],
        f"{axis}_high": ends["high"],
        f"{axis}_n": None,
    }


def _by_round(run: Run, name: str) -> dict[int, float]:
    return {point.round: point.value for point in run.history.scalars.get(name, [])}
