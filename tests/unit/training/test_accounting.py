"""What runs cost."""

from types import SimpleNamespace

import pytest

from acft.costs import bill, bill_in_words
from acft.eventlog import effective, read_events
from acft.events import Progress, Scalars
from acft.methods.base import METHODS
from acft.scoring import ScoreCache, TextCounts
from acft.settings import RunSettings
from acft.training.accounting import accounted
from acft.training.outputs import Checkpoint, Output, Rows, TrainContext
from tests.fake_scorers import RuleScorer
from tests.tiny_run import tiny_settings, train


def context(**fields) -> TrainContext:
    return TrainContext(RunSettings.model_construct(), **fields)


def costs(output: Output) -> dict[str, float]:
    assert isinstance(output, Scalars)
    return bill([output])


def drawn(purpose: str, n_tokens: int) -> Rows:
    return Rows("rollouts", 1, [{"purpose": purpose, "n_tokens": n_tokens}])


def checkpoint(index: int) -> Checkpoint:
    return Checkpoint(index, index, 0, lambda _: None)


def test_a_round_is_billed_before_it_is_sealed_and_the_rest_at_the_end():
    outputs = [drawn("oracle", 5), checkpoint(1), drawn("test", 7)]
    passed = list(accounted(outputs, context()))
    assert [type(output) for output in passed] == [Rows, Scalars, Checkpoint, Rows, Scalars]
    assert costs(passed[1])["sampled_tokens/training"] == 5
    assert costs(passed[4])["sampled_tokens/measuring"] == 7
    assert "sampled_tokens/training" not in costs(passed[4])


def test_a_resumed_run_that_takes_no_step_is_billed_at_the_step_it_resumed_from():
    (event,) = accounted([], context(resume_round=3, resume_step=12))
    assert isinstance(event, Scalars)
    assert (event.round, event.step) == (3, 12)


def test_epochs_of_the_oracle_are_no_steps_of_the_policy():
    outputs = [Scalars(1, 3, {"policy/ce": 2.0}), Scalars(2, 16, {"oracle/loss_train": 0.1})]
    (*_, last) = accounted(outputs, context())
    assert isinstance(last, Scalars)
    assert last.step == 3


def test_what_is_drawn_to_learn_from_and_to_be_judged_is_kept_apart():
    purposes = ["oracle", "validation", "train", "validation_policy", "test"]
    passed = list(accounted([drawn(purpose, 1) for purpose in purposes], context()))
    spent = costs(passed[-1])
    assert (spent["sampled_tokens/training"], spent["sampled_tokens/measuring"]) == (3, 2)


def test_a_bill_is_one_line_of_what_was_spent():
    costs = {"texts/a": 1000.0, "texts/b": 1.0, "remembered/a": 9.0, "trained_tokens": 12.0}
    assert bill_in_words(costs) == "1,001 texts judged, 12 tokens trained on"
    assert bill_in_words({}) == ""


def test_memory_is_measured_with_every_bill():
    (event,) = accounted([], context())
    assert isinstance(event, Scalars)
    assert event.values["memory/peak_bytes"] > 1e6


def test_time_goes_to_what_was_done_in_it(monkeypatch):
    clock = iter([0, 1, 3, 6, 10, 15, 21])
    ticking = SimpleNamespace(monotonic=lambda: next(clock))
    monkeypatch.setattr("acft.training.accounting.time", ticking)
    outputs = [
        Progress("load", 0, 1, 1),  # 1 second until here
        Progress("load", 1, 1, 1),  # 2, spent on loading
        Progress("fit_policy", 1, 2, 1),  # 3, spent on the step, which nothing announced
        Progress("validate", 0, 4, 1),  # 4, of the step's end
        Progress("validate", 4, 4, 1),  # 5
    ]
    (*_, last) = accounted(outputs, context())  # 6 until the end
    assert costs(last) == {"seconds/loading": 3, "seconds/training": 7, "seconds/measuring": 11}


def test_a_scorer_is_billed_for_new_texts_and_remembered_ones_apart():
    counts = TextCounts()
    cache = ScoreCache(counts=counts)
    cache.score(RuleScorer("judge"), ["a", "b", "a"])
    cache.score(RuleScorer("judge"), ["b", "c"])
    (event,) = accounted([], context(texts=counts))
    assert (costs(event)["texts/judge"], costs(event)["remembered/judge"]) == (3, 2)


def test_leaving_early_ends_the_method():
    ended = []

    def outputs():
        try:
            yield drawn("oracle", 1)
        finally:
            ended.append(True)

    passing = accounted(outputs(), context())
    next(passing)
    passing.close()
    assert ended == [True]


@pytest.mark.parametrize("method", ["acft", "sft", "rl", "dpo", "dpg", "nado_decoding"])
def test_every_method_is_billed_for_what_it_did(tmp_path, monkeypatch, method):
    monkeypatch.setattr(METHODS, "_is_discovered", False)  # other tests know a fake one only
    text = tiny_settings(tmp_path)
    paths, code = train(text, tmp_path / "runs", f'method={{name="{method}"}}')
    assert code == 0
    events = [entry.event for entry in effective(read_events(paths.events))]
    spent = bill(events)
    trained = [e.values.get("policy/tokens", 0) for e in events if isinstance(e, Scalars)]
    assert spent.get("trained_tokens", 0) == sum(trained)
    assert (spent.get("trained_tokens", 0) > 0) == (method != "nado_decoding")
    assert ("sampled_tokens/training" in spent) == (method != "sft")
    assert spent["sampled_tokens/measuring"] > 0
