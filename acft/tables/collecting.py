"""What finished runs say, by row and column; each trained run counts once."""

import fnmatch
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from typing import Any

from acft.benchmarks.base import SUITES, Difference, Suite
from acft.errors import DataError
from acft.events import COMPARISONS, Evaluated
from acft.registry import did_you_mean
from acft.runs.directory import RUN_ID
from acft.schema import Launch
from acft.tables.members import BUDGET, POLICY, USED, VALIDATION, Member, Members
from acft.totals import Totals

BASE = "base"
EVERYTHING = ("*", f"{BUDGET}*", f"{VALIDATION}*")
"""Patterns of all columns but those of single categories."""
MEASURED = ("*", "*@*", *(f"*{ending}" for ending in COMPARISONS))
"""Patterns of all columns that suites measured."""
SCORER = "version of the scorer"
COMMIT = 10
"""Characters of a commit that are shown."""


@dataclass(frozen=True)
class Reported:
    """What one run says about one cell."""

    event: Evaluated
    totals: Totals | None = None
    is_trained: bool = True
    """Whether training made what was measured, so that another seed would give another number."""
    beside: Mapping[str, Totals] = field(default_factory=dict)
    """All that its suite kept of the policy, by the names of the totals."""
    protocol: Mapping[str, str] = field(default_factory=dict)
    """Settings of the suite and how it used the policy, where it is an evaluation that says so."""


Cells = dict[tuple[str, str], dict[str, list[Reported]]]
"""By variant and subject, then by column."""


_Rank = tuple[bool, bool, float]
"""Whether there are totals, whether it is an evaluation, when it was launched."""
_Ranked = dict[tuple[str, str], dict[str, dict[str, tuple[_Rank, Reported]]]]
"""By variant and subject, then by column, then by the run that is meant."""


def collected(members: Members, patterns: Sequence[str]) -> Cells:
    """What every run says about the columns that a pattern names; empty where none is measured.

    Of several measurements of one run the newest with totals counts; where none has totals, the
    newest evaluation; where there is none, the run's own report. A cell has the best of these
    kinds that any of its runs has, and leaves out the others (see ``left_out``).

    Raises:
        DataError: Something is measured, and no pattern names it; or runs of one cell were measured
            by different settings of the suite.
    """
    found = _ranked(members, patterns)
    if not found and _ranked(members, ("*",)):
        columns = sorted(columns_in(_ranked(members, EVERYTHING)))
        wanted = ", ".join(map(repr, patterns))
        raise DataError(
            f"no column matches {wanted}{did_you_mean(patterns[0], columns)}; columns there are: "
            f"{', '.join(columns)} (those of one prompt category need a pattern with '@', "
            f"comparisons one that ends in {', '.join(COMPARISONS)})"
        )
    cells: Cells = {
        row: {name: [runs[origin][1] for origin in _alike(runs)] for name, runs in columns.items()}
        for row, columns in found.items()
    }
    for (variant, _), columns in cells.items():
        for name, cell in columns.items():
            _require_one_protocol(variant, name, cell)
    return cells


def left_out(members: Members, patterns: Sequence[str]) -> set[str]:
    """Runs that a cell leaves out, since others of it were measured in a better way."""
    columns = chain(*(columns.values() for columns in _ranked(members, patterns).values()))
    return {origin for runs in columns for origin in runs.keys() - {*_alike(runs)}}


def _ranked(members: Members, patterns: Sequence[str]) -> _Ranked:
    ranked: _Ranked = defaultdict(dict)
    for member in members:
        is_evaluation = bool(member.launch.subject)
        told = [(event, is_evaluation) for event in member.measurements]
        # what a run cost and its validation are the same from whoever tells them
        told += [(event, False) for event in _of_training(member, patterns)]
        for event, is_measured in told:
            if not _is_wanted(event, patterns):
                continue
            kept = member.totals.get((event.subject, event.suite, event.metric))
            suite = event.suite.partition("/")[0]
            how = member.protocols.get(suite, {})
            how = how | member.used(event.subject)
            if event.scorer_version:
                how |= {SCORER: event.scorer_version}
            beside = member.results.measured.get(suite, {}).get(event.subject, {})
            is_trained = _is_trained(member.launch, event.subject)
            seen = Reported(event, kept, is_trained, beside, how)
            rank = (kept is not None, is_measured, member.launch.created)
            by_run = ranked[member.variant, event.subject].setdefault(_column(event), {})
            whose = member.whose(event.subject)
            known = by_run.setdefault(whose, (rank, seen))
            by_run[whose] = max((rank, seen), known, key=itemgetter(0))
    return ranked


def _alike(runs: Mapping[str, tuple[_Rank, Reported]]) -> list[str]:
    """The runs of a cell that were measured in the best way any of them was."""
    best = max(rank[:2] for rank, _ in runs.values())
    return [origin for origin, (rank, _) in runs.items() if rank[:2] == best]


def _require_one_protocol(variant: str, column: str, cell: Sequence[Reported]) -> None:
    """Returns if the runs of a cell were measured alike, as far as they say.

    Raises:
        DataError: They were not.
    """
    if differing := differences(seen.protocol for seen in cell):
        raise DataError(
            f"runs of {variant!r} were measured by different settings, so their {column!r} cannot "
            f"be averaged ({differing}); measure them alike, or tag those that are and name the tag"
        )


