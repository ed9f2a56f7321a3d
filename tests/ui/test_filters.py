"""Filters that are wrong or half typed stay on the page and say what is wrong."""

import json
from typing import Any

import pytest
from playwright.sync_api import expect

from acft.ui.pages import compare
from acft.ui.pages import tokens as tokens_page
from acft.ui.web.dom import text_of
from tests.ui.browser import ready
from tests.ui.conftest import QUICK, visit


def nodes(node: Any) -> list[Any]:
    """Every element of a page fragment, parents first."""
    if not isinstance(node, list):
        return []
    return [node, *(found for child in node[2:] for found in nodes(child))]


def labelled(node: Any, label: str) -> dict[str, Any]:
    """The attributes of the one control with this name."""
    [found] = [n[1] for n in nodes(node) if n[1].get("aria-label") == label]
    return found


@pytest.mark.parametrize(
    ("query", "label", "told"),
    [
        ({"find": "/[/"}, "Find in texts", "cannot read the pattern"),
        ({"threshold": "abc"}, "Threshold", "'abc' is not a number between 0 and 1"),
        ({"threshold": "7"}, "Threshold", "'7' is not a number between 0 and 1"),
    ],
)
def test_a_wrong_filter_of_a_comparison_stays_and_is_marked(bench, query, label, told):
    asked = visit(QUICK, **query)
    assert compare.summary(bench, asked)
    shown = compare.listing(bench, asked)
    field = labelled(shown, label)
    assert field["value"] == next(iter(query.values()))
    assert field["aria-invalid"] == "true"
    assert told in text_of(shown)


def test_a_right_filter_of_a_comparison_is_not_marked(bench):
    assert "aria-invalid" not in json.dumps(compare.listing(bench, visit(QUICK, find="/t.ba/")))


def test_every_filter_of_a_comparison_begins_with_the_first_part(bench):
    asked = visit(QUICK, view="all", part="1")
    for node in nodes([compare.summary(bench, asked), {}, compare.listing(bench, asked)]):
        if {"data-nav", "data-query"} & node[1].keys():
            assert node[1]["data-clear"] == "part", node[1]


def test_another_order_of_texts_begins_with_the_first_part(bench):
    order = labelled(tokens_page.pick(bench, visit(QUICK, part="1")), "Order of texts")
    assert order["data-clear"] == "part"


@pytest.mark.ui
def test_a_half_typed_pattern_leaves_the_search_box_where_it_is(page, served):
    page.goto(served.link(f"/compare?run={QUICK}"))
    ready(page)
    box = page.get_by_label("Find in texts")
    box.fill("/tub[/")
    expect(page.get_by_text("cannot read the pattern")).to_be_visible()
    expect(box).to_be_focused()
    expect(box).to_have_attribute("aria-invalid", "true")
    box.fill("/tub[a]/")
    expect(page.get_by_text("cannot read the pattern")).to_have_count(0)
    expect(box).not_to_have_attribute("aria-invalid", "true")


@pytest.mark.ui
def test_a_menu_that_leads_elsewhere_leads_to_the_first_part(page, served):
    page.goto(served.link(f"/compare?run={QUICK}&part=1"))
    ready(page)
    page.get_by_label("Prompt category").select_option(index=1)
    page.wait_for_url("**/compare?*category=*")
    assert "part=" not in page.url
