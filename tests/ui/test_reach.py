"""Focus, titles, sliders and phones: what is used or read stays where it is and has its name."""

from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from acft.ui.page import PAGES
from acft.ui.pages import compare, rollouts
from acft.ui.parts import replay
from acft.ui.parts.replay import Clock
from acft.ui.web.dom import table
from tests.chromium import PHONE
from tests.ui.browser import ready, shoot
from tests.ui.conftest import CONTROL, QUICK, visit
from tests.ui.test_filters import nodes


def cells(node: Any, tag: str) -> list[dict[str, Any]]:
    """The attributes of all cells of a kind."""
    return [n[1] for n in nodes(node) if n[0] == tag]


def test_every_cell_carries_what_its_column_is_called_first():
    columns = ["Text", ["div", {}, "Scores", ["a", {}, "kind"]], ["a", {}, "Tokens"], ""]
    labels = [cell.get("data-label") for cell in cells(table(columns, [["a"] * 4]), "td")]
    assert labels == ["Text", "Scores", "Tokens", None]


def test_a_text_of_a_comparison_carries_the_name_of_its_policy(bench):
    first, left, right, *_ = cells(compare.listing(bench, visit(QUICK)), "td")
    assert first["data-label"] == "Prompt"
    assert (left["data-label"], right["data-label"]) == ("base", "tuned, version 3")


@pytest.mark.parametrize(
    ("sort", "orders"),
    [
        ("", ["none", "none", "none", "none"]),
        ("-score:jigsaw_tcc", ["descending", "none", "none", "none"]),
        ("n_tokens", ["none", "none", "ascending", "none"]),
    ],
)
def test_a_sorted_column_says_so(bench, sort, orders):
    heads = cells(rollouts.listing(bench, visit(QUICK, sort=sort)), "th")
    assert [head["aria-sort"] for head in heads if "aria-sort" in head] == orders


def test_the_slider_of_a_replay_tells_the_time():
    shown = replay.bar(QUICK, Clock(since=0.0, at=61.0, speed=0.0), 3700.0, now=0.0)
    [slider] = cells(shown, "input")
    assert slider["aria-valuetext"] == "1 min 01 s of 1 h 01 min"


@pytest.mark.ui
def test_a_phone_names_the_texts_and_can_sort_them(phone, served):
    phone.goto(served.link(f"/compare?run={QUICK}"))
    label = "dom => getComputedStyle(dom, '::before').content"
    texts = phone.get_by_role("region", name="Pairs of texts").locator("tbody tr").first
    assert "base" in texts.locator("td").nth(1).evaluate(label)
    assert "tuned, version 3" in texts.locator("td").nth(2).evaluate(label)
    texts.scroll_into_view_if_needed()
    shoot(phone, "phone-compare-texts")
    phone.goto(served.link(f"/rollouts?run={QUICK}"))
    phone.locator("thead").get_by_role("link", name="Tokens", exact=True).click()
    phone.wait_for_url("**sort=n_tokens**")
    head = phone.locator("th[aria-sort=ascending]")
    expect(head).to_be_visible()
    shoot(phone, "phone-rollouts-sorted")
    assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


TOO_SMALL = """() => [...document.querySelectorAll("button, a[href], summary")].filter((dom) => {
  const box = dom.getBoundingClientRect();
  const isInText = dom.matches("p a, dd a, .side a, .notice a, .notice .problem")
    && !dom.closest("td, th");
  return box.width && !isInText && dom.checkVisibility() && box.right > 0
    && (box.height < 23.9 || box.width < 23.9);
}).map((dom) => dom.outerHTML.slice(0, 120))"""
"""Targets below the least size of WCAG 2.2, those in running text aside, as there."""


@pytest.mark.ui
@pytest.mark.parametrize("width", [320, 390])
def test_the_head_of_a_phone_has_two_rows_and_nothing_to_press_is_too_small(page, served, width):
    page.set_viewport_size({"width": width, "height": 700})
    for each in dict(PAGES.items()).values():
        page.goto(served.link(f"/{each.route}?run={QUICK}"))
        ready(page)
        page.wait_for_timeout(1000)
        top, small = page.locator("header.top").bounding_box(), page.evaluate(TOO_SMALL)
        assert top["height"] <= 84, each.route
        assert small == [], each.route
        assert page.evaluate("document.documentElement.scrollWidth") <= width, each.route
        expect(page.get_by_role("link", name="ACFT workbench", exact=True)).to_be_visible()


@pytest.mark.ui
def test_every_page_has_a_title_of_its_own(page, served):
    titles = set()
    for each in dict(PAGES.items()).values():
        page.goto(served.link(f"/{each.route}?run={QUICK}"))
        ready(page)
        page.wait_for_function("document.title.endsWith(' · ACFT workbench')")
        page.wait_for_timeout(500)
        titles.add(page.title())
    assert len(titles) == len(dict(PAGES.items()))
    assert "Rollouts · ACFT workbench" in titles
    assert all(title.endswith(" · ACFT workbench") for title in titles)


