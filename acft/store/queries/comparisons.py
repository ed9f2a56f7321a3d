"""Questions about blind comparisons and the votes given in them."""

from acft.store.connection import Store


def newest_votes(store: Store, run: str, other: str, left: str, right: str) -> dict[str, str]:
    """The newest choice for each item that was judged between two sides, in any comparison.

    Args:
        store: An open store.
        run: Id of the run that answered on the left.
        other: Id of the run that answered on the right.
        left: Subject on the left.
        right: Subject on the right.
    """
    rows = store.rows(
        "SELECT item, arg_max(choice, votes.time) FROM votes JOIN comparisons USING (comparison_id)"
        " WHERE json_extract_string(comparisons.body, '$.run') = $run"
        " AND json_extract_string(comparisons.body, '$.other') = $other"
        " AND json_extract_string(comparisons.body, '$.left') = $left"
        " AND json_extract_string(comparisons.body, '$.right') = $right GROUP BY item",
        {"run": run, "other": other, "left": left, "right": right},
    )
    return {str(item): str(choice) for item, choice in rows}
