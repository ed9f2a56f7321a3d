"""Questions about token-level guidance: which sequences, which tokens pay for the constraint."""

# ruff: noqa: S608 - only names from constants and quoted literals are formatted into SQL

import json
from typing import Any, Literal

import pandas as pd

from acft.schema import SATISFIED_ABOVE, RunPaths
from acft.store.connection import Store
from acft.store.facts import run_key
from acft.store.queries.answer import FIRST, Answer, Slice, ask

SEQUENCE_ORDERS = {
    "kl_sum": "kl_sum DESC",
    "kl_max": "kl_max DESC NULLS LAST",
    "newest": "step DESC",
}


def sequences(
    store: Store,
    run_id: str,
    *,
    order_by: Literal["kl_sum", "kl_max", "newest"] = "kl_sum",
    part: Slice = FIRST,
) -> Answer:
    """Sequences with stored guidance: their KL (nats, tokens in the loss) and their text.

    ``response`` is the text from its first token in the loss on, None without one; ``toxicity`` the
    highest score of the response and ``prompt_text`` its prompt, None for texts of a corpus.
    """
    where = "FROM sequences WHERE run_key = $run_key"
    order = f"ORDER BY {SEQUENCE_ORDERS[order_by]}, sequence_id, shard_seq"
    sql = f"""
WITH page AS (
    SELECT sequence_id, shard_seq, source, round, step, policy_version, oracle_version, n_tokens,
        n_in_loss, kl_sum, kl_max, kl_logged
    {where}
    {order} {part.clause()}
), texts AS (
    SELECT shard_seq, sequence_id, step, string_agg(token_text, '' ORDER BY position) AS text,
        string_agg(token_text, '' ORDER BY position) FILTER (position >= start) AS response
    FROM (
        SELECT *, min(position) FILTER (in_loss) OVER (
            PARTITION BY shard_seq, sequence_id, step
        ) AS start
        FROM guidance
        WHERE run_key = $run_key AND shard_seq IN (SELECT shard_seq FROM page)
            AND sequence_id IN (SELECT sequence_id FROM page)
    )
    GROUP BY ALL
), judged AS (
    SELECT rollout_id AS sequence_id, max(value) AS toxicity FROM scores
    WHERE run_key = $run_key AND rollout_id IN (SELECT sequence_id FROM page)
    GROUP BY ALL
), answered AS (
    SELECT rollout_id AS sequence_id, any_value(prompt_text) AS prompt_text FROM rollouts
    WHERE run_key = $run_key AND rollout_id IN (SELECT sequence_id FROM page)
    GROUP BY rollout_id
)
SELECT page.*, texts.text, texts.response, judged.toxicity, answered.prompt_text
FROM page LEFT JOIN texts USING (shard_seq, sequence_id, step)
    LEFT JOIN judged USING (sequence_id) LEFT JOIN answered USING (sequence_id)
{order}
"""
    return ask(store, sql, {"run_key": run_key(run_id)}, f"SELECT count(*) {where}")


def sequence_versions(store: Store, run_id: str, sequence_id: str) -> Answer:
    """The moments at which one sequence was scored, in order; for the checkpoint scrubber."""
    sql = """
SELECT shard_seq, step, round, policy_version, oracle_version, n_tokens, n_in_loss, kl_sum, kl_max,
    kl_logged
FROM sequences WHERE run_key = $run_key AND sequence_id = $sequence_id
ORDER BY step, shard_seq
"""
    return ask(store, sql, {"run_key": run_key(run_id), "sequence_id": sequence_id})


def sum_check(store: Store, run_id: str, tolerance: float) -> dict[str, Any]:
    """Whether stored token values add up to what the training pass logged, over all sequences.

    ``n_logged`` sequences have a logged sum, ``n_wrong`` of them differ by more than ``tolerance``
    nats, ``largest`` is the largest difference; None without a logged sum.
    """
    sql = """
SELECT count(kl_logged) AS n_logged,
    count(*) FILTER (abs(kl_sum - kl_logged) > $tolerance) AS n_wrong,
    max(abs(kl_sum - kl_logged)) AS largest
FROM sequences WHERE run_key = $run_key
"""
    return ask(store, sql, {"run_key": run_key(run_id), "tolerance": tolerance}).records()[0]