@pytest.mark.ui
def test_a_slider_that_has_the_focus_moves_on_and_one_that_is_dragged_does_not(page, served):
    page.goto(served.link(f"/run?run={QUICK}&play=10"))
    place = page.get_by_label("Place in the recording")
    place.wait_for()
    place.focus()
    first = place.input_value()
    page.wait_for_function(
        "old => document.activeElement.type === 'range' && document.activeElement.value !== old",
        arg=first,
    )
    box = place.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    held = place.input_value()
    page.wait_for_timeout(3000)
    assert place.input_value() == held
    page.mouse.up()


@pytest.mark.ui
def test_a_control_of_the_tokens_keeps_the_focus(page, served):
    page.goto(served.link(f"/tokens?run={QUICK}"))
    page.locator(".tok").first.wait_for()
    colour = page.get_by_label("Channel shown as colour")
    colour.focus()
    colour.select_option("entropy")
    expect(colour).to_be_focused()
    for name in ("Three rows", "Table", "Table", "Three rows"):
        page.get_by_role("button", name=name, exact=True).press("Enter")
        expect(page.get_by_role("button", name=name, exact=True)).to_be_focused()


@pytest.mark.ui
def test_escape_in_the_details_of_a_token_leads_back_to_it(page, served):
    page.goto(served.link(f"/tokens?run={QUICK}"))
    page.locator(".tok").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    details = page.get_by_role("dialog", name="Token details")
    details.get_by_role("button", name="Close").focus()
    page.keyboard.press("Escape")
    expect(details).to_be_hidden()
    expect(page.locator(".tok").nth(1)).to_be_focused()


@pytest.mark.ui
def test_noise_below_zero_is_neither_beyond_the_scale_nor_shown_as_negative(page, served):
    page.goto(served.link(f"/tokens?run={QUICK}"))
    page.locator(".tok").first.wait_for()
    # The component is drawn once more with values as rounding leaves them.
    token = {"i": 1, "id": 5, "t": " a", "in": True, "b": -1, "p": -1, "q": -1, "r": 0, "h": 1,
             "alt": []}  # fmt: skip
    shown = page.evaluate(
        """token => {
            const element = document.createElement("div");
            element.append(document.createElement("div"));
            document.body.append(element);
            const value = JSON.stringify({ tokens: [-9.8e-6, 1.0005, 1.1, -0.5].map(
              (k, i) => ({ ...token, k, i })) });
            window.acftTokens.view(element, { value }, () => {}, () => {});
            return [...element.querySelectorAll(".tok")].map(
              (dom) => [dom.classList.contains("clip"), dom.getAttribute("aria-label")]);
        }""",
        token,
    )
    assert [clipped for clipped, _ in shown] == [False, False, True, False]
    assert "KL(guided ‖ policy) 0.00 nats" in shown[0][1]


def choose_another(page, label: str) -> str:
    """Picks a choice of a menu that is not the present one, waits for the answer, tells it."""
    menu = page.get_by_label(label, exact=True)
    values = menu.locator("option").evaluate_all("found => found.map((each) => each.value)")
    other = next(value for value in values if value != menu.input_value())
    before = page.evaluate("Number(document.body.dataset.drawn)")
    menu.focus()
    menu.select_option(other)
    page.wait_for_function(f"Number(document.body.dataset.drawn) > {before}")
    expect(menu).to_be_focused()
    expect(menu).to_have_value(other)
    return other


@pytest.mark.ui
def test_menus_of_a_comparison_leave_what_is_typed_and_keep_the_focus(page, served):
    page.goto(served.link(f"/compare?run={QUICK}&part=1"))
    ready(page)
    page.get_by_label("Prompt", exact=True).fill("mine")
    for label, name in (("Left", "left"), ("Right", "right"), ("Scorer", "scorer"),
                        ("Prompt category", "category"), ("Prompts", "split")):  # fmt: skip
        chosen = choose_another(page, label)
        assert f"{name}={quote(chosen)}" in page.url
    assert "part=" not in page.url
    assert page.get_by_label("Prompt", exact=True).input_value() == "mine"
    assert page.get_by_text("This run has not answered validation prompts yet.").count() == 1


@pytest.mark.ui
def test_another_order_of_texts_leaves_what_is_typed(page, served):
    page.goto(served.link(f"/tokens?run={QUICK}"))
    ready(page)
    page.get_by_label("Response").fill("mine")
    choose_another(page, "Order of texts")
    assert page.get_by_label("Response").input_value() == "mine"


@pytest.mark.ui
def test_a_menu_of_runs_has_the_focus_again_on_the_page_of_the_other_run(page, served):
    page.goto(served.link(f"/compare?run={QUICK}"))
    ready(page)
    for label, run_id in (("Run", CONTROL), ("Other run", QUICK)):
        with page.expect_navigation():
            page.get_by_label(label, exact=True).select_option(run_id)
        expect(page.get_by_label(label, exact=True)).to_be_focused()
        expect(page.get_by_label(label, exact=True)).to_have_value(run_id)
    page.reload()
    ready(page)
    assert page.evaluate("document.activeElement === document.body")
