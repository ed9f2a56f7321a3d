"""Questions about blind comparisons and the votes given in them."""

# ruff: noqa: S608 - only a number is formatted into SQL

from acft.store.connection import Store
from acft.store.queries.answer import FIRST, Answer, Page, ask


def comparisons(store: Store, *, page: Page = FIRST) -> Answer:
    """Comparisons, newest first: id, time, number of judged items, and what was compared (JSON)."""
    sql = f"""
SELECT comparison_id, comparisons.time, count(DISTINCT item) AS n_judged, comparisons.body
FROM comparisons LEFT JOIN votes USING (comparison_id)
GROUP BY ALL ORDER BY comparisons.time DESC {page.clause()}
"""
    return ask(store, sql, {}, "SELECT count(*) FROM comparisons")


def vote_counts(store: Store, comparison_id: str) -> Answer:
    """How often each choice was made in a comparison; the newest vote for an item counts."""
    sql = """
WITH latest AS (
    SELECT item, arg_max(choice, time) AS choice FROM votes
    WHERE comparison_id = $comparison_id GROUP BY item
)
SELECT choice, count(*) AS n FROM latest GROUP BY choice ORDER BY n DESC, choice
"""
    return ask(store, sql, {"comparison_id": comparison_id})
