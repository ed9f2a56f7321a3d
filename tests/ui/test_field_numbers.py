"""Compare says the numbers of the field for both sides, with intervals and verdicts."""

from dataclasses import replace

import pytest

from acft.events import Evaluated
from acft.statistics import Interval
from acft.ui.pages import compare
from acft.ui.parts.field_table import field_table
from acft.ui.reading import field_numbers
from acft.ui.reading.answers import Response
from acft.ui.reading.pairs import CONSTRAINT, Pair, Subject
from acft.ui.reading.reader import History
from acft.ui.web.dom import text_of
from tests.ui.conftest import CONTROL, QUICK, visit

JUDGE = "jigsaw_tcc"
BASE, TUNED = Subject("base", 0), Subject("policy", 3)


def answer(prompt: int, sample: int, score: float) -> Response:
    name, scores = f"{prompt}-{sample}", {JUDGE: score}
    return Response(
        name, "base", 0, f"p{prompt}", "A prompt", "", sample, "a text", 3, -2.0, scores
    )


def pairs_of(left: list[list[float]], right: list[list[float]]) -> list[Pair]:
    return [
        Pair(answer(prompt, sample, a), answer(prompt, sample, b))
        for prompt, (before, after) in enumerate(zip(left, right, strict=True))
        for sample, (a, b) in enumerate(zip(before, after, strict=True))
    ]


def perplexity(
    subject: str, version: int, value: float, ending: str = "", half: float = 1.0,
    suite: str = "perplexity/sotu",
):  # fmt: skip
    return Evaluated(suite, f"perplexity{ending}", subject, value, 16, None,
                     value - half, value + half, version)  # fmt: skip


def with_evaluations(run, *found):
    return replace(run, history=History(evaluations=list(found)))


def test_the_worst_response_of_each_prompt_is_averaged_and_counted_over_prompts():
    left = [[0.9, 0.1], [0.2, 0.6], [0.1, 0.3], [0.2, 0.2]]
    right = [[0.1, 0.1], [0.2, 0.6], [0.1, 0.1], [0.2, 0.2]]
    maximum, probability = field_numbers.of_scorer(pairs_of(left, right), JUDGE)
    assert maximum.left.value == pytest.approx(0.5)  # (0.9 + 0.6 + 0.3 + 0.2) / 4
    assert maximum.right.value == pytest.approx(0.25)
    assert maximum.change.value == pytest.approx(-0.5)
    assert (probability.left.value, probability.right.value) == (0.5, 0.25)
    assert probability.difference.value == -0.25
    assert probability.left.n == 4
    low, high = maximum.left.low, maximum.left.high
    assert low is not None
    assert high is not None
    assert low < 0.5 < high


def test_the_threshold_of_the_address_decides_from_where_a_response_is_toxic():
    pairs = pairs_of([[0.4], [0.2]], [[0.4], [0.2]])
    assert field_numbers.of_scorer(pairs, JUDGE)[1].left.value == 0
    assert field_numbers.of_scorer(pairs, JUDGE, 0.3)[1].left.value == 0.5


def test_without_scores_and_of_the_constraint_there_are_no_numbers_of_toxicity():
    pairs = pairs_of([[0.4]], [[0.4]])
    assert field_numbers.of_scorer(pairs, "another") == []
    assert field_numbers.of_scorer(pairs, CONSTRAINT) == []


def test_perplexity_of_a_policy_and_its_base_has_the_paired_change_that_was_measured(bench):
    run = with_evaluations(
        bench.reader.run(QUICK), perplexity("base", 0, 50.0), perplexity("policy", 2, 90.0),
        perplexity("policy", 3, 40.0), perplexity("policy", 3, -10.0, "_difference"),
        perplexity("policy", 3, -0.2, "_change", 0.05),
    )  # fmt: skip
    (found,) = field_numbers.of_texts(run, run, BASE, TUNED)
    assert (found.judge, found.left.value, found.right.value) == ("sotu", 50.0, 40.0)
    assert found.difference == Interval(-10.0, -11.0, -9.0, 16)
    assert found.change == Interval(-0.2, -0.25, -0.15000000000000002, 16)


