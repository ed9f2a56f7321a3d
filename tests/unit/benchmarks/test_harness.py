import importlib.machinery
import importlib.util
import json
import math
import subprocess
import sys
import types
from collections.abc import Sequence
from typing import Any

import pytest
from jinja2 import UndefinedError

from acft.backbone.forward import head_weight
from acft.benchmarks import harness
from acft.benchmarks.base import SUITES
from acft.benchmarks.harness import HarnessSettings, missing
from acft.benchmarks.harness_model import asked_model
from acft.benchmarks.harness_tasks import mmlu_questions, read_questions
from acft.decoding.base import DecodedJudge
from acft.errors import ConfigError, DataError
from acft.likelihood import continuation_likelihoods
from acft.policy import base_policy
from acft.training.controlled import ControlledPolicy
from acft.types import Rollout
from tests.bench import Power, bench_of, finish, run_settings, tiny_model
from tests.fakes import save_tiny_model

PROMPT = """The following are multiple choice questions about gardens.

Q: Which plant climbs?
(A) moss (B) ivy (C) clover (D) fern
A: Let's think step by step. Ivy climbs. The answer is (B).

Q: How many?
(A) 1 (B) 2 (C) 3 (D) 4 (E) 5
A: Let's think step by step. The answer is (A).

Q: Is it
red?
(A) yes (B) no (C) both (D) neither
A: Let's think step by step. The answer is (D)."""


needs_package = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not installed"
)


def test_questions_are_read_out_of_a_worked_prompt() -> None:
    first, second = mmlu_questions(PROMPT)
    choices = ["moss", "ivy", "clover", "fern"]
    assert first == {"question": "Which plant climbs?", "choices": choices, "answer": 1}
    assert second["question"] == "Is it\nred?"
    assert second["answer"] == 3


@pytest.mark.parametrize(
    "line",
    [
        "no json",
        '{"question": "a"}',
        '{"question": "a", "choices": ["x"], "answer": 0}',
        '{"question": "a", "choices": ["x", "y"], "answer": 2}',
        '{"question": "a", "choices": ["x", 3], "answer": 0}',
        '{"question": "a", "choices": "xy", "answer": 0}',
        "[1, 2]",
    ],
)
def test_a_line_that_is_no_question_is_an_error_that_says_where(tmp_path, line) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text('{"question": "a", "choices": ["x", "y"], "answer": 1}\n' + line)
    with pytest.raises(DataError, match="line 2 is not a question"):
        read_questions(str(file))


def test_a_task_name_cannot_be_a_path() -> None:
    with pytest.raises(ConfigError, match="pattern"):
        HarnessSettings.parse({"tasks": ["../task.yaml"]})


def test_a_default_task_is_done_only_where_nothing_else_is_named() -> None:
    assert HarnessSettings().tasks == ("mmlu_answers",)
    assert HarnessSettings(local={"boolq": "b.jsonl"}).tasks == ()
    assert HarnessSettings(tasks=("mmlu_letters",), files=("q.jsonl",)).tasks == ("mmlu_letters",)
    with pytest.raises(ConfigError, match="name a task"):
        HarnessSettings.parse({"tasks": []})


def test_two_tasks_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="same name"):
        HarnessSettings.parse({"files": ["a/q.jsonl", "b/q.jsonl"]})


def test_worked_examples_are_one_number_or_a_number_by_task() -> None:
    assert HarnessSettings(few_shot=3).examples("mmlu") == 3
    both = HarnessSettings.parse({"tasks": ["mmlu", "piqa"], "few_shot": {"mmlu": 5}})
    assert (both.examples("mmlu"), both.examples("piqa")) == (5, 0)
    with pytest.raises(ConfigError, match=r"few_shot names 'mlu'.*allowed: mmlu_answers"):
        HarnessSettings.parse({"few_shot": {"mlu": 5}})


