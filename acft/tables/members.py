"""Finished runs of an experiment, sweep or tag, under the names of their rows."""

import json
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from acft.benchmarks.base import SUITES
from acft.benchmarks.results import MEASUREMENTS, Results
from acft.config import flat
from acft.costs import bill
from acft.errors import ConfigError, DataError
from acft.eventlog import effective, read_events
from acft.events import BestCheckpoint, Evaluated, Event, Scalars
from acft.runs.directory import all_runs, read_labels, read_launch, read_resolved, read_status
from acft.runs.spec import spec_of
from acft.schema import Launch, RunPaths
from acft.settings import UNMEASURED, as_used
from acft.totals import Totals, event_names

AS_WRITTEN = "as written"
SEED = "seed"
WEIGHTS = "model_sha256"
"""What a run started from, beside its settings; see facts of methods."""
BUDGET, VALIDATION = "budget", "validation"
POLICY = "policy"
VALIDATED = ("policy/kl_policy_base", "rollout/satisfaction", "utility/perplexity_validation")
"""What of a validation can be a column."""

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
    repeats: str = ""
    """Another run of the same settings and seed, with which it counts once."""

    @cached_property
    def launch(self) -> Launch:
        """How it was launched."""
        return read_launch(self.paths)

    @property
    def origin(self) -> str:
        """The run, or what it measured where it is an evaluation."""
        return self.launch.subject or self.paths.root.name

    @property
    def counts_as(self) -> str:
        """The run that is counted."""
        return self.repeats or self.origin

    @cached_property
    def trained(self) -> RunPaths:
        """The run that trained: it, or the one that it measured, which may not be there."""
        return RunPaths(self.paths.root.parent / self.origin)

    @cached_property
    def trained_by(self) -> dict[str, Any]:
        """What made the trained run, by dotted name: settings as now understood, and weights.

        Empty where the run is not there.
        """
        if not self.trained.launch.is_file():
            return {}
        record = read_resolved(self.trained)
        told = known = flat(as_used(record))
        with suppress(ConfigError):  # of settings that there are no more
            known = spec_of(self.trained).values
        made = {key: told.get(key, known[key]) for key in known.keys() - {*UNMEASURED}}
        weights = record.get("facts", {}).get(WEIGHTS)
        return dict(sorted(made.items())) | ({WEIGHTS: weights} if made and weights else {})

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

        What it did not record is not among them, nor is who scored; see ``Evaluated``.
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
            options |= {
                f"SHA-256 of {text['name']}": text["sha256"]
                for text in self.resolved.get("facts", {}).get("texts", ())
                if text["name"].startswith(f"{suite}: ")
            }
            if SEED in method:
                options |= {"seed of the evaluation": method[SEED]}
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
            return self.counts_as
        if checkpoint := settings.get("checkpoint"):
            return "/".join(Path(checkpoint).parts[-3:])  # run, folder and round
        model = self.resolved.get("facts", {}).get("model_sha256", "")
        return f"{name} {settings.get('model') or model}, {self.resolved['method'].get('seed')}"

    @cached_property
    def training(self) -> dict[str, dict[str, float]]:
        """What the run, or the one that it measured, spent, and how its best was validated."""
        if not self.trained.events.is_file():  # an evaluation of a model
            return {BUDGET: {}, VALIDATION: {}}
        events = _events(self.trained)
        return {BUDGET: bill(events), VALIDATION: _validated(events)}


Members = Sequence[Member]


def members_of(runs_dir: Path, experiment: str) -> list[Member]:
    """Finished runs of an experiment, sweep or tag; an evaluation is one where its run is.

    A row is called by the changed settings, without the seed. Where runs were changed alike and
    differ all the same, since their files do, it is called by that as well. Of runs of the very
    same settings and seed one counts.
    """
    names: dict[str, set[str]] = {}
    members = []
    for paths in all_runs(runs_dir):
        try:
            launch = read_launch(paths)
        except DataError:
            continue  # nobody can tell what it belongs to
        own = {launch.experiment, launch.sweep, *read_labels(paths).tags}
        names[paths.root.name] = own  # a run is older than what measures it, and so listed before
        is_wanted = experiment in own | names.get(launch.subject, set())
        if is_wanted and read_status(paths).state == "finished":
            members.append(Member(paths, _changes(runs_dir, launch)))
    return _told_apart(members)


def _changes(runs_dir: Path, launch: Launch) -> str:
    """Changed settings without the seed; an evaluation's are those of the run it measured."""
    subject = RunPaths(runs_dir / launch.subject)
    if launch.subject and subject.launch.is_file():
        launch = read_launch(subject)
    changes = [change for change in launch.overrides if not change.startswith(f"{SEED}=")]
    return ", ".join(changes) or AS_WRITTEN


def _told_apart(members: Members) -> list[Member]:
    """The members, with what else tells those of one name apart in their names."""
    namesakes = defaultdict[str, list[dict[str, Any]]](list)
    for member in members:
        if member.trained_by:
            namesakes[member.variant].append(member.trained_by)
    first: dict[tuple[str, str], str] = {}
    found = []
    for member in members:
        told = [
            f"{key}={json.dumps(value, ensure_ascii=False)}"
            for key, value in member.trained_by.items()
            if key != SEED and any(other.get(key) != value for other in namesakes[member.variant])
        ]
        variant = ", ".join([member.variant, *told])
        everything = json.dumps(member.trained_by) if member.trained_by else member.origin
        repeats = first.setdefault((variant, everything), member.origin)
        found.append(replace(member, variant=variant, repeats=repeats))
    return found


def _events(paths: RunPaths) -> list[Event]:
    return [entry.event for entry in effective(read_events(paths.events))]


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
