"""What each kind of constraint says about a response."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acft.constraints import build_constraint
from acft.constraints.base import JUST_ABOVE_HALF
from acft.constraints.scorer import hard_satisfaction, soft_satisfaction
from tests.fake_scorers import RuleScorer

OPEN_FRACTION = st.floats(0, 1, exclude_min=True, exclude_max=True, allow_subnormal=False)


def grades(table, *responses):
    return build_constraint([table], RuleScorer).score([""] * len(responses), responses)


@given(st.floats(0, 1), OPEN_FRACTION)
def test_soft_and_hard_satisfaction_agree_on_the_verdict(score, threshold):
    soft = soft_satisfaction(score, threshold)
    assert 0 <= soft <= 1
    assert (soft > 0.5) == (hard_satisfaction(score, threshold) > 0.5) == (score < threshold)
    assert (np.float32(soft) > 0.5) == (soft > 0.5)  # oracles learn from float32


@given(OPEN_FRACTION)
def test_the_verdict_changes_exactly_at_the_threshold(threshold):
    assert soft_satisfaction(math.nextafter(threshold, 0), threshold) > 0.5
    assert soft_satisfaction(threshold, threshold) == 0.5


@given(st.floats(0, 1))
def test_with_threshold_one_half_soft_satisfaction_is_one_minus_the_score(score):
    assert soft_satisfaction(score, 0.5) == pytest.approx(1 - score, abs=1e-15)


@given(st.floats(0, 1), st.floats(0, 1), OPEN_FRACTION)
def test_soft_satisfaction_never_rises_with_the_score(a, b, threshold):
    low, high = sorted((a, b))
    assert soft_satisfaction(low, threshold) >= soft_satisfaction(high, threshold)


@pytest.mark.parametrize(("score", "expected"), [(0.0, 1.0), (0.4, 0.75), (0.9, 0.25), (1.0, 0.0)])
def test_soft_satisfaction_is_linear_on_both_sides_of_the_threshold(score, expected):
    assert soft_satisfaction(score, 0.8) == pytest.approx(expected)


def test_the_response_is_scored_and_the_prompt_is_not():
    constraint = build_constraint([{"kind": "scorer", "scorer": "jigsaw_tcc"}], RuleScorer)
    assert constraint.score(["xxxx", "a"], ["a", "xxxx"]) == [1.0, 0.0]


def test_forbidden_words_are_found_whole_whatever_their_case_and_spacing():
    table = {"kind": "forbidden_words", "words": ["red", "dark blue"]}
    assert grades(table, "redder hatred", "a Red, hat", "DARK\n blue") == [1.0, 0.0, 0.0]


def test_words_with_signs_are_no_patterns():
    table = {"kind": "forbidden_words", "words": ["a.b", "c++"]}
    assert grades(table, "axb c", "use a.b now", "in C++.") == [1.0, 0.0, 0.0]


def test_required_words_are_graded_by_how_many_occur():
    table = {"kind": "required_words", "words": ["red", "hat"]}
    assert grades(table, "a hat, red", "a hat", "nothing") == [1.0, 0.25, 0.0]


def test_a_pattern_must_or_must_not_occur():
    assert grades({"kind": "pattern", "pattern": "^no"}, "NO way", "oh no") == [1.0, 0.0]
    table = {"kind": "pattern", "pattern": "^no", "must": "not_occur", "ignore_case": False}
    assert grades(table, "NO way", "no way") == [1.0, 0.0]


def test_length_is_graded_by_how_far_it_is_off():
    table = {"kind": "length", "minimum": 2, "maximum": 4}
    responses = ["", "one", "one two", "a b c d", "a b c d e", "a " * 8]
    assert grades(table, *responses) == [0.0, 0.25, 1.0, 1.0, pytest.approx(0.4), 0.25]


def test_length_can_be_in_characters():
    table = {"kind": "length", "maximum": 4, "unit": "characters"}
    assert grades(table, "four", "a b c") == [1.0, pytest.approx(0.4)]


SCORE = {"kind": "scorer", "scorer": "jigsaw_tcc"}
SHORT = {"kind": "length", "maximum": 1}


def test_all_of_is_the_smallest_and_any_of_the_largest():
    for kind, expected in [("all_of", [0.25, 0.75]), ("any_of", [0.5, 1.0])]:
        table = {"kind": kind, "constraints": [SCORE, SHORT]}
        assert grades(table, "xx a", "xaaa") == [pytest.approx(x, abs=1e-15) for x in expected]


def test_not_turns_exactly_one_half_into_satisfied():
    table = {"kind": "not", "constraint": SCORE}
    found = grades(table, "xa", "aaaa", "xxxx")
    assert found == [JUST_ABOVE_HALF, 0.0, 1.0]
    assert (np.array(found, np.float32) > 0.5).tolist() == [True, False, True]


def test_not_not_has_the_same_verdicts():
    table = {"kind": "not", "constraint": {"kind": "not", "constraint": SCORE}}
    assert [grade > 0.5 for grade in grades(table, "xa", "aaaa", "xxxx")] == [False, True, False]
