"""What lm-evaluation-harness is asked: its own tasks, and tasks over questions on this machine."""

import functools
import importlib
import importlib.util
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from acft.errors import ConfigError, DataError
from acft.registry import did_you_mean

PACKAGE = "lm_eval"
QUESTIONS = Path("tasks/mmlu/flan_cot_fewshot/_cot_prompts.json")
"""Inside the package: worked MMLU questions of the development split, by subject."""
OFFLINE = ("mmlu_answers", "mmlu_letters")
"""Tasks over these questions."""
LETTERS = "ABCD"
TABLES = {".json": "json", ".jsonl": "json", ".parquet": "parquet", ".csv": "csv"}
"""Readers of ``datasets`` by ending of a file."""

QUESTION = re.compile(
    r"(?P<question>.*?)\s*\(A\)\s*(?P<A>.*?)\s*\(B\)\s*(?P<B>.*?)\s*\(C\)\s*(?P<C>.*?)"
    r"\s*\(D\)\s*(?P<D>.*?)\s*\nA:.*?[Tt]he answer is \((?P<answer>[ABCD])\)",
    re.DOTALL,
)

Doc = dict[str, Any]
"""One question: ``question``, ``choices`` and the number of the right one, ``answer``."""
Task = str | dict[str, Any]
"""Name of a task of the package, or the settings of a whole one."""


def offline_task(name: str, folder: Path) -> Task:
    """MMLU over the questions inside the package, answered by letters or by whole answers."""
    return _question_task(name, offline_questions(), folder, with_letters=name == "mmlu_letters")


def offline_file() -> Path | None:
    """File of the package that holds worked MMLU questions; None where it is not installed."""
    package = importlib.util.find_spec(PACKAGE)
    if package is None or not package.submodule_search_locations:
        return None
    return Path(package.submodule_search_locations[0]) / QUESTIONS


def offline_questions() -> list[Doc]:
    """MMLU questions inside the package, in the order of their subjects."""
    file = offline_file()
    assert file is not None
    prompts = json.loads(file.read_text(encoding="utf-8"))
    return [doc for subject in sorted(prompts) for doc in mmlu_questions(prompts[subject])]


def file_task(path: str, folder: Path) -> Task:
    """Multiple choice over the questions of a JSON Lines file.

    Raises:
        DataError: The file cannot be read, or a line is not a question.
    """
    return _question_task(f"local_{len(list(folder.iterdir()))}", read_questions(path), folder)


def local_task(name: str, path: str, folder: Path, few_shot: int) -> Task:
    """One of the package's own tasks, over a local file instead of the data set it downloads.

    Args:
        name: Task of the package.
        path: File with the fields of the task's data set.
        folder: For ``datasets`` to keep what it makes of the file.
        few_shot: Worked examples, of the same file; a question is never its own example.

    Raises:
        ConfigError: The package has no such task, or it is a group of tasks.
        DataError: There is no such file.
    """
    problems = local_problems(name, path)
    if problems:
        raise DataError("; ".join(problems))
    known = task_manager().all_subtasks
    if name not in known:
        raise ConfigError(
            f"[method.options.harness.local] {name} is not a single task of lm-evaluation-harness"
            f"{did_you_mean(name, known)}; groups such as mmlu are made of tasks (mmlu_anatomy)"
        )
    data = {"data_files": {"test": str(Path(path).expanduser().resolve())}}
    changes = {
        "task": name,
        "dataset_path": TABLES[Path(path).suffix.lower()],
        "dataset_name": None,
        "dataset_kwargs": {**data, "cache_dir": str(folder / "cache")},
        "training_split": None,
        "validation_split": None,
        "test_split": "test",
        "fewshot_split": "test" if few_shot else None,
    }
    # Only the members of a group are merged with the package's task of their name.
    return {"group": f"local_{name}", "task": [changes]}


@functools.cache
def task_manager() -> Any:
    """The package's index of its own tasks, which takes seconds to make."""
    return importlib.import_module(f"{PACKAGE}.tasks").TaskManager()


def local_problems(name: str, path: str) -> list[str]:
    """What is wrong with the file of a local task, without opening it."""
    place = f"[method.options.harness.local] {name} = {path!r}"
    if Path(path).suffix.lower() not in TABLES:
        return [f"{place}: must end in {', '.join(TABLES)}"]
    return [] if Path(path).expanduser().is_file() else [f"{place}: no such file"]


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
        DataError: The file is missing or empty, or a line is not a question.
    """
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read questions {path!r}: {error}") from None
    if not text.strip():
        raise DataError(f"{path!r} is empty; write a question in each line")
    # texts in JSON may hold what str.splitlines takes for the end of a line
    docs = [_question(line) for line in text.removesuffix("\n").split("\n")]
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


def _question_task(
    name: str, docs: Sequence[Doc], folder: Path, *, with_letters: bool = False
) -> dict[str, Any]:
    data = folder / f"{name}.jsonl"
    data.write_text("\n".join(map(json.dumps, docs)), encoding="utf-8")
    listed = "\n" + "\n".join(f"{letter}. {{{{choices[{i}]}}}}" for i, letter in enumerate(LETTERS))
    mean = {"aggregation": "mean", "higher_is_better": True}
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(folder / "cache")},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": f"Question: {{{{question}}}}{listed if with_letters else ''}\nAnswer:",
        "doc_to_choice": list(LETTERS) if with_letters else "choices",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc", **mean}, {"metric": "acc_norm", **mean}],
    }
