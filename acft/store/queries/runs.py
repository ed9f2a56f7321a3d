"""Questions about runs: list, curves, calibration, events, differences of settings."""

# ruff: noqa: S608 - only names from constants and quoted literals are formatted into SQL

import json
from collections.abc import Sequence
from typing import Any, Literal

import pandas as pd

from acft.store.connection import Store
from acft.store.facts import run_key
from acft.store.queries.answer import FIRST, WHOLE, Answer, Page, ask, ask_page, quoted

LIST_COLUMNS = (
    "run_id", "title", "kind", "state", "failure", "message", "advice", "method", "model", "device",
    "created", "started", "ended", "heartbeat", "round", "rounds", "step", "steps", "phase",
    "seconds_left", "tags", "notes", "archived", "cloned_from", "sweep", "problem",
)  # fmt: skip
SPARKLINE_POINTS = 40


def run_list(
    store: Store,
    *,
    search: str = "",
    tag: str = "",
    with_archived: bool = False,
    sparklines: Sequence[str] = (),
    page: Page = FIRST,
) -> Answer:
    """Runs, newest first, with one column of up to 40 means for each quantity in ``sparklines``.

    ``state`` is what the worker last wrote; whether it lives is for ``runs.status`` to say.
    """
    where = """
    FROM runs
    WHERE ($search = '' OR contains(lower(concat_ws(' ', run_id, title, method, model, notes,
            array_to_string(tags, ' '))), lower($search)))
        AND ($tag = '' OR list_contains(tags, $tag))
        AND ($with_archived OR NOT archived)"""
    columns = ", ".join(quoted(name) for name in LIST_COLUMNS)
    curves = "".join(
        f",\n    max(points) FILTER (name = {_text(name)}) AS {quoted(name)}" for name in sparklines
    )
    sql = f"""
WITH page AS (
    SELECT {columns}, run_key{where}
    ORDER BY created DESC NULLS LAST, run_id DESC {page.clause()}
), pieces AS (
    SELECT run_key, name, value, seq,
        ntile({SPARKLINE_POINTS}) OVER (PARTITION BY run_key, name ORDER BY seq) AS piece
    FROM metrics
    WHERE run_key IN (SELECT run_key FROM page) AND list_contains($sparklines, name)
), means AS (
    SELECT run_key, name, piece, avg(value) AS mean FROM pieces GROUP BY ALL
), curves AS (
    SELECT run_key, name, list(mean ORDER BY piece) AS points FROM means GROUP BY ALL
), wide AS (
    SELECT run_key{curves} FROM curves GROUP BY run_key
)
SELECT page.* EXCLUDE (run_key), wide.* EXCLUDE (run_key)
FROM page LEFT JOIN wide USING (run_key)
ORDER BY created DESC NULLS LAST, run_id DESC
"""
    if not sparklines:
        sql = f"""
SELECT {columns}{where}
ORDER BY created DESC NULLS LAST, run_id DESC {page.clause()}
"""
    values = {
        "search": search,
        "tag": tag,
        "with_archived": with_archived,
        "sparklines": list(sparklines),
    }
    return ask(store, sql, values, f"SELECT count(*) {where}")


def run_record(store: Store, run_id: str) -> dict[str, Any] | None:
    """Every column of one run, with ``settings`` and ``facts`` as tables; None if unknown."""
    records = ask(store, "SELECT * FROM runs WHERE run_id = $run_id", {"run_id": run_id}).records()
    if not records:
        return None
    record = records[0]
    return {
        **record,
        "settings": json.loads(record["settings"]),
        "facts": json.loads(record["facts"]),
    }


def metric_names(store: Store, run_ids: Sequence[str], *, page: Page = WHOLE) -> Answer:
    """Quantities that were logged: name, number of values, smallest, largest, latest."""
    sql = """
SELECT name, count(*) AS n, min(value) AS low, max(value) AS high, arg_max(value, seq) AS last
FROM metrics WHERE list_contains($run_keys, run_key)
GROUP BY name ORDER BY name
"""
    return ask_page(store, sql, {"run_keys": _keys(run_ids)}, page)