def test_without_the_package_it_says_how_to_get_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("acft.benchmarks.harness.importlib.util.find_spec", lambda _: None)
    suite = SUITES.get("harness")
    bench = bench_of(run_settings(tiny_model(tmp_path)))
    with pytest.raises(ConfigError, match=r"pip install .acft.harness"):
        finish(suite.run(HarnessSettings(), bench))


ERRORS = [KeyError("no_task"), ConnectionError("no network"), UndefinedError("'passage'"),
          AssertionError()]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS)
def test_a_task_that_fails_is_one_sentence_with_the_way_out(tmp_path, monkeypatch, error) -> None:
    class Manager:
        def load(self, _: object) -> None:
            raise error

    run = run_settings(tiny_model(tmp_path))
    bench = bench_of(run, policy=base_policy(run))
    for name in ("lm_eval", "lm_eval.models", "lm_eval.models.huggingface", "lm_eval.tasks"):
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        vars(module).update(HFLM=dict)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("acft.benchmarks.harness.task_manager", Manager)
    suite = SUITES.get("harness").run(HarnessSettings(tasks=("no_task",)), bench)
    with pytest.raises(DataError, match=r"task 'no_task' .* failed: .* files") as failure:
        finish(suite)
    assert (str(error) or "raise error") in str(failure.value)


@needs_package
def test_a_stop_ends_after_the_task_in_which_it_comes(tmp_path, monkeypatch) -> None:
    begun: list[str] = []

    def evaluate(task, *_):
        begun.append(task)
        return {}
        yield

    monkeypatch.setattr("acft.benchmarks.harness._evaluate", evaluate)
    monkeypatch.setattr("acft.benchmarks.harness._task", lambda name, *_: name)
    bench = bench_of(run_settings(tiny_model(tmp_path)))
    bench.should_stop = lambda: len(begun) == 1
    finish(SUITES.get("harness").run(HarnessSettings(tasks=("one", "two")), bench))
    assert begun == ["one"]


@needs_package
@pytest.mark.filterwarnings("default")
def test_the_harness_finds_the_same_likelihoods_as_this_project(tmp_path, monkeypatch) -> None:
    questions = [
        {"question": "Grass is", "choices": ["green", "loud"], "answer": 0},
        {"question": "Water is", "choices": ["dry", "wet"], "answer": 1},
    ]
    file = tmp_path / "q.jsonl"
    file.write_text("\n".join(map(json.dumps, questions)))
    run = run_settings(tiny_model(tmp_path))
    policy = base_policy(run)
    options = HarnessSettings(tasks=(), files=(str(file),))
    _, measured = finish(SUITES.get("harness").run(options, bench_of(run, policy=policy)))
    rollouts = [
        Rollout(str(i), str(i), f"Question: {q['question']}\nAnswer:",
                f" {q['choices'][q['answer']]}", (), (), (), 0)
        for i, q in enumerate(questions)
    ]  # fmt: skip
    own = [row.nll for row in continuation_likelihoods(policy, rollouts)]
    assert measured["answer_nats/q"].sums == pytest.approx(own, rel=1e-4)
    assert set(measured) == {"acc/q", "acc_norm/q", "answer_nats/q"}
    monkeypatch.setattr("acft.benchmarks.harness.CHUNK_QUESTIONS", 1)
    told, again = finish(SUITES.get("harness").run(options, bench_of(run, policy=policy)))
    assert [(event.done, event.total) for event in told] == [(0, 2), (1, 2), (2, 2)]
    for name, totals in measured.items():
        assert again[name].groups == totals.groups
        assert again[name].sums == pytest.approx(totals.sums, rel=1e-5)
    stopped, found = finish(
        SUITES.get("harness").run(options, bench_of(run, policy=policy, should_stop=lambda: True))
    )
    assert (stopped, found) == ([], {})


