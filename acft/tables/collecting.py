"""What finished runs say, by row and column; each trained run counts once."""

import fnmatch
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

from acft.benchmarks.base import SUITES
from acft.benchmarks.results import MEASUREMENTS, Results
from acft.costs import bill
from acft.errors import ConfigError, DataError
from acft.eventlog import effective, read_events
from acft.events import COMPARISONS, BestCheckpoint, Evaluated, Event, Scalars
from acft.registry import did_you_mean
from acft.runs.directory import (
    RUN_ID,
    all_runs,
    read_labels,
    read_launch,
    read_resolved,
    read_status,
)
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

USED = ("decoder", "decoder_options", "control")
"""Settings by which a measured policy may not be the policy alone."""
BESIDE_NUMBERS = "batch_size"
"""Setting of suites that changes their speed only."""


@dataclass(frozen=True)
class Member:
    """A run of a table; what it says is read once, when it is first asked for."""

    paths: RunPaths
    variant: str
    """Name of its row."""

    @cached_property
    def launch(self) -> Launch:
        """How it was launched."""
        return read_launch(self.paths)

    @property
    def origin(self) -> str:
        """The run, or what it measured where it is an evaluation."""
        return self.launch.subject or self.paths.root.name

    @cached_property
    def measurements(self) -> list[Evaluated]:
        """Every number that it told."""
        return [event for event in _events(self.paths) if isinstance(event, Evaluated)]

    @cached_property
    def results(self) -> Results:
        """Measurements by prompt; none of runs that trained."""
        sealed = read_status(self.paths).checkpoint
        if not sealed or not (self.paths.root / sealed / MEASUREMENTS).is_file():
            return Results({})
        return Results.load(self.paths.root / sealed)

    @cached_property
    def totals(self) -> dict[tuple[str, str, str], Totals]:
        """The same by subject, suite and metric of their events."""
        return {
            (subject, *event_names(suite, name)): totals
            for suite, subject, name, totals in self.results
        }

    @cached_property
    def resolved(self) -> dict[str, Any]:
        """Every setting and what made the run; empty before it started, or where it is damaged."""
        return read_resolved(self.paths)

    @cached_property
    def protocols(self) -> dict[str, dict[str, str]]:
        """Settings by which an evaluation measured, by suite; none of runs that trained.

        What it did not record is not among them.
        """
        found, method = {}, self.resolved.get("method", {})
        for suite in method.get("suites", ()):
            options = method["options"].get(suite, {})
            with suppress(ConfigError):  # of a suite, or a setting, that there is no more
                options = SUITES.get(suite).settings_type.parse(options).model_dump(mode="json")
                if SUITES.get(suite).needs_judge:
                    options |= {"judge": method["judge"]}
                    if sha256 := self.resolved.get("facts", {}).get("judge_sha256"):
                        options |= {"SHA-256 of the judge": sha256}
            kept = options.keys() - {BESIDE_NUMBERS}
            found[suite] = {key: json.dumps(options[key]) for key in kept}
        return found

    def subject(self, name: str) -> dict[str, Any]:
        """Settings of a policy that an evaluation measures; none of a run that trained."""
        return self.resolved.get("method", {}).get("subjects", {}).get(name, {})

    def used(self, name: str) -> dict[str, str]:
        """With which decoder and control text an evaluation uses a policy."""
        settings = self.subject(name)
        return {key: json.dumps(settings[key]) for key in USED if key in settings}

    def whose(self, name: str) -> str:
        """What a measured policy is, so that one which is measured beside several counts once."""
        settings = self.subject(name)
        if name == POLICY or not settings:
            return self.origin
        if checkpoint := settings.get("checkpoint"):
            return "/".join(Path(checkpoint).parts[-3:])  # run, folder and round
        model = self.resolved.get("facts", {}).get("model_sha256", "")
        return f"{name} {settings.get('model') or model}, {self.resolved['method'].get('seed')}"

    @cached_property
    def training(self) -> dict[str, dict[str, float]]:
        """What the run, or the one that it measured, spent, and how its best was validated."""
        trained = RunPaths(self.paths.root.parent / self.origin)
        if not trained.events.is_file():  # an evaluation of a model
            return {BUDGET: {}, VALIDATION: {}}
        events = _events(trained)
        return {BUDGET: bill(events), VALIDATION: _validated(events)}


Members = Sequence[Member]


@dataclass(frozen=True)
class Seen:
    """What one run says about one cell."""

    event: Evaluated
    totals: Totals | None = None
    is_trained: bool = True
    """Whether training made what was measured, so that another seed would give another number."""
    protocol: Mapping[str, str] = field(default_factory=dict)
    """Settings of the suite and how it used the policy, where it is an evaluation that says so."""


Cells = dict[tuple[str, str], dict[str, list[Seen]]]
"""By variant and subject, then by column."""


