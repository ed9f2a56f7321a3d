"""A run that measures policies instead of training one.

Each (subject, suite) pair is a round: its checkpoint holds every measurement so far, so a run that
is interrupted, or one of whose suites fails, goes on with what is missing.
"""

import functools
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from acft.atomic import sha256 as file_sha256
from acft.backbone.loading import model_sha256, model_texts_sha256
from acft.benchmarks.base import SUITES, Bench, Suite, TextSource
from acft.benchmarks.results import Results
from acft.config import Config, checked
from acft.constraints import build_constraint
from acft.corpora.sources import INLINE, source_problem
from acft.data import fingerprint, load_documents, load_prompts
from acft.distributed import settled
from acft.errors import AcftError, ConfigError, DataError, ModelError
from acft.evaluation import scorer_versions
from acft.events import Note
from acft.likelihood import Judge
from acft.methods.base import METHODS, Method
from acft.policy import Policy
from acft.schema import policy_sha256
from acft.scorers import Scorer
from acft.settings import ModelSettings, Names, PromptSettings, RunSettings, Seed
from acft.threads import use_threads
from acft.training.outputs import Output, TrainContext
from acft.training.sameness import beside, require_same
from acft.training.subjects import (
    SubjectSettings,
    decoder_problems,
    drawn_as,
    missing_parts,
    model_problem,
    open_policy,
    open_sampler,
)
from acft.training.suite_runs import BASE, SuiteRuns, order

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
    seed: Seed = 0
    """Of prompts, draws and intervals; the same for all evaluations that are to be compared."""
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings of each suite, by its name; defaults are filled in."""

    @field_validator("suites")
    @classmethod
    def _known(cls, suites: Names) -> Names:
        for name in suites:
            checked(SUITES.get, name)
        return suites

    @field_validator("options")
    @classmethod
    def _complete(cls, options: dict[str, dict[str, Any]], info: Any) -> dict[str, dict[str, Any]]:
        """As used, so that the record of a run says it, whatever the defaults are later."""
        names = dict.fromkeys([*info.data.get("suites", ()), *options])
        return {
            name: checked(_suite_settings, name, options.get(name, {})).model_dump()
            for name in names
        }


def _suite_settings(name: str, options: dict[str, Any]) -> Config:
    return SUITES.get(name).settings_type.parse(options, f"method.options.{name}")


def evaluate(settings: EvaluateSettings, context: TrainContext) -> Iterator[Output]:
    """Measures the named policies with the named suites and compares them with base.

    Raises:
        ModelError: It is resumed, and who scores, judges or is measured is another than before.
    """
    use_threads(context.run.schedule.threads)
    results = Results.load(context.resume_from) if context.resume_from else Results({})
    scorers, lost = yield from _load_scorers(settings, context)
    made_by = _made_by(settings, scorers, context)
    require_same(results.made_by, made_by, "evaluation", "measure anew with 'acft evaluate'")
    results.made_by.update(made_by)
    suites = {name: _suite(name, settings) for name in settings.suites}
    runs = SuiteRuns(suites, [*settings.subjects], results, context.resume_round)
    runs.failures += lost.values()
    open_bench = _bench_opener(settings, context, scorers, lost)
    for subject in sorted(settings.subjects, key=order):
        pending = runs.pending(subject)
        if not pending or settled(context.should_stop):
            continue
        bench = open_bench(subject)
        for name in pending:
            yield from runs.run(name, bench)
            if context.should_stop():
                yield from runs.unsealed
                return
        del bench  # two models at once may not fit
    yield from runs.unsealed
    _raise(runs.failures)


def _made_by(
    settings: EvaluateSettings, scorers: Sequence[Scorer], context: TrainContext
) -> dict[str, str]:
    """Version or hash of whoever scores, judges or is measured, as far as it is here."""
    found = {f"scorer {name!r}": version for name, version in scorer_versions(scorers).items()}
    models = {"the model": context.run.model}
    if settings.judge:
        models["the judge"] = _judge_model(settings, context.run)
    for name, model in models.items():
        with suppress(ModelError):  # told where it is opened
            found[name] = model_sha256(model)
            found[beside(name)] = model_texts_sha256(model)
    checkpoints = _checkpoints(settings).items()
    return found | {f"checkpoint of {name!r}": sha256 for name, sha256 in checkpoints}


def _texts(settings: EvaluateSettings, run: RunSettings) -> list[dict[str, str]]:
    """What each suite reads, by hash, as far as it is here."""
    known: dict[str, str] = {}
    found = []
    for name in settings.suites:
        suite, options = _suite(name, settings)
        for source in suite.reads(options, run):
            key = source.model_dump_json()
            with suppress(DataError, ModelError):  # told where they are read
                known[key] = known.get(key) or _texts_sha256(source, settings.seed)
                place = "its texts" if source.source.startswith(INLINE) else source.source
                told = {"name": f"{name}: {place}", "version": "", "sha256": known[key]}
                found.append(told)
        for place, file in suite.files(options).items():
            with suppress(OSError):  # likewise
                told = {"name": f"{name}: {place}", "version": "", "sha256": file_sha256(file)}
                found.append(told)
    return found


def _texts_sha256(source: TextSource, seed: int) -> str:
    """SHA-256 over all prompts or documents of a source."""
    if isinstance(source, PromptSettings):
        return fingerprint(load_prompts(source, seed))
    return fingerprint(chain.from_iterable(load_documents(source, seed).values()))


def _checkpoints(settings: EvaluateSettings) -> dict[str, str]:
    """SHA-256 of what was trained of each subject, by its name, as far as it is here."""
    folders = {name: subject.checkpoint for name, subject in settings.subjects.items()}
    found = {name: policy_sha256(Path(folder)) for name, folder in folders.items() if folder}
    return {name: sha256 for name, sha256 in found.items() if sha256}


def _bench_opener(
    settings: EvaluateSettings,
    context: TrainContext,
    scorers: Sequence[Scorer],
    lost: Mapping[str, ModelError],
) -> Callable[[str], Bench]:
    """Opens a subject's policy and puts it on the bench."""
    constraint = build_constraint(context.run.constraint, context.scorers)
    get_judge, get_base = _judge_opener(settings, context), _base_opener(settings, context)

    def open_bench(subject: str) -> Bench:
        chosen = settings.subjects[subject]
        policy = open_policy(context.run, chosen)
        return Bench(
            run=context.run,
            policy=policy,
            sampler=open_sampler(context.run, chosen, policy, constraint, context.scorers),
            subject=subject,
            judges=scorers,
            get_judge=get_judge,
            get_base=(lambda: policy) if subject == BASE else get_base,
            constraint=constraint,
            seed=settings.seed,
            should_stop=context.should_stop,
            failed=dict(lost),
            control=chosen.control,
        )

    return open_bench


