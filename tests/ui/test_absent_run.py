"""An address that names no run says so on every page about a run."""

import pytest

from acft.ui import runs_menu
from acft.ui.dom import text_of
from acft.ui.pages import compare, rollouts, tokens
from acft.ui.pages import run as run_page
from tests.ui.conftest import QUICK, visit

PAGES = {
    "run": run_page.top,
    "tokens": tokens.pick,
    "compare": compare.summary,
    "rollouts": rollouts.listing,
}


@pytest.mark.parametrize("name", PAGES)
def test_every_page_says_that_there_is_no_such_run_and_offers_the_others(bench, name):
    said = text_of(PAGES[name](bench, visit(run="nope")))
    assert "There is no run nope." in said
    assert "Go to all runs" in said
    assert QUICK in said


def test_no_chart_waits_for_a_run_that_is_not_there(bench):
    drawn = run_page.figures(bench, visit(run="nope"))
    assert {figure["empty"] for figure in drawn} == {"There is no run nope."}
    assert rollouts.shares(bench, visit(run="nope"))[0]["empty"] == "There is no run nope."


def test_a_text_of_no_run_is_not_asked_to_be_chosen(bench):
    assert tokens.tokens(bench, visit(run="nope")) == {"empty": "There is no run nope."}


def test_the_menu_of_no_run_has_none_chosen(bench):
    assert "choose a run" in text_of(runs_menu.run_menu(bench))
