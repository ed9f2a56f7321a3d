"""A table as an experiment: which rows with which seeds, and what of it is done, missing or next.

A folder of ``experiments/`` with a ``table.toml`` is one. Each row is the experiment's settings
with a few changes, trained once for each seed, then measured by the same suites on the same
prompts. Runs are recognised by what they compute, so whatever is there is not done again.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from acft.checkpoints import is_sealed, verify
from acft.config import read_text, read_toml, toml_value
from acft.decoding.base import DECODERS
from acft.errors import ConfigError, DataError
from acft.methods.base import METHODS
from acft.registry import did_you_mean
from acft.runs.comparison import by_fingerprint
from acft.runs.directory import RUN_ID
from acft.runs.measure import POLICY, as_evaluation, best_checkpoint, best_subject
from acft.runs.spec import Spec, parse_spec
from acft.runs.status import RESUMABLE
from acft.schema import RunPaths
from acft.scorers import related
from acft.statistics import MARGIN
from acft.tables.collecting import collected
from acft.tables.figures import Series, plot
from acft.tables.matched import HEADS as MATCHED
from acft.tables.matched import Families, knobs, matched_table, trade_off_figure
from acft.tables.members import Member, Members
from acft.tables.roc import roc_curves
from acft.tables.settings import RowSettings, TableSettings, VariantSettings
from acft.tables.table import ResultTable, column_figures, table_of
from acft.tables.win_table import win_table

FILE = "table.toml"


@dataclass(frozen=True)
class Task:
    """A run that belongs to the table."""

    variant: str
    row: str
    text: str
    overrides: tuple[str, ...]
    run_id: str = ""
    """Of the run that does it, if there is one."""
    state: str = ""
    """Of that run; stopped, failed or lost where it is to be resumed."""
    is_evaluation: bool = False
    subject: str = ""
    """Run or model that an evaluation measures."""

    @property
    def is_ready(self) -> bool:
        """Whether no run does it, or one that can be resumed."""
        return not self.run_id or self.state in RESUMABLE

    @cached_property
    def spec(self) -> Spec:
        """The checked settings.

        Raises:
            ConfigError: They are impossible.
        """
        return self._parsed(has_files=False)

    def checked(self) -> Spec:
        """The settings, when all that they name is on this machine.

        Raises:
            ConfigError: A file, model or package is missing.
        """
        return self._parsed(has_files=True)

    def _parsed(self, *, has_files: bool) -> Spec:
        try:
            return parse_spec(self.text, self.overrides, self.row, has_files=has_files)
        except ConfigError as error:
            row = f"{'evaluation of ' if self.is_evaluation else ''}row {self.row!r}"
            lines = str(error).splitlines()
            told = [f"variant {self.variant!r}, {row}: {line}" for line in lines]
            raise ConfigError("\n".join(told)) from None


@dataclass(frozen=True)
class TableProgress:
    """The tasks of a table."""

    done: list[Task]
    running: list[Task]
    """Queued ones included."""
    ready: list[Task]
    """Can be started or resumed now, in the order that gives whole tables early: an evaluation as
    soon as its run is there, every row with the first seed before any with the second."""
    waiting: int
    """Evaluations of runs that are not finished."""


@dataclass(frozen=True)
class Experiment:
    """A table's rows at one size."""

    name: str
    """Of its folder; runs are listed under it."""
    variant_name: str
    settings: TableSettings
    text: str
    """Settings that the rows change."""

    @property
    def variant(self) -> VariantSettings:
        """The size."""
        return self.settings.variants[self.variant_name]

    def progress(self, runs_dir: Path) -> TableProgress:
        """What is done and what can be started.

        Raises:
            ConfigError: A row's settings are impossible.
        """
        known = by_fingerprint(runs_dir, with_resumable=True)
        whole: dict[str, tuple[str, str]] = {}
        done, running, ready = [], [], []
        told, waiting = set[str](), set[tuple[str, str]]()
        for row, changes in self._repetitions():
            training = Task(self.variant_name, row.name, self.text, changes)
            # rows that differ in how they are written, or the policy draws, share its training
            is_new = not row.is_base and _is_new(training, told)
            if not row.is_base:
                training = _found(training, known)
                if training.state != "finished":
                    if is_new:
                        (ready if training.is_ready else running).append(training)
                    drawn = json.dumps([row.decoder, row.decoder_options], sort_keys=True)
                    waiting.add((training.spec.fingerprint, drawn))
                    continue
            evaluation = _found(self._evaluation(runs_dir, row, training), known)
            if evaluation.state != "finished" and not row.is_base:
                # what was unpacked is shown, but only weights can be measured anew
                whole = whole or by_fingerprint(runs_dir, with_resumable=True, with_weights=True)
                training = _found(training, whole)
                evaluation = _found(self._evaluation(runs_dir, row, training), known)
            if is_new:
                done.append(training)
            if evaluation.state == "finished":
                done.append(evaluation)  # for every row that shows it
            elif _is_new(evaluation, told):
                (ready if evaluation.is_ready else running).append(evaluation)
        return TableProgress(done, running, ready, len(waiting))

    def check(self, runs_dir: Path) -> None:
        """Returns if this machine has what every run of the table needs, before the first starts.

        Raises:
            ConfigError: A file, model or package is missing, for a row or for what measures it.
            DataError: What is to be measured is incomplete or altered.
        """
        for row, changes in self._repetitions():
            training = Task(self.variant_name, row.name, self.text, changes)
            if not row.is_base:
                training.checked()
            self._evaluation(runs_dir, row, training).checked()
        for task in self.progress(runs_dir).ready:
            if task.is_evaluation and RUN_ID.fullmatch(task.subject):
                best = best_checkpoint(RunPaths(runs_dir / task.subject))
                if not is_sealed(best):
                    raise DataError(
                        f"row {task.row!r}: run {task.subject} has no weights, as those of a "
                        "packed table, so it cannot be measured anew; delete it (acft delete "
                        f"{task.subject}), and the row is trained, or use another --runs folder"
                    )
                verify(best)

    def table(
        self,
        runs_dir: Path,
        against: str = "",
        margin: float = MARGIN,
        columns: Sequence[str] = (),
    ) -> ResultTable:
        """The rows that are measured so far; ``columns`` instead of the variant's.

        Raises:
            DataError: There are none.
        """
        members = self._members(runs_dir)
        wanted = columns or self.variant.columns
        if columns or against or self.settings.kind == "measurements":
            table = table_of(members, wanted, against, margin)
        elif self.settings.kind == "win_rate":
            table = win_table(members, self.variant.judge)
        else:
            table = self._matched(members, margin)
        if table is None:
            raise DataError(
                f"no row of {self.name!r} ({self.variant_name}) is measured yet in "
                f"{str(runs_dir)!r}; --queue or --run starts what is missing"
            )
        return table.with_origin(members)

    def figures(self, runs_dir: Path, table: ResultTable) -> dict[str, Figure]:
        """Every column of a table made here, or its matched trade-offs, and ROC curves, by name."""
        members = self._members(runs_dir)
        is_matched = table.heads == MATCHED
        drawn = self._frontiers(members) if is_matched else column_figures(table)
        for detector, curves in roc_curves(members).items():
            series = [Series(row, (), curve) for row, curve in curves.items()]
            drawn[f"roc {detector}"] = plot(series, "harmless taken for toxic", "toxic found")
        return drawn

    def measured(self, runs_dir: Path) -> list[RunPaths]:
        """The finished evaluations of the table, and the runs that they measured."""
        done = [task for task in self.progress(runs_dir).done if task.is_evaluation]
        ids = {name for task in done for name in (task.run_id, task.subject)}
        return [RunPaths(runs_dir / name) for name in sorted(filter(RUN_ID.fullmatch, ids))]

    def _members(self, runs_dir: Path) -> list[Member]:
        """Finished evaluations with the names of their rows, in the order of the table."""
        names = [row.name for row in self.settings.rows]
        done = [task for task in self.progress(runs_dir).done if task.is_evaluation]
        done.sort(key=lambda task: names.index(task.row))
        return [Member(RunPaths(runs_dir / task.run_id), task.row) for task in done]

    def _matched(self, members: Members, margin: float) -> ResultTable | None:
        settings = self.settings
        found = collected(members, [*settings.harms, *settings.costs])
        return matched_table(
            found, self._families, settings.harms, settings.costs, settings.ours, margin,
            self._trainers(),
        )  # fmt: skip

    def _trainers(self) -> set[str]:
        """Scorers with a say in the constraint of a row, whole or with a part they share."""
        own = [(*self.variant.changes, *row.changes) for row in self.settings.rows]
        specs = [Task(self.variant_name, "", self.text, changes).spec for changes in own]
        parsed = [constraint for spec in specs for constraint in spec.constraints]
        return related(name for constraint in parsed for name in constraint.scorer_names())

    def _frontiers(self, members: Members) -> dict[str, Figure]:
        settings = self.settings
        found = collected(members, [*settings.harms, *settings.costs])
        return {
            f"{harm} against {cost}": trade_off_figure(
                knobs(found, self._families, harm, cost), cost, harm
            )
            for harm in settings.harms
            for cost in settings.costs
        }

    @property
    def _families(self) -> Families:
        return {row.name: row.family for row in self.settings.rows}

    def _repetitions(self) -> Iterator[tuple[RowSettings, tuple[str, ...]]]:
        """Rows with their changes: all with the first seed, then all with the next."""
        for number, seed in enumerate(self.settings.seeds):
            for row in self.settings.rows:
                changes = (*self.variant.changes, *row.changes)
                if not row.is_base:
                    yield row, (*changes, f"seed={seed}")
                elif number == 0:
                    yield row, changes

    def _evaluation(self, runs_dir: Path, row: RowSettings, training: Task) -> Task:
        """The same suites, prompts and draws for every row."""
        subject: dict[str, Any] = {}
        spec = training.spec
        measured = spec.settings.model.name
        if training.run_id:
            subject = best_subject(RunPaths(runs_dir / training.run_id), spec)
            measured = training.run_id
        if row.decoder:
            subject |= {"decoder": row.decoder, "decoder_options": row.decoder_options}
        variant = self.variant
        judge = {"judge": variant.judge} if variant.judge else {}
        method = as_evaluation(variant.suites, {POLICY: subject}, options=variant.options, **judge)
        if variant.scorers:
            method.append(f"evaluation.scorers={toml_value(variant.scorers)}")
        return replace(
            training, overrides=(*training.overrides, *method), run_id="", state="",
            is_evaluation=True, subject=measured,
        )  # fmt: skip


