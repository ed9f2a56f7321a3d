"""What lm-evaluation-harness logs of each question, as totals."""

import importlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from acft.benchmarks.base import Measured
from acft.benchmarks.harness_tasks import PACKAGE
from acft.totals import Totals

Logged = Mapping[str, Sequence[Mapping[str, Any]]]
"""What the harness logs of each question, by task."""
Aggregations = Mapping[str, Mapping[str, str]]
"""What the harness makes of a metric's values, by task and metric; the mean where it is not said,
and empty for what is none of those below."""

MEAN, NANMEAN = "mean", "nanmean"
PERPLEXITY = "perplexity"
"""Of a log-likelihood for each question."""
WEIGHTED, BITS = "weighted_perplexity", "bits_per_byte"
"""Of a log-likelihood and a number of words or bytes for each question."""


class _Value(NamedTuple):
    """One number of one question."""

    part: str
    quantity: str
    group: str
    is_log: bool
    total: tuple[float, float] | None
    """Sum and count; None where it is no mean of finite numbers."""


def totals_of(samples: Logged, task: str, aggregations: Aggregations | None = None) -> Measured:
    """Every metric of the samples of a task and its parts, one group for each question.

    A quantity is a metric, and its filter where a part has several. Metrics that are no means are
    not among them; see ``left_out``.
    """
    columns: dict[str, dict[str, tuple[float, float]]] = {}
    logs: set[str] = set()
    for value in _values(samples, aggregations or {}):
        if value.total is not None:
            columns.setdefault(value.quantity, {})[value.group] = value.total
            logs |= {value.quantity} if value.is_log else set()
    return {
        f"{quantity}/{task}": Totals(
            tuple(column), *np.array(list(column.values())).T, is_log=quantity in logs
        )
        for quantity, column in columns.items()
    }


def left_out(samples: Logged, aggregations: Aggregations) -> list[str]:
    """Quantities of which the totals of some part have nothing."""
    told: dict[tuple[str, str], bool] = {}
    for value in _values(samples, aggregations):
        key = (value.part, value.quantity)
        told[key] = told.get(key, False) or value.total is not None
    return sorted({quantity for (_, quantity), is_told in told.items() if not is_told})


def aggregations_of(part: Any) -> dict[str, str]:
    """What the package makes of the values of each metric of one of its tasks."""
    registry = importlib.import_module(f"{PACKAGE}.api.registry")
    names = (MEAN, NANMEAN, PERPLEXITY, WEIGHTED, BITS)
    known = {registry.get_aggregation(name): name for name in names} | {np.mean: MEAN}
    return {metric: known.get(found, "") for metric, found in part.aggregation().items()}


def _values(samples: Logged, aggregations: Aggregations) -> Iterator[_Value]:
    for part, rows in sorted(samples.items()):
        has_filters = len({row.get("filter") for row in rows}) > 1
        known = aggregations.get(part, {})
        for row in rows:
            ending = f"_{row['filter']}" if has_filters else ""
            found = [(name, row.get(name), known.get(name, MEAN)) for name in row["metrics"]]
            nats = _nats_of_answer(row)
            if nats is not None:
                found.append(("answer_nats", nats, MEAN))
            for name, value, aggregation in found:
                # what follows "/" and "@" in a measurement's name is a scorer and a category
                quantity = f"{name}{ending}".replace("/", "-").replace("@", "_at_")
                is_log = aggregation in (PERPLEXITY, WEIGHTED)
                total = _total(value, aggregation)
                yield _Value(part, quantity, f"{part}:{row['doc_id']}", is_log, total)


def _total(value: Any, aggregation: str) -> tuple[float, float] | None:
    """Sum and count of one question's value; None where it has none that are finite."""
    if aggregation in (WEIGHTED, BITS):
        is_pair = isinstance(value, (tuple, list)) and len(value) == 2
        if not is_pair or not all(map(_is_number, value)):
            return None
        return -float(value[0]) / (math.log(2) if aggregation == BITS else 1), float(value[1])
    if not aggregation or not _is_number(value):
        return None
    return (-float(value) if aggregation == PERPLEXITY else float(value)), 1.0


def _nats_of_answer(row: Mapping[str, Any]) -> float | None:
    """Nats of the right answer's text; None for tasks that are not multiple choice."""
    target, choices = row.get("target"), row.get("filtered_resps", [])
    if isinstance(target, str) and target.isdigit():
        target = int(target)
    if not isinstance(target, int) or not 0 <= target < len(choices):
        return None
    choice = choices[target]
    is_likelihood = isinstance(choice, (list, tuple)) and len(choice) == 2
    return -float(choice[0]) if is_likelihood else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float, np.number)) and math.isfinite(float(value))