@needs_package
@pytest.mark.filterwarnings("default")
def test_each_question_is_read_a_few_times_however_many_chunks_there_are(
    tmp_path, monkeypatch
) -> None:
    class Questions(Sequence[dict[str, Any]]):
        def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
            self.rows = rows

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, place: Any) -> Any:
            read.append(place)
            return self.rows[place]

    def loaded(task: Any) -> dict[str, Any]:
        parts = load(task)
        (part,) = parts.values()
        whole = part.test_docs()
        part.test_docs = lambda: made.append(Questions(whole)) or made[-1]
        return parts

    read: list[int] = []
    made: list[Questions] = []
    load = harness._loaded
    monkeypatch.setattr(harness, "_loaded", loaded)
    monkeypatch.setattr(harness, "CHUNK_QUESTIONS", 2)
    file = tmp_path / "q.jsonl"
    asked = [{"question": f"Is it {i}", "choices": ["no", "yes"], "answer": 1} for i in range(12)]
    file.write_text("\n".join(map(json.dumps, asked)))
    run = run_settings(tiny_model(tmp_path))
    suite = SUITES.get("harness").run(
        HarnessSettings(tasks=(), files=(str(file),), limit=10),
        bench_of(run, policy=base_policy(run)),
    )
    _, measured = finish(suite)
    assert measured["acc/q"].groups == tuple(f"local_0:{i}" for i in range(10))
    assert sorted(read) == sorted([*range(10)] * 2), "to ask, and to judge the answer"
    assert len(made) == 1, "what makes all questions of the records is done once"


@needs_package
@pytest.mark.filterwarnings("default")
def test_a_control_text_stands_before_every_context(tmp_path) -> None:
    question = {"question": "Grass is", "choices": ["green", "loud"], "answer": 0}
    file = tmp_path / "q.jsonl"
    file.write_text(json.dumps(question))
    run = run_settings(tiny_model(tmp_path))
    policy = ControlledPolicy.of(base_policy(run), "quality 1\n")
    bench = bench_of(run, policy=policy, control="quality 1\n")
    options = HarnessSettings(tasks=(), files=(str(file),))
    _, measured = finish(SUITES.get("harness").run(options, bench))
    rollout = Rollout("0", "0", "Question: Grass is\nAnswer:", " green", (), (), (), 0)
    for asked, is_same in ((policy, True), (base_policy(run), False)):
        (own,) = continuation_likelihoods(asked, [rollout])
        assert (measured["answer_nats/q"].sums == pytest.approx([own.nll], rel=1e-4)) == is_same


@needs_package
@pytest.mark.parametrize("power", [1.0, 1e-6])
def test_answers_are_judged_as_the_decoder_would_draw_them(tmp_path, power) -> None:
    questions = [
        {"question": f"Part {i} is", "choices": ["green", "loud and long"], "answer": i % 2}
        for i in range(5)
    ]
    file = tmp_path / "q.jsonl"
    file.write_text("\n".join(map(json.dumps, questions)))
    run = run_settings(tiny_model(tmp_path))
    policy = base_policy(run)
    options = HarnessSettings(tasks=(), files=(str(file),), batch_size=3)
    _, plain = finish(SUITES.get("harness").run(options, bench_of(run, policy=policy)))
    bench = bench_of(run, policy=policy, sampler=DecodedJudge(policy, Power(power)))
    _, decoded = finish(SUITES.get("harness").run(options, bench))
    assert decoded.keys() == plain.keys()
    if power == 1.0:
        for name, totals in plain.items():
            assert decoded[name].sums == pytest.approx(totals.sums, rel=1e-4)
        return
    tokenizer = policy.backbone.tokenizer
    answers = [f" {q['choices'][q['answer']]}" for q in questions]
    lengths = [len(tokenizer.encode(answer, add_special_tokens=False)) for answer in answers]
    each = math.log(len(head_weight(policy.backbone.model)))
    expected = [each * length for length in lengths]
    assert decoded["answer_nats/q"].sums == pytest.approx(expected, rel=1e-3)