def facts(context: TrainContext) -> dict[str, Any]:
    """Who judges, the model and what was trained from it, by hash, and how responses are drawn."""
    run = context.run
    settings = EvaluateSettings.parse({k: v for k, v in run.method.items() if k != "name"})
    suites = [_suite(name, settings) for name in settings.suites]
    scorers: list[dict[str, str]] = []
    for name in run.evaluation.scorers:
        try:
            known = context.scorers(name)
            scorers.append({"name": name, "version": known.version, "sha256": known.sha256})
        except AcftError as error:
            scorers.append({"name": name, "version": f"missing: {error}", "sha256": ""})
    given = run.method.get("subjects", {})
    policies = [
        {"name": name, "version": str(given[name].get("version", "")), "sha256": sha256}
        for name, sha256 in _checkpoints(settings).items()
    ]
    judge = _judge_model(settings, run)
    is_judged = any(suite.needs_judge for suite, _ in suites) and bool(settings.judge)
    return {
        "model_sha256": model_sha256(run.model),
        "model_texts_sha256": model_texts_sha256(run.model),
        "scorers": scorers,
        "policies": policies,
        "texts": _texts(settings, run),
        "judge_sha256": model_sha256(judge) if is_judged else "",
        "judge_texts_sha256": model_texts_sha256(judge) if is_judged else "",
        "drawings": {
            name: drawn_as(suite.drawing(options), settings.subjects)
            for name, (suite, options) in zip(settings.suites, suites, strict=True)
            if suite.drawing is not None
        },
    }


