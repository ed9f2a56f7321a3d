"""The paper's table of pairwise win rates: every row's responses against every other's."""

from collections.abc import Sequence
from typing import NamedTuple

from acft.benchmarks.win_rate import JUDGED, NAME, win_totals
from acft.tables.collecting import require_comparable
from acft.tables.members import POLICY, SEED, Member, Members
from acft.tables.table import INTERVALS, Cell, ResultTable, Row
from acft.totals import Totals, pooled_bootstrap


def win_table(members: Members, judge: str) -> ResultTable | None:
    """Win rate of the column over the row, ties counting half; None before anything is judged.

    Runs of two rows are paired by their seeds; intervals are over prompts, and over pairs as well
    where there are several.

    Args:
        members: Evaluations with the names of their rows, in the order of the table.
        judge: Name of the model whose likelihood judges.

    Raises:
        DataError: Rows were judged by different settings, or by other weights of that name.
    """
    judged: dict[str, list[SeededTotals]] = {}
    for member in members:
        measured = member.results.measured.get(NAME, {}).get(POLICY, {})
        if JUDGED in measured:
            judged.setdefault(member.variant, []).append(
                SeededTotals(_seed(member), measured[JUDGED])
            )
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
    counts = {row: len(runs) for row, runs in judged.items()}
    if len({count for count in counts.values() if count > 1}) > 1:
        told = ", ".join(f"{row} {count}" for row, count in counts.items())
        caption += (
            f" Rows have unequal numbers of runs ({told}); those without a partner are left out."
        )
    return ResultTable(tuple(judged), tuple(rows), ("loser \\ winner", "subject"), caption)


class SeededTotals(NamedTuple):
    """What a run says, and its seed; None where it is not recorded."""

    seed: int | None
    totals: Totals


def _seed(member: Member) -> int | None:
    return member.resolved.get("settings", {}).get(SEED)


def _pairs(
    losers: Sequence[SeededTotals], winners: Sequence[SeededTotals]
) -> list[tuple[Totals, Totals]]:
    """Runs of one seed each; a single run meets all, and runs of no common seed go by their order.

    Each counts once: one that was taken again for want of another would count as two.
    """
    if len(losers) == 1 or len(winners) == 1:
        return [(loser.totals, winner.totals) for loser in losers for winner in winners]
    by_seed = [{run.seed: run.totals for run in runs} for runs in (losers, winners)]
    shared = [seed for seed in by_seed[0] if seed in by_seed[1]]
    are_distinct = [len(found) for found in by_seed] == [len(losers), len(winners)]
    if are_distinct and shared:
        return [(by_seed[0][seed], by_seed[1][seed]) for seed in shared]
    return [(a.totals, b.totals) for a, b in zip(losers, winners, strict=False)]


def _cell(losers: Sequence[SeededTotals], winners: Sequence[SeededTotals]) -> Cell:
    pairs = _pairs(losers, winners)
    wins = [win_totals(loser, winner)["win_rate"] for loser, winner in pairs]
    found = pooled_bootstrap([wins], lambda value: value, are_shares=True)
    return Cell(found.value, len(pairs), found.stderr, found.low, found.high)
