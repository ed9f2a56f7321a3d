"""Runs with long titles leave menus, legends and tables as wide as they are with short ones."""

import json

import pytest

from acft.ui.pages import compare, runs
from acft.ui.parts.runs_menu import TITLE_LETTERS, menu
from acft.ui.reading import names as names_of_runs
from acft.ui.reading.reader import Run
from acft.ui.web import words
from acft.ui.web.dom import text_of
from tests.ui.browser import ready
from tests.ui.conftest import CONTROL, QUICK, visit
from tests.ui.test_filters import nodes

LONG = "Detoxify with every prompt that there is, and a title_of_one_word_without_a_break "


@pytest.fixture
def long_titles(monkeypatch):
    """Every run has a title of a line and a half that ends in its id."""
    monkeypatch.setattr(Run, "title", property(lambda run: LONG + run.run_id))
    runs.ROWS.clear()
    yield
    runs.ROWS.clear()


def test_a_long_text_is_shortened_in_the_middle():
    assert words.short("short", 5) == "short"
    assert words.short("abcdefghijkl", 9) == "abcde…jkl"
    assert len(words.short(LONG, 30)) <= 30


@pytest.mark.usefixtures("long_titles")
def test_menus_legends_and_heads_carry_short_titles_that_differ(bench):
    lines = [n for n in nodes(menu(bench, QUICK)) if n[0] == "option"]
    assert max(len(text_of(line)) for line in lines) <= TITLE_LETTERS + len(" · ") + len(QUICK)
    figure = runs.overlay(bench, visit(select=f"{QUICK},{CONTROL}"), "policy/ce")
    names = [trace["name"] for trace in figure["data"]]
    assert max(map(len, names)) <= names_of_runs.TITLE_LETTERS
    found = compare.compared(bench, visit(QUICK, other=CONTROL))
    assert found is not None
    for each in (names, found.heads, found.names):
        assert len({*each}) == 2
    assert LONG in json.dumps(compare.export(bench, visit(QUICK, other=CONTROL)))


@pytest.mark.ui
@pytest.mark.usefixtures("long_titles")
@pytest.mark.parametrize(
    "path", [f"/compare?run={QUICK}&other={CONTROL}", f"/?select={QUICK},{CONTROL}",
             f"/run?run={QUICK}", f"/tradeoff?run={QUICK}"]
)  # fmt: skip
def test_no_table_or_page_is_wider_than_its_window(page, served, path):
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(served.link(path))
    ready(page)
    page.locator(".scroll").first.wait_for()
    wide = page.evaluate(
        "[...document.querySelectorAll('.scroll, html')]"
        ".filter((box) => box.scrollWidth > box.clientWidth + 1)"
        ".map((box) => `${box.ariaLabel}: ${box.scrollWidth} > ${box.clientWidth}`)"
    )
    assert wide == []
