"""Utility by the tasks of lm-evaluation-harness, through its Python API (optional package).

MMLU works without a network in two forms made from questions inside the package: the usual letters,
and the full text of the answers, since letters are at chance for small models.
"""

import contextlib
import importlib
import importlib.util
import io
import logging
import tempfile
import traceback
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Annotated, Any

from jinja2 import TemplateError
from pydantic import Field, model_validator

from acft.benchmarks.base import ANSWERED, SUITES, Bench, Measured, Suite, SuiteOutput, Work
from acft.benchmarks.harness_model import asked_model
from acft.benchmarks.harness_tasks import (
    OFFLINE,
    PACKAGE,
    Task,
    file_task,
    local_problems,
    local_task,
    offline_file,
    offline_questions,
    offline_task,
    read_questions,
    task_manager,
)
from acft.benchmarks.harness_totals import aggregations_of, left_out, totals_of
from acft.config import Config
from acft.errors import ConfigError, DataError, failing_as
from acft.events import Note, Phase, Progress
from acft.seeding import derive_short_seed
from acft.settings import Names, NonNegative, Positive, RunSettings

NAME = "harness"
_FAILURES = (
    LookupError, OSError, RuntimeError, TypeError, ValueError, AttributeError, TemplateError,
    AssertionError,
)  # fmt: skip
"""What datasets and the harness raise for unknown tasks, records of another form, no network, and
answers longer than the model reads."""
Samples = dict[str, list[dict[str, Any]]]
"""What the harness logs of each question, by task."""
CHUNK_QUESTIONS = 32
TALKERS = ("lm_eval.api.task", "lm_eval.evaluator", "lm_eval.models.huggingface")
"""Its loggers that warn of every default."""
TaskName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_\-]+$")]


class HarnessSettings(Config):
    """Which tasks are done, and how."""

    tasks: Annotated[tuple[TaskName, ...], Field(strict=False)] = ("mmlu_answers",)
    """``mmlu_answers``, ``mmlu_letters``, or names of the package's tasks (need the network); none
    by default where there are files or local."""
    files: Names = ()
    """Local JSON Lines files of multiple-choice questions, each line an object with ``question``,
    ``choices`` (list of texts) and ``answer`` (number of the right one, from 0)."""
    local: dict[TaskName, str] = Field(default_factory=dict)
    """The package's own tasks with a local file each, of the form of the task's data set (JSON
    Lines, Parquet or CSV), such as ``boolq = "boolq.jsonl"``; nothing is downloaded."""
    few_shot: NonNegative | dict[TaskName, NonNegative] = 0
    """Worked examples before each question, for the package's own tasks: one number, or a number
    by task, such as ``{mmlu = 5}``, and none for the others."""
    limit: NonNegative = 0
    """Use at most this many questions of each task; 0 = all."""
    batch_size: Positive = 8
    """Answers judged at once."""

    @model_validator(mode="before")
    @classmethod
    def _default_only_alone(cls, values: Any) -> Any:
        # before, so that the settings as used, written down and read again, say the same
        if isinstance(values, dict) and (values.get("files") or values.get("local")):
            return {"tasks": (), **values}
        return values

    @model_validator(mode="after")
    def _names_differ(self) -> "HarnessSettings":
        names = [*self.tasks, *self.local, *(Path(file).stem for file in self.files)]
        if not names:
            raise ValueError("tasks is empty and there are neither files nor local; name a task")
        if len(set(names)) < len(names):
            raise ValueError(f"two tasks have the same name: {', '.join(sorted(names))}")
        return self

    @model_validator(mode="after")
    def _few_shot_of_known(self) -> "HarnessSettings":
        known = [*self.tasks, *self.local]
        for name in self.few_shot if isinstance(self.few_shot, dict) else ():
            if name not in known:
                raise ValueError(
                    f"few_shot names {name!r}, which is not done (allowed: "
                    f"{', '.join(known) or 'nothing'}); add it to tasks or local"
                )
        return self

    def examples(self, name: str) -> int:
        """Worked examples before each question of a task."""
        if isinstance(self.few_shot, dict):
            return self.few_shot.get(name, 0)
        return self.few_shot


