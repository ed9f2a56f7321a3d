import pytest

from acft.constraints import build_constraint, parse_constraints
from acft.constraints.base import MAX_DEPTH
from acft.errors import ConfigError, ModelError
from tests.fake_scorers import RuleScorer

SHORT = {"kind": "length", "maximum": 3}


def problems_of(*tables):
    with pytest.raises(ConfigError) as caught:
        parse_constraints(tables)
    return str(caught.value).splitlines()


def test_all_problems_of_all_tables_are_reported_at_once():
    problems = problems_of(
        {"kind": "scorer", "scorer": "jigsaw_tc", "threshold": 3},
        {"kind": "lenght"},
        {"words": ["red"]},
        {"kind": "any_of", "constraints": [{"kind": "pattern", "pattern": "(a"}, SHORT]},
    )
    places = [problem.partition("]")[0] for problem in problems]
    assert places == [
        "[constraint.0", "[constraint.0", "[constraint.1", "[constraint.2",
        "[constraint.3.constraints.0",
    ]  # fmt: skip
    assert "did you mean 'jigsaw_tcc'" in problems[0]
    assert "threshold = 3: should be less than 1" in problems[1]
    assert "kind = 'lenght': unknown constraint 'lenght'; did you mean 'length'?" in problems[2]
    assert "kind = None: not a kind of constraint (allowed: all_of, " in problems[3]
    assert "missing ), unterminated subpattern at position 0" in problems[4]


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"kind": 3}, "kind = 3: not a kind"),
        ({"kind": "scorer", "scorer": "jigsaw_tcc", "threshold": 0.0}, "greater than 0"),
        ({"kind": "scorer", "scorer": "jigsaw_tcc", "treshold": 0.4}, "did you mean 'threshold'?"),
        ({"kind": "forbidden_words", "words": []}, "at least 1 item"),
        ({"kind": "required_words", "words": ["red", " "]}, "found everywhere"),
        ({"kind": "length"}, "both 0, which allows everything"),
        ({"kind": "length", "minimum": 5, "maximum": 4}, "minimum 5 is larger than maximum 4"),
        ({"kind": "all_of", "constraints": []}, "at least 1 item"),
        (
            {"kind": "not", "constraint": {"kind": "nott"}},
            "constraint] kind = 'nott'",
        ),
        ({"kind": "not", "constraint": SHORT, "constraints": [SHORT]}, "no such setting"),
    ],
)
def test_a_wrong_table_says_what_is_allowed(table, problem):
    (found,) = problems_of(table)
    assert problem in found


def test_no_table_is_an_error():
    assert problems_of() == ["[constraint] has no table; add one with a kind, such as 'scorer'"]


def nested(depth):
    table = SHORT
    for _ in range(depth - 1):
        table = {"kind": "not", "constraint": table}
    return table


def test_tables_may_be_nested_to_the_limit_and_no_deeper():
    assert parse_constraints([nested(MAX_DEPTH)])
    (problem,) = problems_of(nested(MAX_DEPTH + 1))
    assert f"is table number {MAX_DEPTH + 1} inside another; {MAX_DEPTH} allowed" in problem


def test_an_absurdly_deep_table_is_refused_not_a_crash():
    (problem,) = problems_of(nested(400))
    assert "inside another" in problem


def test_wrong_tables_are_found_before_any_scorer_is_loaded():
    def load(name):
        raise AssertionError(f"loaded {name}")

    with pytest.raises(ConfigError, match="unknown constraint"):
        build_constraint([{"kind": "scorer", "scorer": "jigsaw_tcc"}, {"kind": "nope"}], load)


def test_every_scorer_is_named_once_in_order():
    tables = [
        {"kind": "any_of", "constraints": [
            {"kind": "scorer", "scorer": name} for name in ("profanity_svm", "jigsaw_tcc")
        ]},
        {"kind": "not", "constraint": {"kind": "scorer", "scorer": "profanity_svm"}},
    ]  # fmt: skip
    constraint = build_constraint(tables, RuleScorer)
    assert constraint.scorers == ("profanity_svm", "jigsaw_tcc")
    assert constraint.describe() == (
        "((profanity_svm < 0.5) or (jigsaw_tcc < 0.5)) and (not (profanity_svm < 0.5))"
    )


def test_a_scorer_that_cannot_be_loaded_is_the_loaders_error():
    def load(name):
        raise ModelError(f"{name} is gone")

    with pytest.raises(ModelError, match="jigsaw_tcc is gone"):
        build_constraint([{"kind": "scorer", "scorer": "jigsaw_tcc"}], load)


def test_a_local_model_is_a_scorer_whether_or_not_it_is_there():
    (parsed,) = parse_constraints([{"kind": "scorer", "scorer": "model:nowhere#toxic"}])
    assert parsed.scorer_names() == ("model:nowhere#toxic",)


def test_prompts_and_responses_must_pair_up():
    with pytest.raises(ValueError, match="1 prompts but 2 responses"):
        build_constraint([SHORT], RuleScorer).score(["p"], ["a", "b"])
