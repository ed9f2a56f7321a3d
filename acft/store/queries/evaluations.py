"""Questions about measured suites: what was measured, and one metric against another."""

from collections.abc import Sequence
from dataclasses import dataclass

from acft.store.connection import Store
from acft.store.queries.answer import Answer, ask


@dataclass(frozen=True)
class Measure:
    """A metric of a suite."""

    suite: str
    metric: str


def measures(store: Store) -> Answer:
    """Every metric that was measured: suite, metric, in how many runs, of which policies."""
    sql = """
SELECT suite, metric, count(DISTINCT run_id) AS n_runs,
    list_sort(list(DISTINCT concat_ws(' ', run_id, subject, policy_version))
        FILTER (value IS NOT NULL)) AS policies
FROM evaluations
GROUP BY suite, metric ORDER BY suite, metric
"""
    return ask(store, sql)


def trade_off(store: Store, run_ids: Sequence[str], across: Measure, up: Measure) -> Answer:
    """One point for each policy that has both measures, with intervals and what made it."""
    sql = """
WITH latest AS (
    SELECT * FROM evaluations WHERE list_contains($run_ids, run_id) AND value IS NOT NULL
    QUALIFY row_number() OVER (
        PARTITION BY run_id, suite, metric, subject, policy_version ORDER BY seq DESC) = 1
)
SELECT run_id, runs.title, runs.method, x.subject, x.policy_version,
    x.value AS x, x.low AS x_low, x.high AS x_high, x.stderr AS x_stderr, x.n AS x_n,
    y.value AS y, y.low AS y_low, y.high AS y_high, y.stderr AS y_stderr, y.n AS y_n
FROM latest AS x JOIN latest AS y USING (run_id, subject, policy_version)
    JOIN runs USING (run_id)
WHERE x.suite = $x_suite AND x.metric = $x_metric AND y.suite = $y_suite AND y.metric = $y_metric
ORDER BY run_id, policy_version, subject
"""
    values = {
        "run_ids": list(run_ids), "x_suite": across.suite, "x_metric": across.metric,
        "y_suite": up.suite, "y_metric": up.metric,
    }  # fmt: skip
    return ask(store, sql, values)