def run(settings: HarnessSettings, bench: Bench) -> Generator[SuiteOutput, None, Measured]:
    """Accuracy of multiple-choice tasks and nats of the right answers, by lm-evaluation-harness."""
    if problems := missing(settings):
        raise ConfigError("; ".join(problems))
    measured: Measured = {}
    names = [*settings.tasks, *settings.local, *settings.files]
    with tempfile.TemporaryDirectory() as folder:
        tasks = [_task(name, settings, Path(folder)) for name in names]
        for name, task in zip(names, tasks, strict=True):
            if bench.stops():
                break
            few_shot = settings.examples(name)
            measured |= yield from _evaluate(task, Path(name).stem, few_shot, settings, bench)
    return measured


def missing(settings: HarnessSettings) -> list[str]:
    """One sentence for each file that is not there, and for the package."""
    problems = [
        sentence for name, path in settings.local.items() for sentence in local_problems(name, path)
    ]
    problems += [
        f"[method.options.harness] files = {path!r}: no such file"
        for path in settings.files
        if not Path(path).expanduser().is_file()
    ]
    if importlib.util.find_spec(PACKAGE) is None:
        problems.append(
            "suite 'harness' needs lm-evaluation-harness; "
            "install it with: pip install 'acft[harness]'"
        )
    return problems


def files(settings: HarnessSettings) -> dict[str, Path]:
    """Files of questions that are on this machine, by path or by the task that asks them."""
    own = {path: Path(path).expanduser() for path in (*settings.files, *settings.local.values())}
    packaged = offline_file()
    asked = [name for name in settings.tasks if name in OFFLINE]
    return own | {name: packaged for name in asked if packaged is not None}


def work(settings: HarnessSettings, run: RunSettings) -> Work:  # noqa: ARG001
    """Questions of tasks that are on this machine; of the package's own it is not known."""
    if missing(settings) or settings.local or not {*settings.tasks} <= {*OFFLINE}:
        return {}
    sizes = [len(offline_questions()) for _ in settings.tasks]
    sizes += [len(read_questions(file)) for file in settings.files]
    return {(ANSWERED, settings.model_dump_json()): sum(min(n, settings.limit or n) for n in sizes)}


def _task(name: str, settings: HarnessSettings, folder: Path) -> Task:
    if name in settings.local:
        return local_task(name, settings.local[name], folder, settings.examples(name))
    if name in OFFLINE:
        return offline_task(name, folder)
    return file_task(name, folder) if name in settings.files else name


def _evaluate(
    task: Task, name: str, few_shot: int, settings: HarnessSettings, bench: Bench
) -> Generator[SuiteOutput, None, Measured]:
    """Measurements of a task, and a note of the metrics that cannot be among them."""
    with _one_sentence(task):
        with _quiet():
            model = asked_model(bench, settings.batch_size)
        parts = _loaded(task)
    few_shot = few_shot if _is_own(task) else 0
    samples = yield from _answers(task, model, parts, few_shot, settings, bench)
    aggregations = {part: aggregations_of(parts[part]) for part in samples}
    if gone := left_out(samples, aggregations):
        text = f"no {', '.join(gone)} of {name}: not a mean of one finite number for each question"
        yield Note("warning", text, bench.round)
    return totals_of(samples, name, aggregations)