def contradictions(settings: EvaluateSettings, run: RunSettings) -> list[str]:
    """One sentence for suites without the judge they need and for each wrong part of a subject."""
    found = [
        sentence
        for name, subject in settings.subjects.items()
        for sentence in decoder_problems(f"method.subjects.{name}", subject)
    ]
    found += [
        f"[method.subjects.{name}] control = {subject.control!r}: stands before raw text, not "
        "before messages; leave it out, or set [model] chat_template to false"
        for name, subject in settings.subjects.items()
        if subject.control and run.model.chat_template
    ]
    judging = [name for name in settings.suites if SUITES.get(name).needs_judge]
    if judging and not settings.judge:
        found.append(f"[method] suites = {', '.join(judging)}: {NO_JUDGE}")
    return found


def left_out(settings: EvaluateSettings, run: RunSettings) -> list[str]:
    """One sentence for each part that suites leave out since it is not on this machine."""
    suites = [_suite(name, settings) for name in settings.suites]
    return [text for suite, options in suites for text in suite.left_out(options, run)]


def missing(settings: EvaluateSettings, run: RunSettings) -> list[str]:
    """One sentence for each thing that is needed and not here, or set for a suite not asked for."""
    found = [
        f"[method.options.{name}] has no effect without the suite; add {name!r} to suites"
        for name in settings.options
        if name not in settings.suites
    ]
    own = {run.prompts.source, *(corpus.source for corpus in run.corpus)}  # looked up already
    for name in settings.suites:
        suite, options = _suite(name, settings)
        found += suite.missing(options)
        place = f"method.options.{name}"
        found += [
            source_problem(place, source)
            for source in suite.reads(options, run)
            if source.source not in own
        ]
    found.append(model_problem("[method] judge", settings.judge))
    for name, subject in settings.subjects.items():
        found += missing_parts(f"method.subjects.{name}", subject)
    return list(filter(None, found))


def _load_scorers(
    settings: EvaluateSettings, context: TrainContext
) -> Generator[Output, None, tuple[list[Scorer], dict[str, ModelError]]]:
    """The judging scorers that can be loaded, and why others cannot, of which a warning tells.

    None of either where no suite asks them.
    """
    suites = [_suite(name, settings) for name in settings.suites]
    is_asked = any(suite.asks_scorers(options) for suite, options in suites)
    scorers: list[Scorer] = []
    lost: dict[str, ModelError] = {}
    for name in context.run.evaluation.scorers if is_asked else ():
        try:
            scorers.append(context.scorers(name))
        except AcftError as error:
            why = str(error).removeprefix(f"scorer {name!r}").lstrip(": ")
            lost[name] = ModelError(f"no number from scorer {name}: {why}")
            yield Note("warning", str(lost[name]), context.resume_round)
    return scorers, lost


def _suite(name: str, settings: EvaluateSettings) -> tuple[Suite, Any]:
    """A suite and its settings."""
    return SUITES.get(name), _suite_settings(name, settings.options[name])


def _judge_opener(settings: EvaluateSettings, context: TrainContext) -> Callable[[], Judge]:
    @functools.cache
    def get_judge() -> Judge:
        if not settings.judge:
            raise ConfigError(f"[method] judge is empty; {NO_JUDGE}")
        # not in the few bits of what it judges, which would judge otherwise
        run = context.run.model_copy(update={"model": _judge_model(settings, context.run)})
        return open_policy(run, SubjectSettings())

    return get_judge


def _judge_model(settings: EvaluateSettings, run: RunSettings) -> ModelSettings:
    return ModelSettings(name=settings.judge, sharding=run.model.sharding)


def _base_opener(settings: EvaluateSettings, context: TrainContext) -> Callable[[], Policy]:
    @functools.cache
    def get_base() -> Policy:
        return open_policy(context.run, settings.subjects.get(BASE, SubjectSettings()))

    return get_base


def _raise(failures: list[AcftError]) -> None:
    """One error for all suites and scorers that failed; its kind is that of the first."""
    texts = [*dict.fromkeys(map(str, failures))]
    if len(texts) == 1:
        raise failures[0]
    if texts:
        raise type(failures[0])(f"{len(texts)} parts of the evaluation failed: {'; '.join(texts)}")


METHODS.add("evaluate")(
    Method(
        EvaluateSettings, evaluate, facts,
        contradictions=contradictions, missing=missing, takes_steps=lambda _: False,
    )
)  # fmt: skip
