"""The form beside the settings text: what it cannot ask for is shown, and led to or removed."""

from typing import Any

import pytest

from acft.constraints import CONSTRAINTS
from acft.errors import ConfigError
from acft.inference.server import Session
from acft.inference.settings import describe
from acft.runs.spec import parse_spec
from acft.ui.pages import launch as page
from acft.ui.parts import draft, form, settings_text
from acft.ui.web.dom import text_of
from tests.ui.browser import ready
from tests.ui.test_stories import PATIENCE

SESSION = Session("cpu")
NESTED = """title = "a"

[[constraint]]
kind = "length"

[[constraint]]
kind = "any_of"

[[constraint.constraints]]
kind = "length"

[[constraint.constraints]]
kind = "scorer"
scorer = "x"
"""


def drawn(text: str) -> tuple[Any, list[str]]:
    """The form of a text and the problems of the text."""
    try:
        parse_spec(text)
        problems = []
    except ConfigError as error:
        problems = str(error).splitlines()
    return form.form(settings_text.parse(text), describe(SESSION), problems), problems


def nodes(node: Any) -> list[Any]:
    found = [] if isinstance(node, str) else [node]
    return found + [each for child in found[0][2:] for each in nodes(child)] if found else []


def ids(node: Any) -> set[str]:
    return {each[1].get("id", "") for each in nodes(node)}


@pytest.mark.parametrize(
    "text",
    [
        '[method]\nname = "sft"\nkl_weight = 50.0\nanchor = "current"\nreach_weighted = true\n',
        '[[constraint]]\nkind = "forbidden_words"\nwords = ["x"]\nscorer = "jigsaw_tcc"\n',
        "[schedule]\nroundz = 3\n",
        'titel = "a"\n[scheduel]\nrounds = 3\n',
    ],
)
def test_what_is_no_setting_of_the_chosen_kind_can_be_removed_in_the_form(text):
    shown, problems = drawn(text)
    assert problems
    for problem in problems:
        section, name = form.place_of(problem)
        key = f"{section}.{name}" if section else name
        (remove,) = [each for each in nodes(shown) if each[1].get("id") == f"f-{key}"]
        assert text_of(remove) == "remove"
        assert problem in text_of(shown)
        text = draft.edited(text, {"path": key.split(".")})
    assert drawn(text)[1] == []


def test_a_file_that_cannot_be_loaded_is_told_above_the_form(monkeypatch):
    why = "acft.constraints.own is not loaded: SyntaxError"
    monkeypatch.setattr(CONSTRAINTS, "problems", lambda: [why])
    assert [text_of(each) for each in page.not_loaded(describe(SESSION))] == [why]


def test_nothing_is_called_no_setting_before_the_kinds_are_described():
    values = {"method": {"name": "sft", "kl_weight": 50.0}}
    assert "f-method.kl_weight" not in ids(form.form(values, {}, []))


def test_every_way_to_a_default_says_of_which_setting():
    shown, _ = drawn("[optimizer]\nlr = 0.1\n")
    names = [each[1].get("aria-label") for each in nodes(shown) if text_of(each) == "use default"]
    assert "use default of optimizer.lr" in names
    assert len(set(names)) == len(names)


def test_a_constraint_made_of_others_is_shown_and_led_to_in_the_text():
    added = settings_text.add_table('title = "a"\n', "constraint", {"kind": "any_of"})
    shown, problems = drawn(added)
    assert problems == ["[constraint.1] constraints: required"]
    assert "f-constraint.1.constraints" in ids(shown)
    assert "not set[constraint.1] constraints: required" in text_of(shown)
    shown, problems = drawn(NESTED)
    (box,) = [each for each in nodes(shown) if each[1].get("key") == "constraint.1.constraints"]
    assert '[{kind = "length"}, {kind = "scorer",' in text_of(box)
    assert "edit in the text" in text_of(box)
    assert problems[1] in text_of(box)
    assert box[1]["class"] == "field set wrong"


def test_settings_that_contradict_each_other_are_counted_in_their_section():
    shown, problems = drawn("[optimizer]\nbatch_size = 4\n")
    heads = [text_of(each) for each in nodes(shown) if each[0] == "summary"]
    assert [head for head in heads if "to fix" in head] == [
        next(head for head in heads if head.startswith("Optimiser 1 to fix"))
    ]
    assert page._problem(problems[0])[1]["data-field"] == "optimizer.batch_size"  # pyright: ignore


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[[constraint]]\nkind = "patern"\n', "constraint.0.kind"),
        ('[method]\nname = "patern"\n', "method.name"),
        ('[oracle]\nlabels = "patern"\n', "oracle.labels"),
    ],
)
def test_a_menu_shows_a_value_that_is_none_of_its_own(text, key):
    shown, problems = drawn(text)
    (menu,) = [each for each in nodes(shown) if each[1].get("id") == f"f-{key}"]
    (chosen,) = [option for option in menu[2:] if "selected" in option[1]]
    assert text_of(chosen) == "patern (not allowed)"
    assert menu[1]["aria-invalid"] == "true"
    assert page._problem(problems[0])[1]["data-field"] == key  # pyright: ignore


def test_a_problem_knows_its_setting_by_the_name_that_the_text_has():
    button: Any = page._problem("[engine] x = 3: no such setting")
    assert button[1]["data-field"] == "engine.x"


@pytest.mark.ui
def test_a_problem_without_a_field_leads_to_its_line_of_the_text(page, served, monkeypatch):
    places = {
        "[constraint.1.constraints.1] scorer = 'x': is unknown": 'scorer = "x"',
        "[constraint.1.constraints.0] words: required": "[[constraint.constraints]]",
        "[constraint.1] constraints: required": "[[constraint.constraints]]",
        "[constraint.0] least: required": "[[constraint]]",
    }
    monkeypatch.setattr(served.bench.settings_process, "problems", list(places))
    page.goto(served.link("/launch?preset=quickstart"))
    ready(page)
    box = page.get_by_label("Settings (TOML)")
    box.fill(NESTED)
    page.get_by_text("4 problems to fix").wait_for(timeout=PATIENCE)
    page.wait_for_function("!document.body.classList.contains('unchecked')", timeout=PATIENCE)
    for problem, line in places.items():
        page.get_by_role("button", name=problem).click()
        assert box.evaluate("dom => dom === document.activeElement")
        caret = box.evaluate("dom => dom.selectionStart")
        assert NESTED[:caret].splitlines()[-1] == line