_Rank = tuple[bool, bool, float]
"""Whether there are totals, whether it is an evaluation, when it was launched."""
_Ranked = dict[tuple[str, str], dict[str, dict[str, tuple[_Rank, Seen]]]]
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
            how = member.protocols.get(event.suite.partition("/")[0], {})
            how = how | member.used(event.subject)
            seen = Seen(event, kept, _is_trained(member.launch, event.subject), how)
            rank = (kept is not None, is_measured, member.launch.created)
            by_run = ranked[member.variant, event.subject].setdefault(_column(event), {})
            whose = member.whose(event.subject)
            known = by_run.setdefault(whose, (rank, seen))
            by_run[whose] = max((rank, seen), known, key=itemgetter(0))
    return ranked


def _alike(runs: Mapping[str, tuple[_Rank, Seen]]) -> list[str]:
    """The runs of a cell that were measured in the best way any of them was."""
    best = max(rank[:2] for rank, _ in runs.values())
    return [origin for origin, (rank, _) in runs.items() if rank[:2] == best]


def _require_one_protocol(variant: str, column: str, cell: Sequence[Seen]) -> None:
    """Returns if the runs of a cell were measured alike, as far as they say.

    Raises:
        DataError: They were not.
    """
    told = defaultdict[str, set[str]](set)
    for key, value in chain(*(seen.protocol.items() for seen in cell)):
        told[key].add(value)
    differing = [f"{key} = {v}" for key, values in told.items() if len(values) > 1 for v in values]
    if differing:
        raise DataError(
            f"runs of {variant!r} were measured by different settings, so their {column!r} cannot "
            f"be averaged ({', '.join(sorted(differing))}); measure them alike, or tag those that "
            "are and name the tag"
        )


def _is_trained(launch: Launch, subject: str) -> bool:
    is_of_run = not launch.subject or RUN_ID.fullmatch(launch.subject) is not None
    return is_of_run and subject != BASE


def _column(event: Evaluated) -> str:
    return f"{event.suite} {event.metric}"


def columns_in(found: Mapping[Any, Mapping[str, Any]]) -> list[str]:
    """Columns of all rows, in the order in which they appear."""
    return list(dict.fromkeys(column for cells in found.values() for column in cells))


def origin_of(members: Members) -> str:
    """How many runs, over how many prompts or documents, and which commits made them."""
    commits = {str(member.resolved.get("git_commit", ""))[:COMMIT] for member in members}
    counts, kept = defaultdict[str, set[int]](set), defaultdict[str, set[int]](set)
    for member in members:
        for (_, suite, _), totals in member.totals.items():
            kept[suite].add(len(totals.groups))
    for columns in _ranked(members, ("*",)).values():
        for _, seen in chain(*(runs.values() for runs in columns.values())):
            counts[seen.event.suite].add(seen.event.n)
    # Suites that only compare say nothing of a run alone, but keep what they compare.
    told = {suite.partition("/")[0] for suite in counts}
    counts |= {suite: found for suite, found in kept.items() if suite.partition("/")[0] not in told}
    sizes = (
        f"{suite} {min(found)}" + (f" to {max(found)}" if len(found) > 1 else "")
        for suite, found in sorted(counts.items())
    )
    made_by = ", ".join(sorted(commits - {""})) or "unknown"
    n_runs = len({member.origin for member in members})
    return f"{n_runs} runs; n of each: {', '.join(sizes) or 'none'}; commit {made_by}."


def members_of(runs_dir: Path, experiment: str) -> Iterator[tuple[RunPaths, Launch]]:
    """Finished runs of an experiment, sweep or tag, with how each was launched.

    An evaluation belongs where the run that it measured does.
    """
    names: dict[str, set[str]] = {}
    for paths in all_runs(runs_dir):
        try:
            launch = read_launch(paths)
        except DataError:
            continue  # nobody can tell what it belongs to
        own = {launch.experiment, launch.sweep, *read_labels(paths).tags}
        names[paths.root.name] = own  # a run is older than what measures it, and so listed before
        is_wanted = experiment in own | names.get(launch.subject, set())
        if is_wanted and read_status(paths).state == "finished":
            yield paths, launch


def variant_of(runs_dir: Path, launch: Launch) -> str:
    """Changed settings without the seed; an evaluation's are those of the run it measured."""
    subject = RunPaths(runs_dir / launch.subject)
    if launch.subject and subject.launch.is_file():
        launch = read_launch(subject)
    changes = [change for change in launch.overrides if not change.startswith(SEED)]
    return ", ".join(changes) or AS_WRITTEN


def _events(paths: RunPaths) -> list[Event]:
    return [entry.event for entry in effective(read_events(paths.events))]


def _of_training(member: Member, patterns: Sequence[str]) -> Iterator[Evaluated]:
    """What a run spent and how its preferred policy was validated, where a pattern names that.

    An evaluation has the numbers of the run that it measured.
    """
    for suite in (BUDGET, VALIDATION):
        if any(pattern.startswith(suite) for pattern in patterns):
            for name, value in member.training[suite].items():
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


def all_totals(cell: Sequence[Seen]) -> list[Totals]:
    """The totals of every run of a cell; empty when one has none."""
    totals = [seen.totals for seen in cell if seen.totals is not None]
    return totals if len(totals) == len(cell) else []