def metric_series(
    store: Store,
    run_ids: Sequence[str],
    names: Sequence[str],
    *,
    points: int = 400,
) -> Answer:
    """Curves over steps: mean, smallest and largest value of each of at most ``points`` pieces.

    Pieces are a power of two steps wide and start at step 0, so a growing curve does not flicker.
    """
    sql = """
WITH chosen AS (
    SELECT run_id, run_key, name, step, round, time, value FROM metrics
    WHERE list_contains($run_keys, run_key) AND list_contains($names, name)
), widths AS (
    SELECT run_key, name,
        CAST(pow(2, greatest(0, ceil(log2((max(step) + 1) / $points)))) AS INTEGER) AS width
    FROM chosen GROUP BY ALL
)
SELECT run_id, name, max(step) AS step, max(round) AS round, max(time) AS time,
    avg(value) AS value, min(value) AS low, max(value) AS high, count(*) AS n
FROM chosen JOIN widths USING (run_key, name)
GROUP BY run_id, name, step // width
ORDER BY run_id, name, step
"""
    values = {"run_keys": _keys(run_ids), "names": list(names), "points": max(2, points)}
    return ask(store, sql, values)


def calibration(store: Store, run_ids: Sequence[str], *, page: Page = WHOLE) -> Answer:
    """Each round's test of the oracle: figures as columns, ``reliability`` and ``by_position``."""
    sql = """
SELECT run_id, round, body FROM events
WHERE list_contains($run_keys, run_key) AND kind = 'calibration' AND NOT is_undone
ORDER BY run_id, seq
"""
    answer = ask_page(store, sql, {"run_keys": _keys(run_ids)}, page)
    rows = []
    for record in answer.records():
        body = json.loads(record["body"])
        rows.append(
            {
                "run_id": record["run_id"],
                **{name: body[name] for name in ("round", "oracle_version", "n_rollouts")},
                "n_prompts": body["n_prompts"],
                **body["metrics"],
                "reliability": body["reliability"],
                "by_position": body["by_position"],
            }
        )
    return Answer(pd.DataFrame(rows), answer.sql, answer.total)


def events(
    store: Store,
    run_id: str,
    *,
    kinds: Sequence[str] = (),
    with_undone: bool = True,
    page: Page = FIRST,
) -> Answer:
    """What a run said, newest first; ``body`` is the line as written."""
    where = """
FROM events
WHERE run_key = $run_key AND (len($kinds) = 0 OR list_contains($kinds, kind))
    AND ($with_undone OR NOT is_undone)"""
    sql = (
        f"SELECT seq, time, kind, round, is_undone, body{where}\nORDER BY seq DESC {page.clause()}"
    )
    values = {"run_key": run_key(run_id), "kinds": list(kinds), "with_undone": with_undone}
    return ask(store, sql, values, f"SELECT count(*) {where}")


def rounds(store: Store, run_id: str, *, page: Page = WHOLE) -> Answer:
    """Finished rounds with checkpoint folder, versions and the time each took, in seconds."""
    sql = """
SELECT round, body->>'checkpoint' AS checkpoint,
    CAST(body->>'policy_version' AS INTEGER) AS policy_version,
    CAST(body->>'oracle_version' AS INTEGER) AS oracle_version,
    time, time - lag(time) OVER (ORDER BY seq) AS seconds
FROM events WHERE run_key = $run_key AND kind = 'round' AND NOT is_undone
ORDER BY seq
"""
    return ask_page(store, sql, {"run_key": run_key(run_id)}, page)


def settings_difference(
    store: Store,
    run_ids: Sequence[str],
    what: Literal["settings", "facts"] = "settings",
    *,
    page: Page = WHOLE,
) -> Answer:
    """Settings in which the runs differ: dotted name and one column for each run."""
    columns = "".join(
        f",\n    max(value) FILTER (run_id = {_text(run_id)}) AS {quoted(run_id)}"
        for run_id in run_ids
    )
    sql = f"""
WITH settings AS (
    SELECT run_id, fullkey[3:] AS setting, atom::VARCHAR AS value
    FROM runs, json_tree(runs.{what})
    WHERE list_contains($run_ids, run_id) AND atom IS NOT NULL
)
SELECT setting{columns}
FROM settings GROUP BY setting
HAVING count(DISTINCT value) > 1 OR count(*) < {len(set(run_ids))}
ORDER BY setting
"""
    return ask_page(store, sql, {"run_ids": list(run_ids)}, page)


def tags(store: Store) -> list[str]:
    """Every tag in use, sorted."""
    rows = store.rows("SELECT DISTINCT unnest(tags) AS tag FROM runs ORDER BY tag")
    return [tag for (tag,) in rows]


def _keys(run_ids: Sequence[str]) -> list[int]:
    return [run_key(run_id) for run_id in run_ids]


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
