"""The paper's table of pairwise win rates: every row's responses against every other's."""

from collections.abc import Sequence
from itertools import cycle, islice

from acft.benchmarks.win_rate import JUDGED, NAME, win_totals
from acft.tables.collecting import require_comparable
from acft.tables.members import POLICY, Members
from acft.tables.table import INTERVALS, Cell, ResultTable, Row
from acft.totals import Totals, pooled_bootstrap


def win_table(members: Members, judge: str) -> ResultTable | None:
    """Win rate of the column over the row, ties counting half; None before anything is judged.

    Runs of two rows are paired in the order of their seeds; intervals are over prompts, and over
    pairs as well where there are several.

    Args:
        members: Evaluations with the names of their rows, in the order of the table.
        judge: Name of the model whose likelihood judges.

    Raises:
        DataError: Rows were judged by different settings, or by other weights of that name.
    """
    judged: dict[str, list[Totals]] = {}
    for member in members:
        measured = member.results.measured.get(NAME, {}).get(POLICY, {})
        if JUDGED in measured:
            judged.setdefault(member.variant, []).append(measured[JUDGED])
    if not judged:
        return None
    require_comparable(NAME, (member.protocols.get(NAME, {}) for member in members))
    rows = [
        Row(
            row,
            POLICY,
            {other: _cell(judged[row], judged[other]) for other in judged if other != row},
        )
        for row in judged
    ]
    caption = (
        f"Win rate of the column over the row, ties counting half, {INTERVALS}; judged by the "
        f"likelihood of {judge}, which prefers what it would have written itself."
    )
    return ResultTable(tuple(judged), tuple(rows), ("loser \\ winner", "subject"), caption)


def _cell(losers: Sequence[Totals], winners: Sequence[Totals]) -> Cell:
    count = max(len(losers), len(winners))
    pairs = islice(zip(cycle(losers), cycle(winners), strict=False), count)
    wins = [win_totals(loser, winner)["win_rate"] for loser, winner in pairs]
    found = pooled_bootstrap([wins], lambda value: value, are_shares=True)
    return Cell(found.value, count, found.stderr, found.low, found.high)
