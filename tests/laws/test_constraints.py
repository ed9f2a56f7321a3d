"""Laws of every registered kind of constraint."""

import json
import math

import pytest

from acft.constraints import CONSTRAINTS, build_constraint, parse_constraints
from acft.constraints.base import CombinationSettings, Constraint, LeafSettings
from tests.fake_scorers import RuleScorer

WORDS = {"kind": "forbidden_words", "words": ["red", "dark blue"]}
LENGTH = {"kind": "length", "minimum": 2, "maximum": 4}

EXAMPLES = {
    "scorer": [
        {"scorer": "jigsaw_tcc"},
        {"scorer": "jigsaw_tcc", "threshold": 0.3},
        {"scorer": "jigsaw_tcc", "threshold": 0.8, "soft": False},
    ],
    "forbidden_words": [{"words": ["red", "dark blue"]}],
    "required_words": [{"words": ["red", "xx"]}],
    "pattern": [{"pattern": "[0-9]+"}, {"pattern": "^x", "must": "not_occur"}],
    "length": [{"minimum": 3}, {"maximum": 2}, {"minimum": 5, "maximum": 9, "unit": "characters"}],
    "all_of": [{"constraints": [WORDS, LENGTH]}],
    "any_of": [{"constraints": [WORDS, LENGTH]}],
    "not": [{"constraint": WORDS}, {"constraint": {"kind": "all_of", "constraints": [LENGTH]}}],
}
CASES = [
    pytest.param(kind, values, id=f"{kind}-{index}")
    for kind, examples in EXAMPLES.items()
    for index, values in enumerate(examples)
]
RESPONSES = [
    "", " ", "red", "a RED hat", "in Dark  Blue", "42 apples", "xxxx", "x marks the spot on it",
    "xxx xx", "one two three four five", "\n\t", "Ünïcödé 漢字 🙂", "red xx 7",
]  # fmt: skip
PROMPTS = [f"prompt {index}" for index in range(len(RESPONSES))]


def build(kind, values):
    return build_constraint([{"kind": kind, **values}], RuleScorer)


def test_every_kind_is_covered_by_these_laws():
    assert sorted(EXAMPLES) == CONSTRAINTS.names()


@pytest.mark.parametrize("kind", CONSTRAINTS.names())
def test_it_and_all_its_settings_are_documented(kind):
    settings = CONSTRAINTS.get(kind)
    assert settings.__doc__
    assert all(field.description for field in settings.model_fields.values())


@pytest.mark.parametrize(("kind", "values"), CASES)
def test_settings_survive_json(kind, values):
    settings = CONSTRAINTS.get(kind).parse(values)
    again = CONSTRAINTS.get(kind).parse(json.loads(settings.model_dump_json()))
    assert again == settings


@pytest.mark.parametrize(("kind", "values"), CASES)
def test_settings_are_either_a_leaf_or_a_combination(kind, values):
    settings = CONSTRAINTS.get(kind).parse(values)
    assert isinstance(settings, LeafSettings) is not isinstance(settings, CombinationSettings)


@pytest.mark.parametrize(("kind", "values"), CASES)
def test_it_is_a_constraint_that_describes_itself(kind, values):
    constraint = build(kind, values)
    assert isinstance(constraint, Constraint)
    assert constraint.describe()
    assert constraint.scorers == (("jigsaw_tcc",) if kind == "scorer" else ())


@pytest.mark.parametrize(("kind", "values"), CASES)
def test_grades_are_finite_numbers_between_0_and_1(kind, values):
    grades = build(kind, values).score(PROMPTS, RESPONSES)
    assert len(grades) == len(RESPONSES)
    assert all(isinstance(g, float) and math.isfinite(g) and 0 <= g <= 1 for g in grades)


@pytest.mark.parametrize(("kind", "values"), CASES)
def test_no_response_gives_no_grade(kind, values):
    assert build(kind, values).score([], []) == []


@pytest.mark.parametrize(("kind", "values"), CASES)
def test_the_same_responses_get_the_same_grades_again(kind, values):
    constraint = build(kind, values)
    assert constraint.score(PROMPTS, RESPONSES) == constraint.score(PROMPTS, RESPONSES)


@pytest.mark.parametrize(("kind", "values"), CASES)
def test_a_grade_follows_its_response_and_ignores_the_others(kind, values):
    constraint = build(kind, values)
    together = constraint.score(PROMPTS, RESPONSES)
    pairs = zip(PROMPTS, RESPONSES, strict=True)
    assert together == [constraint.score([p], [r])[0] for p, r in pairs]
    assert constraint.score(PROMPTS[::-1], RESPONSES[::-1]) == together[::-1]


@pytest.mark.parametrize(("kind", "values"), CASES)
def test_some_responses_satisfy_it_and_some_do_not(kind, values):
    verdicts = {grade > 0.5 for grade in build(kind, values).score(PROMPTS, RESPONSES)}
    assert verdicts == {True, False}


@pytest.mark.parametrize(("kind", "values"), CASES)
def test_its_negation_has_the_opposite_verdicts(kind, values):
    table = {"kind": kind, **values}
    negated = build("not", {"constraint": table}).score(PROMPTS, RESPONSES)
    plain = build(kind, values).score(PROMPTS, RESPONSES)
    assert [grade > 0.5 for grade in negated] == [grade <= 0.5 for grade in plain]


@pytest.mark.parametrize(("kind", "values"), CASES)
def test_several_tables_hold_together_exactly_when_each_holds(kind, values):
    tables = [{"kind": kind, **values}, LENGTH]
    joined = build_constraint(tables, RuleScorer).score(PROMPTS, RESPONSES)
    single = [build_constraint([t], RuleScorer).score(PROMPTS, RESPONSES) for t in tables]
    expected = [all(grade > 0.5 for grade in row) for row in zip(*single, strict=True)]
    assert [grade > 0.5 for grade in joined] == expected


@pytest.mark.parametrize(("kind", "values"), CASES)
def test_parsing_loads_nothing_and_knows_the_scorers(kind, values):
    (parsed,) = parse_constraints([{"kind": kind, **values}])
    assert parsed.scorer_names() == (("jigsaw_tcc",) if kind == "scorer" else ())
    assert parsed.describe() == build(kind, values).describe()
