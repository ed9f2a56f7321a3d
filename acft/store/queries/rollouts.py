"""Questions about responses and their scores."""

# ruff: noqa: S608 - only names from constants and quoted literals are formatted into SQL

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from acft.store.connection import Store, StoreError
from acft.store.facts import run_key
from acft.store.queries.answer import FIRST, Answer, Slice, ask, literal, quoted

COLUMNS = (
    "rollout_id", "round", "purpose", "subject", "policy_version", "prompt_id", "prompt_split",
    "prompt_category", "sample", "prompt_text", "response_text", "n_tokens", "logprob",
    "log_weight", "satisfaction",
)  # fmt: skip
SORTABLE = ("round", "policy_version", "n_tokens", "logprob", "satisfaction", "prompt_id")
EQUAL = ("round", "purpose", "subject", "policy_version", "prompt_id")


@dataclass(frozen=True)
class ScoreRange:
    """Responses to which a scorer gave a value between two limits, both included."""

    scorer: str
    """Empty means any of them."""
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True)
class RolloutFilter:
    """Which responses of a run are meant; None and empty text leave a condition out."""

    round: int | None = None
    policy_version: int | None = None
    purpose: str = ""
    subject: str = ""
    prompt_id: str = ""
    text: str = ""
    """Searched for in prompt and response, upper and lower case alike."""
    regex: str = ""
    """Searched for in prompt and response, each by itself (RE2 syntax)."""
    scores: tuple[ScoreRange, ...] = ()
    tokens: tuple[int, int] | None = None
    """Fewest and most tokens of the response, both included."""


EVERY_ROLLOUT = RolloutFilter()


def scorers(store: Store, run_id: str) -> list[str]:
    """Names of all scorers whose values a run stored, sorted."""
    rows = store.rows(
        "SELECT DISTINCT scorer FROM scores WHERE run_key = $run_key ORDER BY scorer",
        {"run_key": run_key(run_id)},
    )
    return [name for (name,) in rows]


def rollouts(
    store: Store,
    run_id: str,
    wanted: RolloutFilter = EVERY_ROLLOUT,
    *,
    order_by: str = "round",
    descending: bool = False,
    part: Slice = FIRST,
) -> Answer:
    """Responses with their scores, one column ``score:NAME`` for each scorer.

    Args:
        store: An open store.
        run_id: The run.
        wanted: Which responses.
        order_by: A column of ``SORTABLE`` or ``score:NAME``; ties go by round and id.
        descending: Largest first.
        part: Which rows of the answer.

    Raises:
        StoreError: ``order_by`` is neither, or the regular expression cannot be read.
    """
    names = scorers(store, run_id)
    where, values = _where(run_id, wanted)
    direction = "DESC NULLS LAST" if descending else "ASC NULLS LAST"
    source, key = _order(order_by, names)
    order = f"ORDER BY sort_key {direction}, round, rollout_id"
    columns = ", ".join(f"rollouts.{name}" for name in COLUMNS)
    sql = f"""
WITH page AS (
    SELECT {columns}, {key} AS sort_key
    FROM {source} {where}
    {order} {part.clause()}
), page_scores AS (
    SELECT rollout_id{_score_columns(names)}
    FROM scores
    WHERE run_key = $run_key AND rollout_id IN (SELECT rollout_id FROM page)
    GROUP BY rollout_id
)
SELECT page.* EXCLUDE (sort_key), page_scores.* EXCLUDE (rollout_id)
FROM page LEFT JOIN page_scores USING (rollout_id)
{order}
"""
    return ask(store, sql, values, f"SELECT count(*) FROM rollouts {where}")


def rollout(store: Store, run_id: str, rollout_id: str) -> dict[str, Any] | None:
    """Everything about one response, ``scores`` by scorer name; None if there is none."""
    values = {"run_key": run_key(run_id), "rollout_id": rollout_id}
    sql = "SELECT * FROM rollouts WHERE run_key = $run_key AND rollout_id = $rollout_id"
    found = ask(store, sql, values).records()
    if not found:
        return None
    scores = store.rows(
        "SELECT scorer, value FROM scores "
        "WHERE run_key = $run_key AND rollout_id = $rollout_id ORDER BY scorer",
        values,
    )
    return {**found[0], "scores": dict(scores)}


