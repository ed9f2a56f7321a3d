"""Settings are strict, and every problem is told at once."""

from typing import Annotated, Literal, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError, model_validator

from acft import config
from acft.config import Config, apply_overrides, read_override, read_toml, toml_value
from acft.errors import ConfigError


class Inner(Config):
    """A table inside another."""

    learning_rate: float = 0.1
    """Step width."""
    steps: int = 3
    """How many."""


class Outer(Config):
    """A whole file."""

    name: str = "x"
    """Any text."""
    inner: Inner = Inner()
    """A table."""
    entries: Annotated[tuple[Inner, ...], Field(strict=False)] = ()
    """A list of tables."""
    strength: Literal["auto"] | Annotated[float, Field(gt=0)] = "auto"
    """A word or a number."""

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.name == "impossible":
            raise ValueError("name and entries do not go together")
        return self


def problems(values: dict, where: str = "") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        Outer.parse(values, where)
    return str(caught.value).splitlines()


def test_all_problems_are_told_at_once():
    found = problems({"nmae": "y", "name": 3, "inner": {"steps": "many", "learning_rat": 1.0}})
    assert len(found) == 4


def test_unknown_key_names_the_right_one():
    assert problems({"inner": {"learning_rat": 1.0}}) == [
        "[inner] learning_rat = 1.0: no such setting; did you mean 'learning_rate'?"
    ]


def test_unknown_key_without_a_near_one_is_told_which_there_are(monkeypatch):
    [told] = problems({"zzz": 1})
    assert told == "zzz = 1: no such setting; there are entries, inner, name, strength"
    monkeypatch.setattr(config, "MANY", 1)
    assert problems({"zzz": 1}) == ["zzz = 1: no such setting"]


def test_an_unknown_section_is_told_which_there_are() -> None:
    [told] = problems({"zzz": {"a": 1}})
    assert told.startswith("zzz = {'a': 1}: no such section; there are ")
    assert "inner" in told


def test_problem_in_a_list_says_which_entry():
    (line,) = problems({"entries": [{}, {"step": 1}]}, where="corpus")
    assert line.startswith("[corpus.entries.1] step = 1")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_number_that_is_not_finite_is_refused(value):
    (line,) = problems({"inner": {"learning_rate": value}})
    assert "finite" in line


@pytest.mark.parametrize("value", ["3", 3.5, True, None])
def test_value_is_not_converted_to_fit(value):
    (line,) = problems({"inner": {"steps": value}})
    assert line.startswith("[inner] steps")


def test_value_that_misses_every_alternative_is_told_once():
    assert problems({"strength": -1.0}) == [
        "strength = -1.0: should be 'auto' or should be greater than 0"
    ]


def test_list_and_table_are_called_so():
    assert problems({"entries": 3, "inner": 4}) == [
        "inner = 4: should be a table",
        "entries = 3: should be a list",
    ]


def test_impossible_combination_says_why():
    (line,) = problems({"name": "impossible"})
    assert line.endswith("name and entries do not go together")


def test_missing_setting_shows_no_value():
    class Needs(Config):
        """One setting without a default."""

        source: str
        """Where."""

    with pytest.raises(ConfigError, match=r"^\[corpus\] source: required$"):
        Needs.parse({}, "corpus")


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        Outer().inner.steps = 4  # pyright: ignore[reportAttributeAccessIssue]


def test_override_sets_nested_values_and_leaves_the_original_alone():
    values = {"inner": {"steps": 1}, "entries": [{"steps": 2}]}
    changed = apply_overrides(values, ["inner.steps=5", "entries.0.steps=6", "name=plain text"])
    assert changed == {"inner": {"steps": 5}, "entries": [{"steps": 6}], "name": "plain text"}
    assert values == {"inner": {"steps": 1}, "entries": [{"steps": 2}]}


PLAIN = st.one_of(st.text(), st.integers(-(2**60), 2**60), st.booleans(), st.floats(-1e9, 1e9))


@given(
    st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(min_size=1), inner))
)
def test_a_value_written_as_toml_is_read_as_it_was(value):
    assert read_override(f"x={toml_value(value)}")[1] == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("true", True), ('"3"', "3"), ("[1, 2]", [1, 2]), ("a b", "a b"), ("", "")],
)
def test_override_value_is_read_as_toml_else_as_text(text, value):
    assert apply_overrides({}, [f"x={text}"]) == {"x": value}


def test_later_override_wins():
    assert apply_overrides({}, ["x=1", "x=2"]) == {"x": 2}


@pytest.mark.parametrize("override", ["seed", "=3", "seed.x=1", "entries.7.steps=1", "entries.7=1"])
def test_impossible_override_is_named(override):
    with pytest.raises(ConfigError, match=override.replace(".", r"\.")):
        apply_overrides({"seed": 1, "entries": [{}]}, [override])


def test_missing_file_says_where_examples_are(tmp_path):
    with pytest.raises(ConfigError, match="experiments/"):
        read_toml(tmp_path / "none.toml")


def test_malformed_toml_says_the_line(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("a = 1\nb = = 2\n")
    with pytest.raises(ConfigError, match="line 2"):
        read_toml(path)


@pytest.mark.parametrize("make", [lambda p: p.write_bytes(b"\xff\xfe"), lambda p: p.mkdir()])
def test_file_that_is_no_text_is_an_error(tmp_path, make):
    path = tmp_path / "odd.toml"
    make(path)
    with pytest.raises(ConfigError, match=r"odd\.toml"):
        read_toml(path)
