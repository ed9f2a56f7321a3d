"""An address that names what is not there says so on every page."""

from typing import Any

import pytest

from acft.errors import ConfigError
from acft.ui.pages import compare, launch, rollouts, tokens
from acft.ui.pages import run as run_page
from acft.ui.parts import runs_menu
from acft.ui.web.dom import text_of
from acft.ui.web.pager import current_page
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


def test_a_text_that_the_run_does_not_have_is_named(bench):
    assert tokens.tokens(bench, visit(QUICK, sequence="nope")) == {
        "empty": "There is no text nope in this run."
    }


def test_a_comparison_says_what_it_shows_instead_of_what_is_not_there(bench):
    asked: Any = {"left": "zz", "right": "yy", "other": "nope", "view": "odd", "scorer": "none"}
    said = text_of(compare.summary(bench, visit(QUICK, **asked)))
    for name, value in asked.items():
        assert f"{name} {value!r} is not there" in said
    assert "is not there" not in text_of(compare.summary(bench, visit(QUICK, view="regressed")))


@pytest.mark.parametrize("threshold", ["nan", "abc", "-1", "7", "inf"])
def test_a_threshold_that_is_no_share_is_told_beside_the_texts(bench, threshold):
    said = text_of(compare.listing(bench, visit(QUICK, threshold=threshold)))
    assert f"{threshold!r} is not a number between 0 and 1; 0.5 is used" in said


@pytest.mark.parametrize("query", [
    {"round": "abc"}, {"policy_version": "1e3"}, {"round": "²"}, {"part": "-1"},
    {"scorer": "jigsaw_tcc", "low": "nan"}, {"scorer": "jigsaw_tcc", "high": "much"},
])  # fmt: skip
def test_a_filter_that_cannot_be_read_is_refused_and_never_left_out(bench, query):
    with pytest.raises(ConfigError, match="not a"):
        rollouts.answer(bench, visit(QUICK, **query), bench.reader.run(QUICK))
    assert "is not a" in text_of(rollouts.listing(bench, visit(QUICK, **query)))


@pytest.mark.parametrize(
    ("page", "shown"), [("2", 2), ("9", 3), ("²", 0), ("1" * 5000, 0), ("-1", 0)]
)
def test_a_part_of_a_list_that_is_not_there_is_another_one(page, shown):
    assert current_page({"part": page}, total=31, per_page=10) == shown


def test_a_run_whose_settings_are_gone_cannot_be_launched_again_and_says_so(bench):
    spec = bench.reader.run(QUICK).paths.spec
    kept, of_run = spec.read_bytes(), visit(data=None)
    of_run.query["from"] = QUICK
    try:
        spec.unlink()
        missing = launch.opened(bench, of_run, "")
        spec.write_bytes(b"\xff\xfe")
        binary = launch.opened(bench, of_run, "")
    finally:
        spec.write_bytes(kept)
    assert "cannot be read (FileNotFoundError)" in missing.problem
    assert "cannot be read (UnicodeDecodeError)" in binary.problem
    assert missing.text == binary.text