def histogram(
    store: Store,
    run_id: str,
    wanted: RolloutFilter = EVERY_ROLLOUT,
    *,
    of: str = "satisfaction",
    bins: int = 20,
) -> Answer:
    """Counts of responses by round and bin; ``of`` is ``satisfaction`` or ``score:NAME``."""
    where, values = _where(run_id, wanted)
    source, key = _order(of, scorers(store, run_id))
    sql = f"""
SELECT rollouts.round, least(floor({key} * $bins), $bins - 1)::INTEGER AS bin, count(*) AS n
FROM {source} {where} AND {key} IS NOT NULL
GROUP BY ALL ORDER BY ALL
"""
    return ask(store, sql, {**values, "bins": bins})


def choices(
    store: Store, run_id: str, column: Literal["round", "policy_version", "purpose", "subject"]
) -> list[Any]:
    """The values of a column that occur in a run, sorted; for drop-down lists."""
    rows = store.rows(
        f"SELECT DISTINCT {quoted(column)} FROM rollouts WHERE run_key = $run_key ORDER BY 1",
        {"run_key": run_key(run_id)},
    )
    return [value for (value,) in rows]


def longest(store: Store, run_id: str) -> int:
    """Tokens of the longest response of a run; 0 where there is none."""
    sql = "SELECT coalesce(max(n_tokens), 0) FROM rollouts WHERE run_key = $run_key"
    return int(store.rows(sql, {"run_key": run_key(run_id)})[0][0])


def _where(run_id: str, wanted: RolloutFilter) -> tuple[str, dict[str, Any]]:
    conditions = ["rollouts.run_key = $run_key"]
    values: dict[str, Any] = {"run_key": run_key(run_id)}
    for name in EQUAL:
        value = getattr(wanted, name)
        if value not in (None, ""):
            conditions.append(f"rollouts.{name} = ${name}")
            values[name] = value
    if wanted.text:
        conditions.append(
            "(contains(lower(rollouts.response_text), lower($text)) "
            "OR contains(lower(rollouts.prompt_text), lower($text)))"
        )
        values["text"] = wanted.text
    if wanted.regex:
        conditions.append(
            "(regexp_matches(rollouts.response_text, $regex) "
            "OR regexp_matches(rollouts.prompt_text, $regex))"
        )
        values["regex"] = wanted.regex
    for index, score in enumerate(wanted.scores):
        by_scorer = f"AND scorer = $scorer{index} " if score.scorer else ""
        conditions.append(
            "rollouts.rollout_id IN (SELECT rollout_id FROM scores WHERE run_key = $run_key "
            f"{by_scorer}AND value BETWEEN $low{index} AND $high{index})"
        )
        values |= {f"low{index}": score.low, f"high{index}": score.high}
        if score.scorer:
            values[f"scorer{index}"] = score.scorer
    if wanted.tokens is not None:
        conditions.append("rollouts.n_tokens BETWEEN $fewest AND $most")
        values["fewest"], values["most"] = wanted.tokens
    return "WHERE " + "\n    AND ".join(conditions), values


def _order(name: str, scorer_names: Sequence[str]) -> tuple[str, str]:
    """Tables to select from and the column to sort or bin by."""
    if name in SORTABLE:
        return "rollouts", f"rollouts.{name}"
    scorer = name.removeprefix("score:")
    if scorer == name or scorer not in scorer_names:
        allowed = [*SORTABLE, *(f"score:{known}" for known in scorer_names)]
        raise StoreError(f"responses cannot be sorted by {name!r} (allowed: {', '.join(allowed)})")
    source = (
        "rollouts LEFT JOIN (SELECT rollout_id, value AS by_score FROM scores "
        f"WHERE run_key = $run_key AND scorer = {literal(scorer)}) AS sorting USING (rollout_id)"
    )
    return source, "by_score"


def _score_columns(names: Sequence[str]) -> str:
    return "".join(
        f",\n        max(value) FILTER (scorer = {literal(name)}) AS {quoted('score:' + name)}"
        for name in names
    )