@needs_package
def test_what_the_decoder_would_not_write_first_is_not_called_greedy(tmp_path) -> None:
    run = run_settings(tiny_model(tmp_path))
    policy = base_policy(run)
    bench = bench_of(run, policy=policy, sampler=DecodedJudge(policy, Power(1.0)))
    model, plain = asked_model(bench, 4), asked_model(bench_of(run, policy=policy), 4)
    ids = policy.backbone.tokenizer.encode("Grass is")
    requests = [
        (("", ""), ids, [token]) for token in range(len(head_weight(policy.backbone.model)))
    ]
    expected, found = (m._loglikelihood_tokens(requests, disable_tqdm=True) for m in (plain, model))
    assert [is_greedy for _, is_greedy in found] == [is_greedy for _, is_greedy in expected]
    assert sum(is_greedy for _, is_greedy in found) == 1
    with pytest.raises(ValueError, match="leave the task out"):
        model.generate_until([])


@needs_package
@pytest.mark.filterwarnings("default")
def test_worked_examples_are_those_of_the_package_wherever_chunks_end(
    tmp_path, monkeypatch
) -> None:
    records = [
        {"passage": f"Part {i}.", "question": f"is it {i}", "label": i % 2} for i in range(6)
    ]
    file = tmp_path / "boolq.jsonl"
    file.write_text("\n".join(map(json.dumps, records)))
    run = run_settings(save_tiny_model(tmp_path, context=512))
    policy = base_policy(run)
    options = HarnessSettings(tasks=(), local={"boolq": str(file)}, few_shot={"boolq": 2})

    def nats(size: int) -> list[float]:
        monkeypatch.setattr("acft.benchmarks.harness.CHUNK_QUESTIONS", size)
        _, measured = finish(SUITES.get("harness").run(options, bench_of(run, policy=policy)))
        return measured["answer_nats/boolq"].sums.tolist()

    at_once = nats(6)
    assert nats(2) == pytest.approx(at_once, rel=1e-4)
    assert nats(6) == pytest.approx(at_once, rel=1e-4), "the next policy has the same examples"


