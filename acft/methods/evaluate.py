"""A run that measures policies instead of training one.

Each (subject, suite) pair is a round: its checkpoint holds every measurement so far, so a run that
is interrupted, or one of whose suites fails, goes on with what is missing.
"""

import functools
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field, field_validator

from acft.backbone.loading import check_model, resolve_device
from acft.benchmarks.base import SUITES, Bench, Measured, Responses
from acft.benchmarks.results import Results
from acft.config import Config
from acft.constraints import build_constraint
from acft.errors import AcftError, ConfigError, ModelError
from acft.evaluation import scorer_versions
from acft.events import Event, Note
from acft.likelihood import Judge
from acft.methods.base import METHODS, Method
from acft.scorers import Scorer
from acft.scoring import ScorerPool
from acft.settings import ModelSettings, Names, NonNegative, RunSettings
from acft.training.outputs import Checkpoint, Output, Rows, TrainContext
from acft.training.records import scored_rows
from acft.training.subjects import SubjectSettings, open_policy, open_sampler

BASE, CONTROL = "base", "control"
"""Subjects that the others are compared with."""
NO_JUDGE = (
    "name a judge, a model (local folder, packaged model or hub id) whose likelihood judges "
    "responses, or leave the suite out"
)


class EvaluateSettings(Config):
    """What is measured, on whom."""

    suites: Names = ("rtp", "perplexity")
    """Registered suites (see ``acft list``), in order."""
    subjects: dict[str, SubjectSettings] = Field(default_factory=lambda: {BASE: SubjectSettings()})
    """Policies by name. ``base`` is what the others are compared with; ``control`` is what a
    change must exceed."""
    judge: str = ""
    """Model whose likelihood judges responses, as in ``[model]``; choose another than the tuned."""
    seed: NonNegative = 0
    """Of prompts, draws and intervals; the same for all evaluations that are to be compared."""
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings of each suite, by its name."""

    @field_validator("suites", "options")
    @classmethod
    def _known(cls, value: Any) -> Any:
        try:
            for name in value:
                options = value[name] if isinstance(value, dict) else {}
                SUITES.get(name).settings_type.parse(options, f"method.options.{name}")
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return value


def evaluate(settings: EvaluateSettings, context: TrainContext) -> Iterator[Output]:
    """Measures the named policies with the named suites and compares them with base."""
    results = Results.load(context.resume_from) if context.resume_from else Results({})
    scorers = yield from _load_scorers(context)
    pool = _pool(context)
    constraint = build_constraint(context.run.constraint, pool)
    finished = context.resume_round
    failures: list[AcftError] = []
    names = [scorer.name for scorer in scorers]
    for subject in sorted(settings.subjects, key=_order):
        pending = [
            s for s in settings.suites if not _is_whole(results.measured.get(s, {}), subject, names)
        ]
        if not pending or context.should_stop():
            continue
        chosen = settings.subjects[subject]
        policy = open_policy(context.run, chosen)
        bench = Bench(
            run=context.run,
            policy=policy,
            sampler=open_sampler(context.run, chosen, policy, constraint, pool),
            subject=subject,
            judges=scorers,
            get_judge=_judge_opener(settings, context),
            constraint=constraint,
            seed=settings.seed,
            should_stop=context.should_stop,
        )
        told: set[str] = set()
        for name in pending:
            bench.round = finished
            try:
                yield from _measure(name, settings, bench, results)
            except AcftError as error:
                failures.append(error)
                text = f"suite {name} of {subject} failed, the others go on: {error}"
                yield Note("warning", text, finished)
                continue
            if context.should_stop():
                return
            if new := bench.failed.keys() - {*told}:
                told |= new
                failures += [bench.failed[scorer] for scorer in sorted(new)]
                text = "; ".join(str(bench.failed[scorer]) for scorer in sorted(new))
                yield Note("warning", f"of {subject} the others go on without: {text}", finished)
            if not _is_whole(results.measured[name], subject, names):
                continue  # a resumed evaluation asks again
            finished += 1
            yield Checkpoint(finished, policy.version, 0, results.save)
    _raise(failures)


def rounds_of(settings: EvaluateSettings) -> int:
    """Rounds of a whole evaluation."""
    return len(settings.suites) * len(settings.subjects)


def facts(context: TrainContext) -> dict[str, Any]:
    """Versions and weight hashes of the scorers that can be loaded."""
    versions: dict[str, str] = {}
    pool = _pool(context)
    for name in context.run.evaluation.scorers:
        try:
            versions |= scorer_versions([pool(name)])
        except AcftError as error:
            versions[name] = f"missing: {error}"
    return {"scorers": versions}


def contradictions(settings: EvaluateSettings, run: RunSettings) -> list[str]:  # noqa: ARG001
    """That a suite needs a judge and there is none."""
    judging = [name for name in settings.suites if SUITES.get(name).needs_judge]
    if not judging or settings.judge:
        return []
    return [f"[method] suites = {', '.join(judging)}: {NO_JUDGE}"]


def missing(settings: EvaluateSettings) -> list[str]:
    """What suites and judge need and this machine lacks."""
    found = []
    for name in settings.suites:
        suite = SUITES.get(name)
        found += suite.missing(suite.settings_type.parse(settings.options.get(name, {})))
    if settings.judge:
        try:
            check_model(ModelSettings(name=settings.judge))
        except ModelError as error:
            found.append(f"[method] judge = {settings.judge!r}: {error}")
    return found


def _is_whole(measured: Mapping[str, Measured], subject: str, scorers: Sequence[str]) -> bool:
    """Whether a suite has measured a policy, and what it is compared with, under all scorers."""
    if subject not in measured:
        return False
    for one in {BASE, CONTROL, subject} & measured.keys():
        asked = {name.partition("@")[0].rpartition("/")[2] for name in measured[one]}
        if 0 < len(asked.intersection(scorers)) < len(scorers):
            return False
    return True


def _measure(
    name: str, settings: EvaluateSettings, bench: Bench, results: Results
) -> Generator[Output, None, None]:
    """Runs one suite, reports its numbers and their comparison, and adds them to the results."""
    suite = SUITES.get(name)
    options = suite.settings_type.parse(settings.options.get(name, {}), f"method.options.{name}")
    run = suite.run(options, bench)
    measured = yield from _with_rows(run, bench)
    if bench.should_stop():
        return
    label = bench.label(name)
    subjects = results.measured.setdefault(name, {})
    yield from suite.report(measured, label)
    if bench.subject != BASE and BASE in subjects:
        control = subjects.get(CONTROL) if bench.subject != CONTROL else None
        yield from suite.compare(subjects[BASE], measured, label, control)
    subjects[bench.subject] = measured


def _with_rows(
    run: Generator[Event | Responses, None, Measured], bench: Bench
) -> Generator[Output, None, Measured]:
    """What the suite yields, with responses turned into rows of the run's tables."""
    while True:
        try:
            output = next(run)
        except StopIteration as end:
            return end.value
        if isinstance(output, Responses):
            yield from _rows(output, bench)
        else:
            yield output