def has_first_token(store: Store, run_id: str, sequence_id: str) -> bool:
    """Whether the stored token values of a sequence begin with its first token."""
    [(first,)] = store.rows(
        "SELECT min(position) FROM guidance "
        "WHERE run_key = $run_key AND sequence_id = $sequence_id",
        {"run_key": run_key(run_id), "sequence_id": sequence_id},
    )
    return first == 0


def guidance(
    store: Store,
    run_id: str,
    sequence_id: str,
    *,
    shard_seq: int | None = None,
    step: int | None = None,
) -> Answer:
    """Every token of one sequence; ``alternatives`` is a list of tables, None if the shard is gone.

    Without ``shard_seq`` and ``step`` the latest scoring of the sequence is taken.
    """
    values = {"run_key": run_key(run_id), "sequence_id": sequence_id}
    moment = store.rows(
        "SELECT shard_seq, step FROM sequences WHERE run_key = $run_key "
        "AND sequence_id = $sequence_id AND ($shard_seq IS NULL OR shard_seq = $shard_seq) "
        "AND ($step IS NULL OR step = $step) ORDER BY step DESC, shard_seq DESC LIMIT 1",
        {**values, "shard_seq": shard_seq, "step": step},
    )
    values["shard_seq"], values["step"] = moment[0] if moment else (None, None)
    sql = """
SELECT * EXCLUDE (run_key) FROM guidance
WHERE run_key = $run_key AND shard_seq = $shard_seq AND sequence_id = $sequence_id AND step = $step
ORDER BY position
"""
    answer = ask(store, sql, values)
    found = _alternatives(store, run_id, values) if moment else {}
    rows = answer.rows.assign(
        alternatives=pd.Series(
            [found.get(position) for position in answer.rows["position"]], dtype=object
        )
    )
    return Answer(rows, answer.sql, answer.total)


def most_shifted(
    store: Store,
    run_id: str,
    *,
    among: Literal["all", "satisfied", "violated"] = "all",
    part: Slice = FIRST,
) -> Answer:
    """Vocabulary that pays most: n, KL (nats), and mean change of log p from base to policy.

    ``among`` keeps rollouts whose response satisfied or violated the constraint.
    """
    join = "" if among == "all" else _verdict(violated=among == "violated")
    grouped = f"""
    SELECT token_text, count(*) AS n, sum(kl_guided_policy::DOUBLE) AS kl_sum,
        avg(kl_guided_policy) AS kl_mean, avg(logprob_policy - logprob_base) AS shift_mean,
        avg(logprob_guided - logprob_policy) AS pull_mean
    FROM guidance {join}
    WHERE guidance.run_key = $run_key AND in_loss
    GROUP BY token_text"""
    sql = f"{grouped}\nORDER BY kl_sum DESC, token_text {part.clause()}"
    return ask(store, sql, {"run_key": run_key(run_id)}, f"SELECT count(*) FROM ({grouped})")


def _verdict(*, violated: bool) -> str:
    sign = "<=" if violated else ">"
    return (
        "SEMI JOIN (SELECT rollout_id FROM rollouts WHERE run_key = $run_key AND satisfaction "
        f"{sign} {SATISFIED_ABOVE}) AS judged ON judged.rollout_id = guidance.sequence_id"
    )


def _alternatives(store: Store, run_id: str, values: dict[str, Any]) -> dict[int, Any]:
    """Alternatives by position, from the shard itself; none when the file is gone."""
    names = store.rows(
        "SELECT name FROM shards WHERE run_id = $run_id AND shard_seq = $shard_seq",
        {"run_id": run_id, "shard_seq": values["shard_seq"]},
    )
    # The ingest thread may have forgotten the shard since the sequence was found.
    path = RunPaths(store.root / run_id).shards / names[0][0] if names else None
    if path is None or not path.exists():
        return {}
    rows = store.rows(
        "SELECT position, alternatives FROM read_parquet($path) "
        "WHERE sequence_id = $sequence_id AND step = $step AND alternatives IS NOT NULL",
        {"path": str(path), "sequence_id": values["sequence_id"], "step": values["step"]},
    )
    return {position: json.loads(text) for position, text in rows}