def require_comparable(column: str, protocols: Iterable[Mapping[str, str]]) -> None:
    """Returns if rows were measured alike, as far as they say; how they draw may differ.

    Raises:
        DataError: They were not.
    """
    if differing := differences(protocols, leaving_out=USED):
        raise DataError(
            f"rows were measured by different settings, so their {column!r} cannot be compared "
            f"({differing}); measure them alike, or leave this out with --metric"
        )


def differences(protocols: Iterable[Mapping[str, str]], leaving_out: Collection[str] = ()) -> str:
    """Settings that measurements do not share, each with its values; empty where there are none."""
    told = defaultdict[str, set[str]](set)
    for key, value in chain(*(protocol.items() for protocol in protocols)):
        told[key].add(value)
    pairs = [f"{k} = {v}" for k, found in told.items() if len(found) > 1 for v in found]
    return ", ".join(sorted(pair for pair in pairs if pair.partition(" = ")[0] not in leaving_out))


def _is_trained(launch: Launch, subject: str) -> bool:
    is_of_run = not launch.subject or RUN_ID.fullmatch(launch.subject) is not None
    return is_of_run and subject != BASE


def _column(event: Evaluated) -> str:
    return f"{event.suite} {event.metric}"


def columns_in(found: Mapping[Any, Mapping[str, Any]]) -> list[str]:
    """Columns of all rows, in the order in which they appear."""
    return list(dict.fromkeys(column for cells in found.values() for column in cells))


def origin_of(members: Members, columns: Collection[str] = ()) -> str:
    """How many runs, over how many prompts or documents, and which commits made them.

    Args:
        members: The runs.
        columns: Those that are shown; where none of them is a measurement, all count that are of
            no single category and compare nothing.
    """
    commits = {str(member.resolved.get("git_commit", ""))[:COMMIT] for member in members}
    sizes = (
        f"{suite} {min(found)}" + (f" to {max(found)}" if len(found) > 1 else "")
        for suite, found in sorted(_sizes(members, columns).items())
    )
    made_by = ", ".join(sorted(commits - {""})) or "unknown"
    n_runs = len({member.counts_as for member in members})
    return f"{n_runs} runs; n of each: {', '.join(sizes) or 'none'}; commit {made_by}."


def _sizes(members: Members, columns: Collection[str]) -> dict[str, set[int]]:
    """Numbers of independent groups (prompts, documents) that intervals are over, by suite."""
    told = _ranked(members, MEASURED)
    shown = {*columns} & {*columns_in(told)}
    if not shown:
        told = _ranked(members, ("*",))
    counts = defaultdict[str, set[int]](set)
    for row in told.values():
        for column, runs in row.items():
            if column in shown or not shown:
                for _, seen in runs.values():
                    counts[seen.event.suite].add(seen.event.n)
    if shown:
        return counts
    # Suites that only compare say nothing of a run alone, but keep what they compare.
    known = {suite.partition("/")[0] for suite in counts}
    for member in members:
        for (_, suite, _), totals in member.totals.items():
            if suite.partition("/")[0] not in known:
                counts[suite].add(len({*map(_independent(suite), totals.groups)}))
    return counts


def _independent(suite: str) -> Callable[[str], str]:
    """What of a group of a suite's totals is independent; all of it where nobody says."""
    known = _registered(suite)
    return known.independent if known else str


def difference_of(event: Evaluated) -> Difference | None:
    """How the suite of an event compares runs by more than their totals, where it does.

    What compares with base itself is not compared once more.
    """
    known = _registered(event.suite)
    return known.difference if known and not event.metric.endswith(COMPARISONS) else None


def chance_of(suite: str) -> float:
    """Value that shows no skill in the suite of an event; 0 where nobody says."""
    known = _registered(suite)
    return known.chance if known else 0.0


def _registered(suite: str) -> Suite | None:
    name = suite.partition("/")[0]
    return SUITES.get(name) if name in SUITES.names() else None


def _of_training(member: Member, patterns: Sequence[str]) -> Iterator[Evaluated]:
    """What a run spent and how its preferred policy was validated, where a pattern names that.

    An evaluation has the numbers of the run that it measured.
    """
    for suite in (BUDGET, VALIDATION):
        if any(pattern.startswith(suite) for pattern in patterns):
            for name, value in member.training[suite].items():
                yield Evaluated(suite, name, POLICY, value, 1)


def _is_wanted(event: Evaluated, patterns: Sequence[str]) -> bool:
    has_category, is_comparison = "@" in event.metric, event.metric.endswith(COMPARISONS)
    return any(
        fnmatch.fnmatchcase(_column(event), pattern)
        and ("@" in pattern or not has_category)
        and (pattern.endswith(COMPARISONS) or not is_comparison)
        for pattern in patterns
    )


def all_totals(cell: Sequence[Reported]) -> list[Totals]:
    """The totals of every run of a cell; empty when one has none."""
    totals = [seen.totals for seen in cell if seen.totals is not None]
    return totals if len(totals) == len(cell) else []
