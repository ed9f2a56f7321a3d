"""Sums that must agree; shown on the run page in green or red."""

from acft.store.connection import Store
from acft.store.facts import run_key
from acft.store.queries.answer import Answer, ask


def taken_in(store: Store, run_id: str) -> tuple[int, int]:
    """How many events, and how many shards, the database has read of a run."""
    sql = """
SELECT coalesce((SELECT seq FROM positions WHERE run_id = $run_id), 0),
    (SELECT count(*) FROM shards WHERE run_id = $run_id)
"""
    [(events, shards)] = store.rows(sql, {"run_id": run_id})
    return events, shards


def audit(store: Store, run_id: str) -> Answer:
    """Identities of one run: what is checked, both sides, and whether they agree.

    Counts agree exactly; sums of float32 values to a ten-thousandth.
    """
    sql = """
WITH ledger AS (
    SELECT table_name, sum(rows) FILTER (state = 'loaded') AS promised,
        count(*) FILTER (state = 'refused') AS refused
    FROM shards WHERE run_id = $run_id GROUP BY table_name
), stored AS (
    SELECT 'rollouts' AS table_name, count(*) AS n FROM rollouts WHERE run_key = $run_key
    UNION ALL SELECT 'scores', count(*) FROM scores WHERE run_key = $run_key
    UNION ALL SELECT 'guidance', count(*) FROM guidance WHERE run_key = $run_key
), numbers AS (
    SELECT count(*) AS n, count(DISTINCT seq) AS distinct_n, coalesce(max(seq), 0) AS last
    FROM events WHERE run_key = $run_key
), twice AS (
    SELECT count(*) AS n, count(DISTINCT rollout_id) AS distinct_n
    FROM rollouts WHERE run_key = $run_key
), orphans AS (
    SELECT count(*) AS n FROM scores WHERE run_key = $run_key AND rollout_id NOT IN (
        SELECT rollout_id FROM rollouts WHERE run_key = $run_key)
), kl AS (
    SELECT coalesce(sum(kl_sum), 0) AS by_sequence, (
        SELECT coalesce(sum(kl_guided_policy::DOUBLE), 0) FROM guidance
        WHERE run_key = $run_key AND in_loss) AS by_token
    FROM sequences WHERE run_key = $run_key
), unlike AS (
    SELECT count(*) AS n FROM sequences
    WHERE run_key = $run_key AND abs(kl_sum - kl_logged) > 1e-4
), checks AS (
    SELECT 0 AS slack, 'rows of ' || table_name || ': stored = promised by the shards'' events'
        AS what, coalesce(n, 0)::DOUBLE AS found, coalesce(promised, 0)::DOUBLE AS expected
    FROM stored LEFT JOIN ledger USING (table_name)
    UNION ALL SELECT 0, 'shards of ' || table_name || ' that were refused', refused, 0 FROM ledger
    UNION ALL SELECT 0, 'events: numbered without gaps', last, n FROM numbers
    UNION ALL SELECT 0, 'events: none stored twice', n, distinct_n FROM numbers
    UNION ALL SELECT 0, 'rollouts: none stored twice', n, distinct_n FROM twice
    UNION ALL SELECT 0, 'scores without a rollout', n, 0 FROM orphans
    UNION ALL SELECT 1e-4, 'KL in nats: sum over tokens = sum over sequences',
        by_token, by_sequence FROM kl
    UNION ALL SELECT 0, 'sequences whose KL is not the one the training pass logged', n, 0
    FROM unlike
)
SELECT what, found, expected, slack = 0 AS is_count,
    abs(found - expected) <= slack * greatest(1, abs(expected)) AS agrees
FROM checks ORDER BY what
"""
    return ask(store, sql, {"run_id": run_id, "run_key": run_key(run_id)})