def _answers(
    task: Task,
    model: Any,
    parts: dict[str, Any],
    few_shot: int,
    settings: HarnessSettings,
    bench: Bench,
) -> Generator[Progress, None, Samples]:
    """Logged samples by task, a chunk of questions after the other; a group gives all its parts."""
    samples: Samples = {}
    seed = derive_short_seed(bench.seed, NAME)
    with _one_sentence(task):
        for part in parts.values():
            _read_only_asked(part)
            _with_examples(part, few_shot, seed)
        sizes = {name: len(part.eval_docs) for name, part in parts.items()}
    total = sum(min(n, settings.limit or n) for n in sizes.values())
    done = 0
    for name, part in parts.items():
        ids = range(min(sizes[name], settings.limit or sizes[name]))
        for start in range(0, len(ids), CHUNK_QUESTIONS):
            if bench.stops():
                return samples
            yield Progress(Phase.EVALUATE, done, total, bench.round, "questions")
            chunk = list(ids[start : start + CHUNK_QUESTIONS])
            with _one_sentence(task):
                found = _answered(model, name, part, chunk)[name]
            samples.setdefault(name, []).extend(found)
            done += len(chunk)
    yield Progress(Phase.EVALUATE, done, total, bench.round, "questions")
    return samples


def _with_examples(part: Any, few_shot: int, seed: int) -> None:
    """Sets how many worked examples a task shows, unless it rules them out, and their choice.

    Once for all chunks, so that they are those of the package, which reads all questions at once.
    """
    if part.get_config("num_fewshot") != 0:
        part.set_config(key="num_fewshot", value=few_shot)
    part.set_fewshot_seed(seed=seed)


def _read_only_asked(part: Any) -> None:
    """Makes a task read the questions of a chunk alone.

    The package makes all questions and walks over them at each call, several times.
    """
    questions = part.eval_docs
    of_split = "test_docs" if part.has_test_docs() else "validation_docs"
    setattr(part, of_split, lambda: questions)
    part.doc_iterator = lambda *, samples, **_: enumerate(questions[i] for i in samples)


def _loaded(task: Task) -> dict[str, Any]:
    """Every task that a name or settings stand for, by name, with its questions read."""
    tasks = importlib.import_module(f"{PACKAGE}.tasks")
    manager = task_manager() if _is_own(task) else tasks.TaskManager(include_defaults=False)
    with _quiet():
        return manager.load([task])["tasks"]


def _answered(model: Any, name: str, part: Any, ids: list[int]) -> Samples:
    harness = importlib.import_module(PACKAGE)
    with _quiet():
        results = harness.evaluate(
            model, {"tasks": {name: part}}, samples={name: ids}, bootstrap_iters=0
        )
    if not results or not results.get("samples"):
        raise ValueError("it gave no samples")
    return results["samples"]


def _one_sentence(task: Task) -> contextlib.AbstractContextManager[None]:
    """Turns whatever datasets and the harness raise into one error that names the task."""

    def failed(error: Exception) -> DataError:
        return DataError(
            f"task {_name_of(task)!r} of lm-evaluation-harness failed: {type(error).__name__}: "
            f"{_reason(error)}{_way_out(task)}"
        )

    return failing_as(failed, _FAILURES)


def _reason(error: BaseException) -> str:
    """What an error says; for one that says nothing the line that it comes from."""
    return str(error) or str(traceback.extract_tb(error.__traceback__)[-1].line)


def _way_out(task: Task) -> str:
    if isinstance(task, str):
        return (
            "; tasks by name need a network or a filled cache of datasets, local files do not: "
            "[method.options.harness] local or files"
        )
    return "; a local file needs the fields of the task's data set" if _is_own(task) else ""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leaves out progress bars, and what the package says of every call, about meant defaults."""
    levels = {logger: logger.level for logger in map(logging.getLogger, TALKERS)}
    for logger in levels:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


def _is_own(task: Task) -> bool:
    """Whether it is one of the package's own tasks."""
    return isinstance(task, str) or "group" in task


def _name_of(task: Task) -> str:
    if isinstance(task, str):
        return task
    return task["task"][0]["task"] if "group" in task else task["task"]


SUITES.add(NAME)(
    Suite(
        HarnessSettings, run, work=work, files=files, missing=missing, needs_likelihoods=True,
    )
)  # fmt: skip
