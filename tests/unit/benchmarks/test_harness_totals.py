import importlib.util
import json
import math
from typing import Any

import pytest

from acft.benchmarks.base import SUITES
from acft.benchmarks.harness import HarnessSettings
from acft.benchmarks.harness_totals import left_out, totals_of
from acft.evaluation import is_share
from acft.events import Note
from acft.policy import base_policy
from tests.bench import bench_of, finish, run_settings, tiny_model

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not installed"
)


def test_totals_keep_each_question_and_the_nats_of_its_answer() -> None:
    rows = [
        {"doc_id": 0, "target": 1, "filtered_resps": [(-5.0, False), (-2.0, True)],
         "metrics": ["acc"], "acc": 1.0},
        {"doc_id": 1, "target": "0", "filtered_resps": [(-4.0, False), (-3.0, False)],
         "metrics": ["acc"], "acc": 0.0},
    ]  # fmt: skip
    found = totals_of({"part": rows}, "task")
    assert found["acc/task"].value == 0.5
    assert found["answer_nats/task"].value == 3.0
    assert found["acc/task"].groups == ("part:0", "part:1")


def test_tasks_that_are_not_multiple_choice_have_no_nats() -> None:
    row = {"doc_id": 0, "target": "Paris", "filtered_resps": ["Paris"],
           "metrics": ["exact_match"], "exact_match": 1.0}  # fmt: skip
    assert list(totals_of({"t": [row]}, "t")) == ["exact_match/t"]


def rows(metric: str, *values: Any, read: str = "none") -> list[dict[str, Any]]:
    return [
        {"doc_id": i, "filter": read, "metrics": [metric], metric: value}
        for i, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("aggregation", "values", "expected"),
    [
        ("perplexity", [-1.0, -3.0], math.exp(2.0)),
        ("weighted_perplexity", [(-1.0, 2), (-5.0, 10)], math.exp(6 / 12)),
        ("bits_per_byte", [(-math.log(2), 2), (-math.log(8), 2)], 1.0),
        ("nanmean", [1.0, math.nan, 0.0], 0.5),
    ],
)
def test_a_metric_is_made_of_questions_as_the_package_makes_it(aggregation, values, expected):
    known = {"t": {"m": aggregation}}
    assert totals_of({"t": rows("m", *values)}, "t", known)["m/t"].value == pytest.approx(expected)
    assert left_out({"t": rows("m", *values)}, known) == []


@pytest.mark.parametrize(("aggregation", "value"), [("", 1.0), ("mean", [1.0, 0.0]), ("", (0, 1))])
def test_a_metric_that_is_no_mean_of_numbers_is_left_out_and_named(aggregation, value) -> None:
    samples = {"t": [*rows("acc", 1.0), *rows("mcc", value)]}
    known = {"t": {"mcc": aggregation}}
    assert list(totals_of(samples, "t", known)) == ["acc/t"]
    assert left_out(samples, known) == ["mcc"]


def test_each_filter_of_a_task_that_has_several_is_a_quantity() -> None:
    samples = {
        "t": [*rows("exact_match", 0.0, 1.0, read="strict-match"),
              *rows("exact_match", 1.0, 1.0, read="maj@8")],
    }  # fmt: skip
    found = totals_of(samples, "t")
    assert {name: totals.sums.tolist() for name, totals in found.items()} == {
        "exact_match_strict-match/t": [0.0, 1.0], "exact_match_maj_at_8/t": [1.0, 1.0],
    }  # fmt: skip
    assert all(map(is_share, found))


RECORDS = {
    "lambada_openai": [{"text": "the sun rose over the hill"}, {"text": "rain fell on the sea"}],
    "wikitext": [{"page": "The sun rose over the hill."}, {"page": "Rain fell."}],
    "cola": [{"sentence": "The sun rose.", "label": 1, "idx": 0},
             {"sentence": "Sun the.", "label": 0, "idx": 1}],
    "gsm8k": [{"question": "2 + 2?", "answer": "so #### 4"},
              {"question": "2 + 3?", "answer": "so #### 5"}],
}  # fmt: skip
"""Records of tasks that are scored by other means than one mean over questions."""


@needs_package
@pytest.mark.filterwarnings("default")
def test_numbers_are_those_that_the_package_itself_reports(tmp_path, monkeypatch) -> None:
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    reported: dict[str, float] = {}
    asked = lm_eval.evaluate

    def evaluate(*args: Any, **kwargs: Any) -> Any:
        results: Any = asked(*args, **kwargs)
        for task, metrics in results["results"].items():
            for key, value in metrics.items():
                metric, _, read = key.partition(",")
                if read and not metric.endswith("_stderr"):
                    reported[f"{metric}{'' if read == 'none' else f'_{read}'}/{task}"] = value
        return results

    monkeypatch.setattr(lm_eval, "evaluate", evaluate)
    monkeypatch.setattr(HFLM, "generate_until", lambda self, asked: ["It is 4."] * len(asked))
    for name, records in RECORDS.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, records)))
    local = {name: str(tmp_path / f"{name}.jsonl") for name in RECORDS}
    run = run_settings(tiny_model(tmp_path))
    suite = SUITES.get("harness").run(
        HarnessSettings(tasks=(), local=local), bench_of(run, policy=base_policy(run))
    )
    yielded, measured = finish(suite)
    del reported["mcc/cola"]
    assert {name: measured[name].value for name in reported} == pytest.approx(reported)
    assert set(measured) == {*reported, "answer_nats/cola"}
    assert reported["exact_match_flexible-extract/gsm8k"] == 0.5
    assert reported["exact_match_strict-match/gsm8k"] == 0.0
    (note,) = [event for event in yielded if isinstance(event, Note)]
    assert note.text.startswith("no mcc of cola")
