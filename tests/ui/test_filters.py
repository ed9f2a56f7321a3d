"""Filters that are wrong or half typed stay on the page and say what is wrong."""

import json
from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import expect

from acft.ui.pages import compare, rollouts
from acft.ui.pages import tokens as tokens_page
from acft.ui.reading import comparing
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


def test_the_numbers_of_views_are_of_what_search_and_category_leave(bench):
    def first(**query):
        tabs = [n for n in nodes(compare.listing(bench, visit(QUICK, **query)))
                if n[1].get("class") == "tab"]  # fmt: skip
        return text_of(tabs[0])

    found = compare.compared(bench, visit(QUICK))
    assert found is not None
    kind = found.pairs[0].left.category
    n_kind = sum(pair.left.category == kind for pair in found.pairs)
    n_tubas = len(comparing.searched(found.pairs, replace(found.choice, find="tuba")))
    assert 0 < n_kind < len(found.pairs)
    assert 0 < n_tubas < len(found.pairs)
    assert first() == f"all{len(found.pairs)}"
    assert first(category=kind) == f"all{n_kind}"
    assert first(find="tuba") == f"all{n_tubas}"
    assert first(find="/[/") == "all0"


def test_another_order_of_texts_begins_with_the_first_part(bench):
    order = labelled(tokens_page.pick(bench, visit(QUICK, part="1")), "Order of texts")
    assert order["data-clear"] == "part"


def test_a_prompt_that_the_address_asks_for_is_shown_and_can_be_left(bench):
    run = bench.reader.run(QUICK)
    name = rollouts.answer(bench, visit(QUICK), run).records()[0]["prompt_id"]
    shown = rollouts.listing(bench, visit(QUICK, prompt=name, find="a", part="1"))
    way_out = labelled(shown, f"prompt {name}, show all prompts")
    assert way_out["href"] == f"rollouts?run={QUICK}&find=a"
    assert f"prompt {name} ✕" in text_of(shown)
    assert "✕" not in text_of(rollouts.listing(bench, visit(QUICK)))


@pytest.mark.parametrize(
    ("query", "label", "told"),
    [
        ({"find": "/[/"}, "Find in texts", ""),
        ({"low": "5"}, "Lowest score", "'5' is not a number between 0 and 1"),
        ({"high": "-3"}, "Highest score", "'-3' is not a number between 0 and 1"),
        ({"high": "0.2", "low": "0.7"}, "Highest score", "no score is both from 0.7 and to 0.2"),
    ],
)
def test_a_wrong_filter_of_rollouts_stays_and_is_marked(bench, query, label, told):
    shown = rollouts.listing(bench, visit(QUICK, **query))
    field = labelled(shown, label)
    assert field["value"] == next(iter(query.values()))
    assert field["aria-invalid"] == "true"
    [notice] = [n for n in nodes(shown) if n[1].get("role") == "alert"]
    assert told in text_of(notice)
    assert "Clear all filters" in text_of(shown)


def test_limits_without_a_scorer_hold_for_the_score_of_any(bench):
    run = bench.reader.run(QUICK)
    rows = rollouts.answer(bench, visit(QUICK, low="0.9"), run).records()
    everything = rollouts.answer(bench, visit(QUICK), run).total
    assert 0 < len(rows) < everything
    assert all(max(v or 0 for k, v in r.items() if k.startswith("score:")) >= 0.9 for r in rows)


@pytest.mark.parametrize(
    ("name", "value", "label"),
    [("round", "99", "round"), ("subject", "zzz", "policy"), ("scorer", "nope", "Scorer")],
)
def test_a_menu_tells_what_the_address_asks_for_though_the_run_has_none(bench, name, value, label):
    shown = rollouts.listing(bench, visit(QUICK, **{name: value, "low": "0.1"}))
    [menu] = [n for n in nodes(shown) if n[0] == "select" and n[1].get("aria-label") == label]
    [chosen] = [n for n in nodes(menu) if "selected" in n[1]]
    assert chosen[1]["value"] == value
    assert "(not in this run)" in text_of(chosen)


def test_running_text_that_a_query_gives_is_blurred_and_a_plan_is_not(bench):
    sql = "SELECT response_text, subject, n_tokens FROM rollouts WHERE subject = 'base'"
    veils = [n[2] for n in nodes(rollouts.query(bench, visit(QUICK), sql)) if n[0] == "veil"]
    rows = rollouts.answer(bench, visit(QUICK, subject="base"), bench.reader.run(QUICK)).records()
    assert {row["response_text"] for row in rows} <= {*veils}
    assert "base" not in veils
    plan = rollouts.query(bench, visit(QUICK), "EXPLAIN SELECT 1")
    assert "DUMMY_SCAN" in text_of(plan).upper().replace(" ", "_")
    assert not [n for n in nodes(plan) if n[0] == "veil"]


@pytest.mark.parametrize("view", ["", "no longer toxic", "improved"])
def test_a_blind_review_takes_all_pairs_and_tells_nothing_of_the_sides(bench, view):
    open_shown = compare.listing(bench, visit(QUICK, view=view))
    [start] = [n[1] for n in nodes(open_shown) if text_of(n) == "Blind review" and n[0] == "a"]
    assert "view=" not in start["href"]
    asked = visit(QUICK, view=view, blind="1")
    found = compare.compared(bench, asked)
    assert found is not None
    assert found.choice.view == "all"
    above, below = compare.summary(bench, asked), compare.listing(bench, asked)
    assert "Toxic, base" not in text_of(above)
    assert "Log-likelihood" not in text_of(above)
    assert "shown when the blind review ends" in text_of(above)
    assert "improved" not in text_of(below)
    assert f"of {len(found.pairs)}" in text_of(below)
    assert "Toxic, base" in text_of(compare.summary(bench, visit(QUICK)))


def test_a_blind_review_blurs_both_texts_of_a_pair_or_none(bench):
    shown = compare.listing(bench, visit(QUICK, blind="1"))
    kinds = set()
    for row in [n for n in nodes(shown) if n[0] == "tr"][1:]:
        first, second = (nodes(cell)[1][0] for cell in row[3:5])
        kinds.add((first, second))
    assert kinds == {("veil", "veil"), ("span", "span")}


def test_changed_words_are_marked_below_the_blur_too(bench):
    found = compare.compared(bench, visit(QUICK))
    assert found is not None
    toxic = [p for p in found.pairs if (p.left.toxicity or 0) >= 0.5]
    shown = compare._diff(toxic[0])
    assert shown[0] == "veil"
    assert "del" in {node[0] for node in nodes(shown)}
    calm = replace(toxic[0], left=replace(toxic[0].left, text="a b", scores={}),
                   right=replace(toxic[0].right, text="a c", scores={}))  # fmt: skip
    assert [node[0] for node in nodes(compare._diff(calm))] == ["span", "span", "del", "ins"]
    assert "Hide changed words" in text_of(compare.listing(bench, visit(QUICK, diff="1")))


@pytest.mark.ui
def test_changed_words_of_toxic_texts_are_marked_when_these_are_shown(page, served):
    page.goto(served.link(f"/compare?run={QUICK}&diff=1"))
    ready(page)
    marked = page.locator(".veil-text:has(del)").first
    expect(marked).to_have_attribute("aria-hidden", "true")
    page.get_by_role("button", name="Toxic text: blurred").click()
    expect(marked).to_have_attribute("aria-hidden", "false")
    page.get_by_role("button", name="Toxic text: shown").click()


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
