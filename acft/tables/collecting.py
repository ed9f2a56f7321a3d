"""What finished runs say, by row and column; each trained run counts once."""

import fnmatch
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from pathlib import Path

from acft.benchmarks.results import MEASUREMENTS, Results
from acft.costs import bill
from acft.errors import DataError
from acft.evaluation import COMPARISONS
from acft.eventlog import effective, read_events
from acft.events import BestCheckpoint, Evaluated, Event, Scalars
from acft.registry import did_you_mean
from acft.runs.directory import RUN_ID, all_runs, read_labels, read_launch, read_status
from acft.schema import Launch, RunPaths
from acft.totals import Totals, event_names

AS_WRITTEN = "as written"
SEED = "seed="
BUDGET, VALIDATION = "budget", "validation"
POLICY, BASE = "policy", "base"
VALIDATED = ("policy/kl_policy_base", "rollout/satisfaction", "utility/perplexity_validation")
"""What of a validation can be a column."""
EVERYTHING = ("*", f"{BUDGET}*", f"{VALIDATION}*")
"""Patterns of all columns but those of single categories."""
COMMIT = 10
"""Characters of a commit that are shown."""

Members = Sequence[tuple[RunPaths, str]]
"""Runs with the names of their variants."""


@dataclass(frozen=True)
class Seen:
    """What one run says about one cell."""

    event: Evaluated
    totals: Totals | None = None
    is_trained: bool = True
    """Whether training made what was measured, so that another seed would give another number."""


Cells = dict[tuple[str, str], dict[str, list[Seen]]]
"""By variant and subject, then by column."""


def collected(members: Members, patterns: Sequence[str]) -> Cells:
    """What every run says about the columns that a pattern names; empty where none is measured.

    Raises:
        DataError: Something is measured, and no pattern names it.
    """
    found = seen_in(members, patterns)
    if not found and seen_in(members, ("*",)):
        columns = sorted(columns_in(seen_in(members, EVERYTHING)))
        wanted = ", ".join(map(repr, patterns))
        raise DataError(
            f"no column matches {wanted}{did_you_mean(patterns[0], columns)}; columns there are: "
            f"{', '.join(columns)} (those of one prompt category need a pattern with '@', "
            f"comparisons one that ends in {', '.join(COMPARISONS)})"
        )
    return found


def seen_in(members: Members, patterns: Sequence[str]) -> Cells:
    """As ``collected``; of several measurements of one run the newest with totals counts.

    Where none has totals, the newest evaluation; where there is none, the run's own report.
    """
    ranked: dict[tuple[str, str], dict[str, dict[str, tuple[_Rank, Seen]]]] = defaultdict(dict)
    for paths, variant in members:
        totals, launch = totals_of(paths), read_launch(paths)
        for event in (*_measurements(paths), *_of_training(paths, patterns)):
            if not _is_wanted(event, patterns):
                continue
            kept = totals.get((event.subject, event.suite, event.metric))
            seen = Seen(event, kept, _is_trained(launch, event.subject))
            rank = (kept is not None, bool(launch.subject), launch.created)
            by_run = ranked[variant, event.subject].setdefault(_column(event), {})
            known = by_run.setdefault(_origin(paths), (rank, seen))
            by_run[_origin(paths)] = max((rank, seen), known, key=itemgetter(0))
    return {
        row: {name: [seen for _, seen in runs.values()] for name, runs in cells.items()}
        for row, cells in ranked.items()
    }


_Rank = tuple[bool, bool, float]
"""Whether there are totals, whether it is an evaluation, when it was launched."""


def _origin(paths: RunPaths) -> str:
    """The run, or what it measured where it is an evaluation."""
    return read_launch(paths).subject or paths.root.name


def _is_trained(launch: Launch, subject: str) -> bool:
    is_of_run = not launch.subject or RUN_ID.fullmatch(launch.subject) is not None
    return is_of_run and subject != BASE


def _column(event: Evaluated) -> str:
    return f"{event.suite} {event.metric}"


def columns_in(found: Cells) -> list[str]:
    """Columns of all rows, in the order in which they appear."""
    return list(dict.fromkeys(column for cells in found.values() for column in cells))