def load_experiment(path: Path, variant: str = "") -> Experiment:
    """The experiment of a folder with a ``table.toml``, at one of its sizes.

    Raises:
        ConfigError: Any number of problems, of the table or of the first row that has some, one
            line for each.
    """
    file = path / FILE
    settings = TableSettings.parse(read_toml(file), FILE)
    name = variant or next(iter(settings.variants))
    if name not in settings.variants:
        allowed = ", ".join(settings.variants)
        raise ConfigError(
            f"{str(file)!r} has no variant {name!r}{did_you_mean(name, list(settings.variants))} "
            f"(allowed: {allowed})"
        )
    text = read_text(path / settings.variants[name].file)
    experiment = Experiment(path.resolve().name, name, settings, text)
    for row in settings.rows:
        changes = (*experiment.variant.changes, *row.changes)
        _require_oracle(row, Task(name, row.name, text, changes).spec)
    return experiment


def _require_oracle(row: RowSettings, spec: Spec) -> None:
    """Returns if a trained row has the oracle that its decoder needs, if any.

    Raises:
        ConfigError: Its method trains none.
    """
    needs = not row.is_base and row.decoder and DECODERS.get(row.decoder).needs_oracle
    if needs and not spec.method.has_oracle:
        others = (name for name in METHODS.names() if METHODS.get(name).has_oracle)
        raise ConfigError(
            f"[rows] row {row.name!r}: decoder = {row.decoder!r} needs an oracle, and method "
            f"{spec.method_name!r} trains none; name a decoder that needs none, or one of the "
            f"methods {', '.join(others)}"
        )


def is_experiment(path: Path) -> bool:
    """Whether a folder holds a table."""
    return (path / FILE).is_file()


def _is_new(task: Task, told: set[str]) -> bool:
    """Whether no other row told of the same computation, of which is told from now on."""
    fingerprint = task.spec.fingerprint
    is_new = fingerprint not in told
    told.add(fingerprint)
    return is_new


def _found(task: Task, known: dict[str, tuple[str, str]]) -> Task:
    """The task with the run that does it already."""
    run_id, state = known.get(task.spec.fingerprint, ("", ""))
    return replace(task, run_id=run_id, state=state)
