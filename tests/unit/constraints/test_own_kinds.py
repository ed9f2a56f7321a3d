"""Whoever adds a kind of constraint is told which one is wrong, and how, and where."""

import math
from typing import Any

import pytest

from acft.config import Config
from acft.constraints import CONSTRAINTS, build_constraint, parse_constraints
from acft.errors import ConfigError, ModelError
from tests.fake_scorers import RuleScorer


class Own(Config):
    """Answers whatever it is told to."""

    def scorer_names(self):
        return ()

    def describe(self):
        return "my own"

    def grader(self, _get_scorer):
        return lambda _prompts, responses: ANSWERS[0](responses)


class Half(Config):
    """Has no judgement."""

    def describe(self):
        return "half"


ANSWERS: list[Any] = []


def register(monkeypatch, **kinds):
    for name, kind in kinds.items():
        monkeypatch.setitem(CONSTRAINTS._items, name, kind)


def divide(_responses):
    return [1 / 0]


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "inside another"])
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda _: [math.nan, 1.0], "gave nan among others, 1 of 2 values are not in"),
        (lambda _: [1.5, 1.0], "gave 1.5 among others"),
        (lambda _: [1.0], "gave 1 values for 2 texts"),
        (lambda _: ["yes", "no"], "failed on 2 texts: TypeError: must be real number"),
        (lambda _: None, "failed on 2 texts: TypeError"),
        (divide, r"failed on 2 texts: ZeroDivisionError: .*test_own_kinds.py, line"),
    ],
)
def test_a_wrong_answer_names_the_kind(monkeypatch, answer, message, inside):
    register(monkeypatch, own=Own)
    monkeypatch.setattr("tests.unit.constraints.test_own_kinds.ANSWERS", [answer])
    table: dict[str, Any] = {"kind": "own"}
    built = build_constraint(
        [{"kind": "not", "constraint": table} if inside else table], RuleScorer
    )
    with pytest.raises(ModelError, match=f"^constraint 'own' {message}"):
        built.score(["p", "p"], ["a", "b"])


def test_truth_values_count_as_grades(monkeypatch):
    register(monkeypatch, own=Own)
    monkeypatch.setattr(
        "tests.unit.constraints.test_own_kinds.ANSWERS", [lambda texts: [t == "a" for t in texts]]
    )
    grades = build_constraint([{"kind": "own"}], RuleScorer).score(["p", "p"], ["a", "b"])
    assert [(type(grade), grade) for grade in grades] == [(float, 1.0), (float, 0.0)]


@pytest.mark.parametrize("kind", [Half, int])
def test_a_class_that_lacks_a_method_is_a_problem_of_the_settings(monkeypatch, kind):
    register(monkeypatch, half=kind)
    with pytest.raises(
        ConfigError, match=rf"'half'.*{kind.__name__} must be a Config with .*grader"
    ):
        parse_constraints([{"kind": "half"}])
