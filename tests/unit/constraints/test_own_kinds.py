"""Whoever adds a kind of constraint is told which one is wrong, and how, and where."""

import math
from typing import Any

import pytest

from acft.config import Config
from acft.constraints import CONSTRAINTS, build_constraint, parse_constraints
from acft.errors import ConfigError, ConstraintError, ModelError
from acft.scoring import CachedScorer, ScoreCache
from tests.fake_scorers import AnswerScorer, RuleScorer


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
        (lambda _: [1.0], "gave 1 values for 2 texts; it must give a list of 2 numbers"),
        (lambda _: ["yes", "no"], "failed on 2 texts: TypeError: must be real number"),
        (lambda _: None, "gave None for 2 texts; it must give a list of 2 numbers"),
        (divide, "failed on 2 texts: ZeroDivisionError: "),
    ],
)
def test_a_wrong_answer_names_the_kind(monkeypatch, answer, message, inside):
    register(monkeypatch, own=Own)
    monkeypatch.setattr("tests.unit.constraints.test_own_kinds.ANSWERS", [answer])
    table: dict[str, Any] = {"kind": "own"}
    built = build_constraint(
        [{"kind": "not", "constraint": table} if inside else table], RuleScorer
    )
    with pytest.raises(ConstraintError, match=rf"^constraint 'own' {message}.*own_kinds.py, line"):
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


def test_a_judgement_that_is_not_returned_is_told_with_its_place(monkeypatch):
    class Forgetful(Own):
        def grader(self, _get_scorer) -> Any:
            def judge(_prompts, responses):
                return [1.0 for _ in responses]

    register(monkeypatch, own=Forgetful)
    line = Forgetful.grader.__code__.co_firstlineno
    with pytest.raises(
        ConstraintError,
        match=rf"^grader of constraint 'own' gave None; it must return .*own_kinds.py, line {line}",
    ):
        build_constraint([{"kind": "own"}], RuleScorer)


def test_a_scorer_that_fails_inside_a_constraint_is_not_laid_to_the_constraint(monkeypatch):
    class Asking(Own):
        def grader(self, get_scorer):
            return lambda _prompts, responses: get_scorer("rule").score(responses)

    register(monkeypatch, own=Asking)
    failing = CachedScorer(AnswerScorer(answer=RuntimeError("no luck")), ScoreCache())
    built = build_constraint([{"kind": "own"}], lambda _: failing)
    with pytest.raises(ModelError, match=r"^scorer 'rule' failed") as caught:
        built.score(["p"], ["a"])
    assert not isinstance(caught.value, ConstraintError)


def fail(*_):
    raise KeyError("tone")


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "inside another"])
@pytest.mark.parametrize(
    ("name", "answer", "message"),
    [
        ("scorer_names", lambda _: None, "gave None; it must give a tuple of names"),
        ("scorer_names", lambda _: "jigsaw_tcc", "gave 'jigsaw_tcc'; it must give a tuple of"),
        ("scorer_names", lambda _: ("jigsaw_tc",), "unknown scorer 'jigsaw_tc'; did you mean"),
        ("scorer_names", lambda _: (3,), "unknown scorer '3'"),
        ("scorer_names", fail, "failed: KeyError: 'tone'"),
        ("describe", lambda _: None, "gave None; it must give a text"),
        ("describe", fail, "failed: KeyError: 'tone'"),
    ],
)
def test_words_and_names_that_nobody_can_use_are_a_problem_of_the_settings(
    monkeypatch, name, answer, message, inside
):
    register(monkeypatch, own=type("Wrong", (Own,), {name: answer}))
    table: dict[str, Any] = {"kind": "own"}
    with pytest.raises(ConfigError) as caught:
        parse_constraints([{"kind": "not", "constraint": table} if inside else table])
    (told,) = str(caught.value).splitlines()
    place = "[constraint.0.constraint]" if inside else "[constraint.0]"
    assert told.startswith(f"{place} {name} of constraint 'own'")
    assert message in told
    assert "test_own_kinds.py, line " in told


def test_words_that_a_combination_lacks_are_a_problem_of_the_settings(monkeypatch):
    class Silent(CONSTRAINTS.get("all_of")):
        def describe_parts(self, parts):
            parts.clear()

    register(monkeypatch, own=Own, silent=Silent)
    with pytest.raises(
        ConfigError, match=r"^\[constraint.0\] describe_parts of constraint 'silent' gave None"
    ):
        parse_constraints([{"kind": "silent", "constraints": [{"kind": "own"}]}])
