import dataclasses
import math

import pytest
import torch

from acft.errors import DataError
from acft.metrics.base import METRICS
from acft.metrics.degenerate_share import is_degenerate
from acft.totals import interval
from tests.fake_responses import response, with_scores, with_texts


def value(name: str, responses: list, scorer: str = "judge") -> float | None:
    return METRICS.get(name).totals(responses, scorer).value


TWO_PROMPTS = with_scores(mild=[0.1, 0.2, 0.3], rough=[0.5, 0.9, 0.1])


def test_toxicity_metrics_of_a_case_worked_by_hand() -> None:
    assert value("toxic_share", TWO_PROMPTS) == pytest.approx(2 / 6)
    assert value("expected_max_toxicity", TWO_PROMPTS) == pytest.approx((0.3 + 0.9) / 2)
    assert value("toxicity_probability", TWO_PROMPTS) == pytest.approx(1 / 2)
    assert value("mean_toxicity", TWO_PROMPTS) == pytest.approx(2.1 / 6)


def test_a_score_of_exactly_one_half_counts_as_toxic() -> None:
    assert value("toxic_share", with_scores(a=[0.5])) == 1
    assert value("toxic_share", with_scores(a=[0.4999])) == 0


def test_sample_size_counts_prompts_not_responses() -> None:
    assert METRICS.get("toxic_share").totals(TWO_PROMPTS, "judge").n == 2


def test_standard_error_is_clustered_by_prompt() -> None:
    # four prompts with shares 1, 0, 1, 0 of 25 equal continuations: only 4 independent values
    responses = with_scores(a=[1] * 25, b=[0] * 25, c=[1] * 25, d=[0] * 25)
    found = interval(METRICS.get("toxic_share").totals(responses, "judge")).stderr
    assert found == pytest.approx(0.5 / 2, rel=0.05)


def test_a_missing_score_is_an_error_that_names_response_and_scorer() -> None:
    with pytest.raises(DataError, match=r"'toxic_share'.*'other'.*'a-0'.*judge"):
        value("toxic_share", with_scores(a=[0.1]), "other")


def test_distinct_n_is_different_ngrams_over_all_words() -> None:
    responses = with_texts(p=["a b a b", "a c"], q=["x y"])
    # p: words a b c of 6; pairs ab ba ac of 6; triples aba bab of 6 words. q: 2/2, 1/2, 0/2
    assert value("distinct_1", responses) == pytest.approx((3 / 6 + 1) / 2)
    assert value("distinct_2", responses) == pytest.approx((3 / 6 + 1 / 2) / 2)
    assert value("distinct_3", responses) == pytest.approx((2 / 6 + 0) / 2)


def test_prompts_without_any_word_do_not_count_as_diverse_or_dull() -> None:
    assert value("distinct_1", with_texts(p=["a b"], q=["", " "])) == 1
    assert value("distinct_1", with_texts(p=[""])) is None


def test_repetition_is_the_share_of_repeated_4_grams() -> None:
    # "a b a b a b": 4-grams abab, baba, abab: one of three repeats
    assert value("repetition", with_texts(p=["a b a b a b"])) == pytest.approx(1 / 3)
    assert value("repetition", with_texts(p=["a b c d e"])) == 0
    assert value("repetition", with_texts(p=["a b c"])) is None


def test_empty_texts_are_counted() -> None:
    assert value("empty_share", with_texts(p=["", " \n", "a", "b"])) == pytest.approx(0.5)


def test_length_is_the_mean_number_of_tokens() -> None:
    assert value("length_tokens", with_texts(p=["a b", "a b c d"])) == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("he said he said he said", True),
        ("it was so so so so so so", True),
        ("very very very good", False),
        ("!!! ...", True),
        ("one two three four five six seven", False),
        ("你好", False),
    ],
)
def test_loops_and_bare_punctuation_are_degenerate(text, expected) -> None:
    assert is_degenerate(text) is expected


def test_empty_responses_are_not_also_degenerate() -> None:
    assert value("degenerate_share", with_texts(p=["", "..."])) == 1
    assert value("degenerate_share", with_texts(p=[""])) is None


def test_satisfaction_leaves_out_responses_nobody_judged() -> None:
    judged = [response("p", satisfaction=0.5), response("p", satisfaction=float("nan"))]
    assert value("satisfaction", judged) == 0.5
    assert value("satisfaction", judged[1:]) is None


@pytest.mark.parametrize(
    "given", [0.5, (0.5,), (1.0, 2.0, 3.0), (math.nan, 1.0), (1.0, -1.0), None, ("a", 1.0)]
)
def test_what_is_no_sum_and_count_names_the_metric_and_the_prompt(given) -> None:
    own = dataclasses.replace(METRICS.get("distinct_1"), name="own", of_prompt=lambda *_: given)
    with pytest.raises(DataError, match=r"metric 'own' gave .* 3 responses to prompt 'mild'"):
        own.totals(TWO_PROMPTS)


def test_a_metric_that_fails_is_named_with_prompt_error_and_line() -> None:
    own = dataclasses.replace(METRICS.get("distinct_1"), name="own", of_prompt=lambda *_: 1 / 0)
    told = (
        r"metric 'own' failed on the 3 responses to prompt 'mild': ZeroDivisionError: division by "
        r"zero \(.*test_metrics\.py, line \d+\)"
    )
    with pytest.raises(DataError, match=told):
        own.totals(TWO_PROMPTS)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("full")])
def test_a_metric_that_runs_out_of_memory_is_left_to_who_has_advice(error) -> None:
    def greedy(*_):
        raise error

    own = dataclasses.replace(METRICS.get("distinct_1"), name="own", of_prompt=greedy)
    with pytest.raises(type(error)):
        own.totals(TWO_PROMPTS)
