"""Questions about runs: in which settings they differ, and what measured them before."""

# ruff: noqa: S608 - only names from constants and quoted literals are formatted into SQL

from collections.abc import Sequence

from acft.store.connection import Store
from acft.store.queries.answer import FIRST, WHOLE, Answer, Slice, ask_part, literal, quoted


def settings_difference(
    store: Store,
    run_ids: Sequence[str],
    *,
    part: Slice = WHOLE,
) -> Answer:
    """Settings in which the runs differ: dotted name and one column for each run."""
    columns = "".join(
        f",\n    max(value) FILTER (run_id = {literal(run_id)}) AS {quoted(run_id)}"
        for run_id in run_ids
    )
    sql = f"""
WITH settings AS (
    SELECT run_id, fullkey[3:] AS setting, json_extract_string(atom, '') AS value
    FROM runs, json_tree(runs.settings)
    WHERE list_contains($run_ids, run_id) AND atom IS NOT NULL
)
SELECT setting{columns}
FROM settings GROUP BY setting
HAVING count(DISTINCT value) > 1 OR count(*) < {len(set(run_ids))}
ORDER BY setting
"""
    return ask_part(store, sql, {"run_ids": list(run_ids)}, part)


def measurements(store: Store, run_id: str, *, part: Slice = FIRST) -> Answer:
    """Ids of the runs that measure this one, newest first."""
    sql = "SELECT run_id FROM runs WHERE subject = $run_id ORDER BY run_id DESC"
    return ask_part(store, sql, {"run_id": run_id}, part)
