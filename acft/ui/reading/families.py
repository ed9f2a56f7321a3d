"""Policies of the trade-off by method: whose each is, each method's best, all at one utility."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from acft.tradeoff import Point, frontier, harm_at
from acft.ui.reading.names import trained_run
from acft.ui.reading.reader import Reader, Run, table_of

BASE = "base"
LOW = (
    "toxic", "rollout/toxic_share", "expected_max_toxicity", "mean_toxicity", "perplexity",
    "mean_perplexity", "utility/perplexity", "bits_per_byte", "judge_perplexity",
    "judge_mean_perplexity", "kl_", "policy/kl_", "degenerate_share",
    "empty_share", "refusal_share", "repetition",
)  # fmt: skip
"""Beginnings of metrics of which less is better."""
HIGH = ("satisfaction", "rollout/satisfaction", "distinct_", "acc", "exact_match", "win_rate")
"""The same where more is better."""

Measured = Sequence[Mapping[str, Any]]
"""Points of the trade-off, each with its ``family``."""
Signs = tuple[int, int]


def families(reader: Reader, runs: Sequence[Run], points: Measured) -> list[str]:
    """The method of each point's policy, ``base`` of base policies, beside the model if several.

    A measurement's policy is of the method of the run that it measures.
    """
    known = {run.run_id: run for run in runs}
    used = {p["run_id"]: known[p["run_id"]] for p in points}
    models = {run_id: _model(run) for run_id, run in used.items()}
    methods = {run_id: _method(trained_run(reader, known, run)) for run_id, run in used.items()}
    several = len(set(models.values())) > 1
    return [
        " · ".join([
            _family(str(p["subject"]), methods[p["run_id"]]),
            *([models[p["run_id"]]] if several else []),
        ])
        for p in points
    ]  # fmt: skip


def _method(run: Run) -> str:
    """The method; without its KL term it is another, plain fine-tuning."""
    is_plain = run.method == "acft" and table_of(run.settings, "method").get("kl_weight") == 0
    return f"{run.method}, KL weight 0" if is_plain else run.method


def _family(subject: str, method: str) -> str:
    if subject == "policy":
        return method or subject
    # A control or a decoder is not what the method by itself trains.
    return subject if subject in (BASE, "control") else f"{method}, {subject}"


def _model(run: Run) -> str:
    return PurePath(str(table_of(run.settings, "model").get("name", ""))).name


def sign(metric: str) -> int:
    """1 where less of a metric is better, -1 where more is, 0 where nobody has said."""
    return 1 if metric.startswith(LOW) else -1 if metric.startswith(HIGH) else 0


def frontiers(points: Measured, signs: Signs) -> dict[str, list[tuple[float, float]]]:
    """The policies of each method that none of its others beats in both, as places in the chart.

    None where nobody has said which direction of an axis is better.
    """
    return {
        family: [(signs[0] * p.cost, signs[1] * p.harm) for p in frontier(settings)]
        for family, settings in _settings(points, signs).items()
    }


def matched(
    points: Measured, signs: Signs, at: str
) -> tuple[list[str], list[tuple[float, list[float | None]]]]:
    """The methods, that of ``at`` first, and what each reaches up at every utility of that one.

    Between two policies of a frontier by interpolation; None where a method was never so useful.
    """
    settings = _settings(points, signs)
    if at not in settings:
        return [], []
    names = [at, *(name for name in settings if name != at)]
    rows = []
    for point in frontier(settings[at]):
        harms = [harm_at(settings[name], point.cost) for name in names]
        told = [None if harm is None else signs[1] * harm for harm in harms]
        rows.append((signs[0] * point.cost, told))
    return names, rows


def _settings(points: Measured, signs: Signs) -> dict[str, list[Point]]:
    found: dict[str, list[Point]] = defaultdict(list)
    for p in points:
        if all(signs) and p["subject"] != BASE:
            found[p["family"]].append(Point(signs[0] * p["x"], signs[1] * p["y"]))
    return dict(found)
