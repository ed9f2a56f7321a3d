"""Utility by the tasks of lm-evaluation-harness, through its Python API (optional package).

MMLU works without a network in two forms made from questions inside the package: the usual letters,
and the full text of the answers, since letters are at chance for small models.
"""

import contextlib
import importlib
import importlib.util
import io
import json
import math
import re
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from acft.benchmarks.base import SUITES, Bench, Measured, Suite, SuiteOutput
from acft.config import Config
from acft.errors import ConfigError, DataError
from acft.events import Progress
from acft.settings import Names, NonNegative, Positive
from acft.totals import Totals

PACKAGE = "lm_eval"
_FAILURES = (LookupError, OSError, RuntimeError, TypeError, ValueError, AttributeError)
"""What datasets and the harness raise for unknown tasks, records of another form, no network."""
QUESTIONS = Path("tasks/mmlu/flan_cot_fewshot/_cot_prompts.json")
"""Inside the package: worked MMLU questions of the development split, by subject."""
OFFLINE = ("mmlu_answers", "mmlu_letters")
LETTERS = "ABCD"
TaskName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_\-]+$")]

QUESTION = re.compile(
    r"(?P<question>.*?)\s*\(A\)\s*(?P<A>.*?)\s*\(B\)\s*(?P<B>.*?)\s*\(C\)\s*(?P<C>.*?)"
    r"\s*\(D\)\s*(?P<D>.*?)\s*\nA:.*?[Tt]he answer is \((?P<answer>[ABCD])\)",
    re.DOTALL,
)

Doc = dict[str, Any]
"""One question: ``question``, ``choices`` and the number of the right one, ``answer``."""


class HarnessSettings(Config):
    """Which tasks are done, and how."""

    tasks: Annotated[tuple[TaskName, ...], Field(strict=False)] = ("mmlu_answers",)
    """``mmlu_answers``, ``mmlu_letters``, or names of the package's tasks (need the network)."""
    files: Names = ()
    """Local JSON Lines files of multiple-choice questions, each line an object with ``question``,
    ``choices`` (list of texts) and ``answer`` (number of the right one, from 0)."""
    few_shot: NonNegative = 0
    """Worked examples before each question, for the package's own tasks."""
    limit: NonNegative = 0
    """Use at most so many questions of each task; 0 = all."""
    batch_size: Positive = 8
    """Answers judged at once."""

    @model_validator(mode="after")
    def _names_differ(self) -> "HarnessSettings":
        names = [*self.tasks, *(Path(file).stem for file in self.files)]
        if len(set(names)) < len(names):
            raise ValueError(f"two tasks have the same name: {', '.join(sorted(names))}")
        return self


def run(settings: HarnessSettings, bench: Bench) -> Generator[SuiteOutput, None, Measured]:
    """Accuracy of multiple-choice tasks and nats of the right answers, by lm-evaluation-harness."""
    if importlib.util.find_spec(PACKAGE) is None:
        raise ConfigError(
            "suite 'harness' needs lm-evaluation-harness; "
            "install it with: pip install 'acft[harness]'"
        )
    measured: Measured = {}
    names = [*settings.tasks, *settings.files]
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(names):
            yield Progress("evaluate", number, len(names), bench.round, "tasks")
            task = _task(name, settings, Path(folder))
            samples = _evaluate(task, settings, bench)
            measured |= totals_of(samples, Path(name).stem)
    return measured


def mmlu_questions(text: str) -> Iterator[Doc]:
    """Questions of one subject out of a prompt that works them; others than four choices left out.

    ``text`` holds "Q:" paragraphs with choices (A) to (D) and a sentence that names the answer.
    """
    for part in text.split("\n\nQ:")[1:]:
        match = QUESTION.match(part)
        if match and "(E)" not in match["D"]:
            choices = [match[letter].strip() for letter in LETTERS]
            answer = LETTERS.index(match["answer"])
            yield {"question": match["question"].strip(), "choices": choices, "answer": answer}