def origin_of(members: Members) -> str:
    """How many runs, over how many prompts or documents, and which commits made them."""
    commits, origins = set[str](), set[str]()
    counts, kept = defaultdict[str, set[int]](set), defaultdict[str, set[int]](set)
    for paths, _ in members:
        origins.add(_origin(paths))
        if paths.resolved.is_file():
            provenance = json.loads(paths.resolved.read_text())
            commits.add(str(provenance.get("git_commit", ""))[:COMMIT])
        for (_, suite, _), totals in totals_of(paths).items():
            kept[suite].add(len(totals.groups))
    for cells in seen_in(members, ("*",)).values():
        for seen in chain(*cells.values()):
            counts[seen.event.suite].add(seen.event.n)
    # Suites that only compare say nothing of a run alone, but keep what they compare.
    told = {suite.partition("/")[0] for suite in counts}
    counts |= {suite: found for suite, found in kept.items() if suite.partition("/")[0] not in told}
    sizes = (
        f"{suite} {min(found)}" + (f" to {max(found)}" if len(found) > 1 else "")
        for suite, found in sorted(counts.items())
    )
    made_by = ", ".join(sorted(commits - {""})) or "unknown"
    return f"{len(origins)} runs; n of each: {', '.join(sizes) or 'none'}; commit {made_by}."


def members_of(runs_dir: Path, experiment: str) -> Iterator[tuple[RunPaths, Launch]]:
    """Finished runs of an experiment, sweep or tag, with how each was launched."""
    for paths in all_runs(runs_dir):
        if read_status(paths).state != "finished":
            continue
        try:
            launch = read_launch(paths)
        except DataError:
            continue  # nobody can tell what it belongs to
        if experiment in (launch.experiment, launch.sweep, *read_labels(paths).tags):
            yield paths, launch


def variant_of(runs_dir: Path, launch: Launch) -> str:
    """Changed settings without the seed; an evaluation's are those of the run it measured."""
    subject = RunPaths(runs_dir / launch.subject)
    if launch.subject and subject.launch.is_file():
        launch = read_launch(subject)
    changes = [change for change in launch.overrides if not change.startswith(SEED)]
    return ", ".join(changes) or AS_WRITTEN


def _measurements(paths: RunPaths) -> list[Evaluated]:
    events = [entry.event for entry in effective(read_events(paths.events))]
    return [event for event in events if isinstance(event, Evaluated)]


def _of_training(paths: RunPaths, patterns: Sequence[str]) -> Iterator[Evaluated]:
    """What a run spent and how its preferred policy was validated, where a pattern names that.

    An evaluation has the numbers of the run that it measured.
    """
    wanted = {suite for suite in (BUDGET, VALIDATION) if any(p.startswith(suite) for p in patterns)}
    if not wanted:
        return
    trained = RunPaths(paths.root.parent / (read_launch(paths).subject or paths.root.name))
    if not trained.events.is_file():  # an evaluation of a model
        return
    events = [entry.event for entry in effective(read_events(trained.events))]
    numbers = {BUDGET: bill(events), VALIDATION: _validated(events)}
    for suite in sorted(wanted):
        for name, value in numbers[suite].items():
            yield Evaluated(suite, name, POLICY, value, 1)


def _validated(events: Sequence[Event]) -> dict[str, float]:
    """The last numbers of the round that was preferred; of the last round where none was."""
    best = [event.round for event in events if isinstance(event, BestCheckpoint)]
    scalars = [event for event in events if isinstance(event, Scalars)]
    rounds = best or [event.round for event in scalars]
    found: dict[str, float] = {}
    for event in scalars:
        if event.round == rounds[-1]:
            found |= event.values
    return {name: found[name] for name in VALIDATED if name in found}


def _is_wanted(event: Evaluated, patterns: Sequence[str]) -> bool:
    has_category, is_comparison = "@" in event.metric, event.metric.endswith(COMPARISONS)
    return any(
        fnmatch.fnmatchcase(_column(event), pattern)
        and ("@" in pattern or not has_category)
        and (pattern.endswith(COMPARISONS) or not is_comparison)
        for pattern in patterns
    )


def totals_of(paths: RunPaths) -> dict[tuple[str, str, str], Totals]:
    """Measurements by prompt, by subject, suite and metric; empty for runs that trained."""
    sealed = read_status(paths).checkpoint
    if not sealed or not (paths.root / sealed / MEASUREMENTS).is_file():
        return {}
    return {
        (subject, *event_names(suite, name)): totals
        for suite, subject, name, totals in Results.load(paths.root / sealed)
    }


def all_totals(cell: Sequence[Seen]) -> list[Totals]:
    """The totals of every run of a cell; empty when one has none."""
    totals = [seen.totals for seen in cell if seen.totals is not None]
    return totals if len(totals) == len(cell) else []