def _rows(responses: Responses, bench: Bench) -> Iterator[Rows]:
    scored = responses.scored
    return scored_rows(
        responses.prompts,
        [item.rollout for item in scored],
        [item.satisfaction for item in scored],
        {s.name: [item.scores[s.name] for item in scored] for s in bench.scorers},
        {s.name: s.version for s in bench.scorers},
        bench.round,
        purpose="test",
        subject=responses.subject,
    )


def _load_scorers(context: TrainContext) -> Generator[Output, None, list[Scorer]]:
    """The judging scorers that can be loaded; the others are named in a warning."""
    pool = _pool(context)
    scorers: list[Scorer] = []
    for name in context.run.evaluation.scorers:
        try:
            scorers.append(pool(name))
        except AcftError as error:
            yield Note("warning", f"no number from scorer {name}: {error}", context.resume_round)
    return scorers


def _pool(context: TrainContext) -> ScorerPool:
    return ScorerPool(resolve_device(context.run.device), counts=context.texts)


def _judge_opener(settings: EvaluateSettings, context: TrainContext) -> Callable[[], Judge]:
    @functools.cache
    def get_judge() -> Judge:
        if not settings.judge:
            raise ConfigError(f"[method] judge is empty; {NO_JUDGE}")
        return open_policy(context.run, SubjectSettings(model=settings.judge))

    return get_judge


def _order(subject: str) -> tuple[int, str]:
    """Base and control first, since the others are compared with them."""
    return {BASE: 0, CONTROL: 1}.get(subject, 2), subject


def _raise(failures: list[AcftError]) -> None:
    """One error for all suites that failed; its kind is that of the first."""
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise type(failures[0])(f"{len(failures)} suites failed: " + "; ".join(map(str, failures)))


METHODS.add("evaluate")(
    Method(EvaluateSettings, evaluate, facts, contradictions=contradictions, missing=missing)
)