def read_questions(path: str) -> list[Doc]:
    """Questions of a JSON Lines file.

    Raises:
        DataError: The file is missing, or a line is not a question.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read questions {path!r}: {error}") from None
    docs = [_question(line) for line in lines]
    if None in docs:
        raise DataError(
            f"{path!r} line {docs.index(None) + 1} is not a question; each needs 'question' "
            "(text), 'choices' (at least two texts) and 'answer' (number of the right one, from 0)"
        )
    return [doc for doc in docs if doc is not None]


def _question(line: str) -> Doc | None:
    try:
        doc = json.loads(line)
        question, choices, answer = doc["question"], doc["choices"], doc["answer"]
    except (ValueError, KeyError, TypeError):
        return None
    texts = [question, *choices] if isinstance(choices, list) else [None]
    is_question = len(texts) > 2 and all(isinstance(text, str) for text in texts)
    if not is_question or answer not in range(len(choices)):
        return None
    return {"question": question, "choices": choices, "answer": answer}


def totals_of(samples: Mapping[str, Sequence[Mapping[str, Any]]], task: str) -> Measured:
    """Every metric of the samples of a task and its parts, one group for each question."""
    columns: dict[str, dict[str, float]] = {}
    for part, rows in sorted(samples.items()):
        for row in rows:
            group = f"{part}:{row['doc_id']}"
            values = {name: row[name] for name in row["metrics"] if _is_number(row.get(name))}
            nats = _nats_of_answer(row)
            if nats is not None:
                values["answer_nats"] = nats
            for name, value in values.items():
                columns.setdefault(name, {})[group] = float(value)
    return {
        f"{name}/{task}": Totals(
            tuple(column), np.array(list(column.values())), np.ones(len(column))
        )
        for name, column in columns.items()
    }


def _task(name: str, settings: HarnessSettings, folder: Path) -> str | dict[str, Any]:
    """Name of one of the package's tasks, or a whole task over local questions."""
    if name in OFFLINE:
        package = importlib.util.find_spec(PACKAGE)
        assert package is not None
        assert package.submodule_search_locations
        file = Path(package.submodule_search_locations[0]) / QUESTIONS
        prompts = json.loads(file.read_text(encoding="utf-8"))
        docs = [doc for subject in sorted(prompts) for doc in mmlu_questions(prompts[subject])]
        return _local_task(name, docs, folder, with_letters=name == "mmlu_letters")
    if name in settings.files:
        return _local_task(f"local_{len(list(folder.iterdir()))}", read_questions(name), folder)
    return name


def _local_task(
    name: str, docs: Sequence[Doc], folder: Path, *, with_letters: bool = False
) -> dict[str, Any]:
    data = folder / f"{name}.jsonl"
    data.write_text("\n".join(map(json.dumps, docs)), encoding="utf-8")
    listed = "\n" + "\n".join(f"{letter}. {{{{choices[{i}]}}}}" for i, letter in enumerate(LETTERS))
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(folder / "cache")},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": f"Question: {{{{question}}}}{listed if with_letters else ''}\nAnswer:",
        "doc_to_choice": list(LETTERS) if with_letters else "choices",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }


def _evaluate(
    task: str | dict[str, Any], settings: HarnessSettings, bench: Bench
) -> dict[str, list[dict[str, Any]]]:
    """Logged samples by task; a group of tasks gives those of all its parts."""
    # Optional, and seconds to import.
    harness = importlib.import_module(PACKAGE)
    adapter = importlib.import_module(f"{PACKAGE}.models.huggingface")
    tasks = importlib.import_module(f"{PACKAGE}.tasks")
    backbone = bench.policy.backbone
    model = adapter.HFLM(
        pretrained=backbone.model, tokenizer=backbone.tokenizer, batch_size=settings.batch_size
    )
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
            results = harness.simple_evaluate(
                model,
                tasks=[task],
                num_fewshot=settings.few_shot if isinstance(task, str) else 0,
                limit=settings.limit or None,
                bootstrap_iters=0,
                task_manager=tasks.TaskManager(include_defaults=isinstance(task, str)),
                random_seed=bench.seed,
                numpy_random_seed=bench.seed,
                torch_random_seed=bench.seed,
                fewshot_random_seed=bench.seed,
            )
    except _FAILURES as error:
        if type(error).__name__ == "OutOfMemoryError":  # the worker has advice for that one
            raise
        name = task if isinstance(task, str) else task.get("task")
        raise DataError(
            f"task {name!r} of lm-evaluation-harness failed: {type(error).__name__}: {error}; "
            "tasks by name need a network or a filled cache of datasets, local files do not: "
            "[method.options.harness] files"
        ) from error
    if not results or not results.get("samples"):
        raise DataError(f"lm-evaluation-harness gave no samples for task {task!r}")
    return results["samples"]


def _nats_of_answer(row: Mapping[str, Any]) -> float | None:
    """Nats of the right answer's text; None for tasks that are not multiple choice."""
    target, choices = row.get("target"), row.get("filtered_resps", [])
    if isinstance(target, str) and target.isdigit():
        target = int(target)
    if not isinstance(target, int) or not 0 <= target < len(choices):
        return None
    choice = choices[target]
    is_likelihood = isinstance(choice, (list, tuple)) and len(choice) == 2
    return -float(choice[0]) if is_likelihood else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float, np.number)) and math.isfinite(float(value))


SUITES.add("harness")(Suite(HarnessSettings, run))