@needs_package
@pytest.mark.filterwarnings("default")
def test_a_seed_may_have_more_bits_than_the_package_takes(tmp_path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text(json.dumps({"question": "Grass is", "choices": ["green", "loud"], "answer": 0}))
    run = run_settings(tiny_model(tmp_path))
    bench = bench_of(run, policy=base_policy(run), seed=2**40)
    options = HarnessSettings(tasks=(), files=(str(file),))
    _, measured = finish(SUITES.get("harness").run(options, bench))
    assert measured["acc/q"].n == 1


@needs_package
@pytest.mark.filterwarnings("default")
def test_no_chunk_asks_pip_or_git_about_the_environment(tmp_path, monkeypatch) -> None:
    class Begun(subprocess.Popen):
        def __init__(self, command: Any, *args: Any, **kwargs: Any) -> None:
            begun.append(command)
            super().__init__(command, *args, **kwargs)

    begun: list[Any] = []
    file = tmp_path / "q.jsonl"
    file.write_text(json.dumps({"question": "Grass is", "choices": ["green", "loud"], "answer": 0}))
    run = run_settings(tiny_model(tmp_path))
    options = HarnessSettings(tasks=(), files=(str(file),))
    monkeypatch.setattr(subprocess, "Popen", Begun)
    finish(SUITES.get("harness").run(options, bench_of(run, policy=base_policy(run))))
    assert begun == []


FORMS = {
    "boolq": (
        {"passage": "Grass grows.", "question": "does grass grow", "label": 1},
        "Grass grows.\nQuestion: does grass grow?\nAnswer:", " yes",
    ),
    "piqa": (
        {"goal": "Dry a cup", "sol1": "use a towel", "sol2": "use water", "label": 0},
        "Question: Dry a cup\nAnswer:", " use a towel",
    ),
    "hellaswag": (
        {"activity_label": "Baking", "ctx_a": "A cook", "ctx_b": "mixes", "label": "1",
         "endings": ["the sky.", "the dough."]},
        "Baking: A cook Mixes", " the dough.",
    ),
    "winogrande": (
        {"sentence": "The cup fell off the shelf since the _ was wet.",
         "option1": "cup", "option2": "shelf", "answer": "2"},
        "The cup fell off the shelf since the shelf", " was wet.",
    ),
    "arc_easy": (
        {"question": "What is warm?", "answerKey": "B",
         "choices": {"text": ["ice", "fire"], "label": ["A", "B"]}},
        "Question: What is warm?\nAnswer:", " fire",
    ),
    "arc_challenge": (
        {"question": "What is cold?", "answerKey": "1",
         "choices": {"text": ["ice", "fire"], "label": ["1", "2"]}},
        "Question: What is cold?\nAnswer:", " ice",
    ),
    "mmlu_anatomy": (
        {"question": "Pumps? ", "choices": ["lung", "heart", "skin", "bone"],
         "answer": 1},
        "The following are multiple choice questions (with answers) about anatomy.\n\n"
        "Pumps?\nA. lung\nB. heart\nC. skin\nD. bone\nAnswer:", " B",
    ),
}  # fmt: skip
"""A record of each data set's form, what the task makes of it, and the right answer."""


@needs_package
@pytest.mark.filterwarnings("default")
def test_the_packages_own_tasks_read_local_files_of_their_data_sets(tmp_path) -> None:
    for name, (record, _, _) in FORMS.items():
        (tmp_path / f"{name}.jsonl").write_text(f"{json.dumps(record)}\n" * 2)
    run = run_settings(tiny_model(tmp_path))
    policy = base_policy(run)
    local = {name: str(tmp_path / f"{name}.jsonl") for name in FORMS}
    options = HarnessSettings(tasks=(), local=local, limit=1)
    assert missing(options) == []
    _, measured = finish(SUITES.get("harness").run(options, bench_of(run, policy=policy)))
    for name, (_, question, answer) in FORMS.items():
        right, other = (
            Rollout("0", "0", text, answer, (), (), (), 0)
            for text in (question, question.replace("the shelf", "the cup"))
        )
        own, wrong = continuation_likelihoods(policy, [right, other])
        if name == "winogrande":  # the same words after two beginnings
            assert measured[f"acc/{name}"].value == (own.nll < wrong.nll)
        else:
            assert measured[f"answer_nats/{name}"].sums == pytest.approx([own.nll], rel=1e-4), name
            assert measured[f"acc/{name}"].value in (0.0, 1.0)


@needs_package
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("name", "what"), [("mmlu", "groups"), ("bolq", "boolq")])
def test_a_name_that_is_no_single_task_is_an_error(tmp_path, name, what) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text("{}\n")
    run = run_settings(tiny_model(tmp_path))
    suite = SUITES.get("harness").run(
        HarnessSettings(tasks=(), local={name: str(file)}), bench_of(run, policy=base_policy(run))
    )
    with pytest.raises(ConfigError, match=what):
        finish(suite)


def test_files_that_are_missing_are_told_before_anything_is_opened(tmp_path) -> None:
    options = HarnessSettings(
        files=(str(tmp_path / "gone.jsonl"),), local={"boolq": "gone.jsonl", "piqa": "x.txt"}
    )
    found = missing(options)
    assert [sentence.rpartition("'")[2] for sentence in found[:3]] == [
        ": no such file", ": must end in .json, .jsonl, .parquet, .csv", ": no such file",
    ]  # fmt: skip


def test_a_text_may_hold_what_ends_lines_elsewhere(tmp_path) -> None:
    file = tmp_path / "questions.jsonl"
    question = {"question": "a\u2028b\u0085c", "choices": ["d\u2029", "e"], "answer": 1}
    lines = [json.dumps(question, ensure_ascii=False)] * 2
    file.write_bytes("\r\n".join([*lines, ""]).encode())
    assert read_questions(str(file)) == [question] * 2