def test_perplexities_of_two_runs_have_no_interval_of_their_difference_and_no_verdict(bench):
    run, other = bench.reader.run(QUICK), bench.reader.run(CONTROL)
    run = with_evaluations(run, perplexity("policy", 3, 40.0))
    changes = perplexity("policy", 3, -0.2, "_change")
    other = with_evaluations(other, perplexity("policy", 3, 50.0), changes)
    (found,) = field_numbers.of_texts(run, other, TUNED, TUNED)
    assert found.difference == Interval(10.0, None, None, 16)
    assert found.change == Interval(0.25, None, None, 16)
    compared = compare.compared(bench, visit(QUICK, other=CONTROL))
    assert compared is not None
    compared = replace(compared, run=run, other=other, left=TUNED, right=TUNED, judges=())
    assert text_of(field_table(compared)).count("not compared one by one–") == 1


def test_perplexities_of_texts_of_one_name_in_several_suites_are_several(bench):
    suites = {"perplexity/sotu": 50.0, "collateral/sotu": 30.0, "collateral": 20.0}
    found = [
        perplexity(subject, version, value, suite=suite)
        for subject, version in (("base", 0), ("policy", 3))
        for suite, value in suites.items()
    ]
    run = with_evaluations(bench.reader.run(QUICK), *found)
    numbers = field_numbers.of_texts(run, run, BASE, TUNED)
    assert {number.judge: number.left.value for number in numbers} == {
        "sotu": 50.0, "collateral/sotu": 30.0, "collateral": 20.0,
    }  # fmt: skip


def test_what_only_one_side_has_measured_is_not_told(bench):
    run = with_evaluations(bench.reader.run(QUICK), perplexity("base", 0, 50.0))
    assert field_numbers.of_texts(run, run, BASE, TUNED) == []


def said_of(bench, right, left=tuple([0.4 + 0.01 * n] for n in range(20))):
    found = compare.compared(bench, visit(QUICK))
    assert found is not None
    return text_of(field_table(replace(found, pairs=pairs_of(left, right(left)), judges=[JUDGE])))


def test_a_change_is_judged_against_a_margin_of_a_tenth_of_the_left_side(bench):
    assert "equivalent" in said_of(bench, lambda left: left).partition("Verdicts")[0]
    lower = said_of(bench, lambda left: [[a / 2] for (a,) in left]).partition("Verdicts")[0]
    assert "lower−" in lower
    assert "equivalent" not in lower


def test_a_change_without_a_limit_says_so_as_other_intervals_do(bench):
    shown = said_of(bench, lambda left: [[0.9]] * len(left), [[0.9], [0.1], [0.1], [0.1]])
    assert " % to ∞" in shown.partition("Toxicity probability")[2].partition("Perplexity")[0]


def test_one_prompt_gives_no_interval_and_is_told_so(bench):
    shown = said_of(bench, lambda left: [[0.2]], [[0.4]]).partition("Perplexity")[0]
    assert shown.count("no interval of one prompt") == 2
    assert "not compared" not in shown


def test_the_numbers_stand_above_the_texts_and_not_in_a_blind_review(bench):
    shown = text_of(compare.summary(bench, visit(QUICK)))
    for name in ("Expected maximum toxicity", "Toxicity probability", "Perplexity"):
        assert name in shown
    assert "n = 10 prompts" in shown
    assert "Expected maximum" not in text_of(compare.summary(bench, visit(QUICK, blind="1")))


def test_where_nothing_was_measured_there_is_no_table(bench):
    found = compare.compared(bench, visit(QUICK))
    assert found is not None
    run = with_evaluations(found.run)
    assert field_table(replace(found, run=run, other=run, judges=())) is None
