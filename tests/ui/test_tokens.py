"""Tokens: what a refusal leaves, what can be exchanged, where links lead, what files hold."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from acft.errors import DataError
from acft.ui.pages import tokens as tokens_page
from acft.ui.parts import live_tokens
from acft.ui.reading.tokens import payload
from acft.ui.web.dom import text_of
from tests.ui.browser import ready
from tests.ui.conftest import CONTROL, LIVE_ROW, QUICK, visit
from tests.ui.test_filters import nodes
from tests.ui.test_hot_words import MILD
from tests.ui.test_live import run_of


def refused(run: Any) -> Any:
    raise DataError("the text is too long")


@pytest.mark.parametrize("asked", ["stored", "typed"])
def test_a_refused_question_leaves_the_heading_of_what_is_shown(bench, asked):
    seen, run = visit(QUICK, may_change=True, live_version="2"), run_of(bench)
    last, heading, control = {}, "The chosen text", "Compute the values now"
    if asked == "typed":
        typed = live_tokens.of_text(run, "a", "b")
        _, last = live_tokens.scored(bench, seen, run, typed)
        heading, control = "A text computed now", "Values computed on demand under"
    first, (about, *others) = tokens_page.computed(bench, seen, last, refused)
    assert text_of(about).startswith(f"the text is too long{heading}")
    assert control in text_of(about)
    assert others == first[1:]


def test_a_refused_version_is_not_said_to_have_given_the_values_that_stay(bench):
    seen, run = visit(QUICK, may_change=True, live_version="2"), run_of(bench)
    _, last = live_tokens.scored(bench, seen, run, live_tokens.of_text(run, "a", "b"))
    assert last["weights"]["tuned"]["version"] == 1
    *_, (about, *_) = tokens_page.computed(bench, seen, last, refused)
    assert "under the oracle of version 1" in text_of(about)


def open_component(page: Any, served: Any, value: dict[str, Any], query: str = "") -> Any:
    """A token component with this value, drawn below those of the page."""
    page.goto(served.link(f"/tokens?run={QUICK}{query}"))
    page.locator(".tok").first.wait_for()
    page.evaluate(
        """value => {
            const element = document.createElement("div");
            element.id = "alone";
            element.append(document.createElement("div"));
            document.body.append(element);
            window.sent = [];
            window.acftTokens.view(element, { value: JSON.stringify(value) },
              (...told) => window.sent.push(told), () => {});
        }""",
        value,
    )
    return page.locator("#alone")


@pytest.mark.ui
def test_only_tokens_of_the_response_offer_alternatives_to_exchange_them(page, served):
    rows = [LIVE_ROW | {"position": i} for i in (1, 2, 3)]
    alone = open_component(page, served, payload(rows, can_branch=True, start=2))
    for place, n_buttons in enumerate([0, 1, 1]):
        alone.locator(".tok").nth(place).click()
        assert alone.locator(".token-popup td button").count() == n_buttons
    alone.locator(".token-popup td button").click()
    assert page.evaluate("window.sent") == [["branch", {"position": 3, "id": 5}]]


def test_a_computed_text_tells_where_its_response_begins(bench):
    seen, run = visit(QUICK, may_change=True), run_of(bench)
    value, request = live_tokens.scored(bench, seen, run, live_tokens.of_text(run, "a", "b"))
    assert value["start"] == len(request["prompt_ids"]) == 1


def test_another_text_is_opened_in_the_same_order_and_part_and_without_the_step_of_this_one(bench):
    seen = visit(QUICK, sequence="x", step="7", at="3", order="newest", among="violated", part="1",
                 prompt="a", response="b", live_version="2")  # fmt: skip
    hrefs = [n[1]["href"] for n in nodes(tokens_page.pick(bench, seen)) if n[0] == "a"]
    kept = {"run": QUICK, "order": "newest", "among": "violated", "part": "1", "live_version": "2"}
    first = dict(parse_qsl(hrefs[0].partition("?")[2]))
    assert first.pop("sequence") != "x"
    assert first == kept


@pytest.mark.ui
def test_another_text_is_opened_in_the_same_colours_and_rows(page, served):
    page.goto(served.link(f"/tokens?run={QUICK}"))
    page.locator(".tok").first.wait_for()
    page.get_by_label("Channel shown as colour").select_option("entropy")
    page.get_by_label("Second channel shown as underline").select_option("r")
    page.get_by_role("button", name="Three rows").click()
    page.locator("ul.pick a").nth(1).click()
    page.wait_for_url("**/tokens?*sequence=*")
    page.locator(".tok").first.wait_for()
    assert page.get_by_label("Channel shown as colour").input_value() == "entropy"
    assert page.get_by_label("Second channel shown as underline").input_value() == "r"
    three = page.get_by_role("button", name="Three rows")
    assert three.get_attribute("aria-pressed") == "true"


@pytest.mark.ui
@pytest.mark.parametrize("name", ["tokens", "compare"])
def test_the_address_names_what_the_page_has_chosen_itself(page, served, name):
    page.goto(served.link(f"/{name}"))
    ready(page)
    chosen = page.get_by_label("Run", exact=True).input_value()
    page.wait_for_url(f"**/{name}?*run={chosen}*")
    if name == "tokens":
        first = tokens_page.current_sequence(served.bench, visit(), chosen)
        assert f"sequence={first}" in page.url


@pytest.mark.ui
def test_another_run_is_opened_without_the_text_of_this_one(page, served):
    page.goto(served.link("/tokens"))
    ready(page)
    page.wait_for_url("**/tokens?*sequence=*")
    with page.expect_navigation():
        page.get_by_label("Run", exact=True).select_option(CONTROL)
    page.locator(".tok").first.wait_for()
    assert f"run={CONTROL}" in page.url


@pytest.mark.ui
def test_values_that_no_address_leads_to_have_no_link_to_copy(page, served):
    alone = open_component(page, served, payload([LIVE_ROW]))
    assert alone.get_by_role("button", name="CSV", exact=True).count() == 1
    assert alone.get_by_role("button", name="Copy link").count() == 0
    assert page.get_by_role("button", name="Copy link").count() == 1


@pytest.mark.ui
def test_a_file_of_values_leaves_out_the_tokens_that_are_blurred(page, served):
    rows = [LIVE_ROW, LIVE_ROW | {"position": 2, "token_text": f" {MILD}"}]
    alone = open_component(page, served, payload(rows))

    def saved() -> str:
        with page.expect_download() as saving:
            alone.get_by_role("button", name="CSV", exact=True).click()
        return Path(saving.value.path()).read_text("utf-8")

    told = alone.get_by_text("Files leave out what is blurred.")
    assert told.count() == 1
    assert " typed" in (blurred := saved())
    assert MILD not in blurred
    assert '"2","hidden","5"' in blurred
    alone.get_by_role("button", name="Show 1 blurred token").click()
    assert f'"2"," {MILD}","5"' in saved()
    assert told.count() == 0


@pytest.mark.ui
def test_title_and_scale_of_a_picture_do_not_lie_upon_each_other(page, served):
    page.goto(served.link(f"/tokens?run={QUICK}"))
    page.locator(".tok").first.wait_for()
    n_boxes, overlaps = page.evaluate(
        """() => {
            const { CHANNELS, known, files } = window.acftTokens;
            const token = known({ i: 1, t: " a", b: -1, p: -1, q: -1, r: 0, k: 1, h: 1 });
            const found = [];
            let n = 0;
            for (const channel of Object.values(CHANNELS)) {
              const holder = document.createElement("div");
              holder.innerHTML = files.svg([token], channel, [-12, 12], () => true);
              document.body.append(holder);
              const paper = holder.querySelector("rect");
              const boxes = [...holder.querySelectorAll("text, rect[width='10']")].slice(0, -1)
                .filter((part) => part !== paper).map((part) => part.getBoundingClientRect());
              n = boxes.length;
              boxes.forEach((a, i) => boxes.slice(i + 1).forEach((b) => {
                const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
                const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
                if (wide > 0.5 && high > 0.5) found.push(channel.name);
              }));
            }
            return [n, found];
        }"""
    )
    assert n_boxes == 3 + 21
    assert overlaps == []


@pytest.mark.ui
def test_every_space_at_the_ends_of_a_token_is_seen(page, served):
    texts = ["  two ", "   ", " one", "mid dle", "\n  "]
    rows = [LIVE_ROW | {"position": i, "token_text": text} for i, text in enumerate(texts, 1)]
    alone = open_component(page, served, payload(rows))
    shown = alone.locator(".tok").all_text_contents()
    assert shown == ["··two·", "···", "·one", "mid dle", "⏎\n··"]
    assert alone.locator(".tok").first.locator(".gap").all_text_contents() == ["··", "·"]


@pytest.mark.ui
def test_a_scale_from_the_text_ends_where_its_values_end(page, served):
    page.goto(served.link(f"/tokens?run={QUICK}"))
    page.locator(".tok").first.wait_for()
    scales = page.evaluate(
        """() => {
            const { CHANNELS, domain } = window.acftTokens;
            const tokens = [{ b: -2, k: 0 }, { b: 0, k: 0 }];
            return ["base", "kl"].map((name) => domain(CHANNELS[name], tokens, true));
        }"""
    )
    assert scales == [[-2, 0], [0, 1]]


@pytest.mark.ui
def test_a_key_that_leaves_the_three_rows_leaves_them_in_the_address_too(page, served):
    page.goto(served.link(f"/tokens?run={QUICK}&view=three"))
    page.locator(".tok").first.focus()
    page.keyboard.press("2")
    three = page.get_by_role("button", name="Three rows")
    assert three.get_attribute("aria-pressed") == "false"
    assert "view=" not in page.url


@pytest.mark.ui
def test_every_colour_of_a_text_has_a_scale_with_numbers(page, served):
    page.goto(served.link(f"/tokens?run={QUICK}&channel=kl&border=guidance"))
    page.locator(".tok").first.wait_for()
    keys = page.locator(".token-key")
    assert keys.all_text_contents() == [
        "KL(guided ‖ policy)0.01.0 nats", "Underline: Guidance−3.03.0 nats",
    ]  # fmt: skip
    page.get_by_role("button", name="Three rows").click()
    assert keys.all_text_contents() == [
        f"log p, {name}−8.00.0 nats" for name in ("base", "guided", "tuned")
    ]
    bars = [bar.inner_html() for bar in page.locator(".token-scale").all()]
    assert len(set(bars)) == 3


@pytest.mark.ui
def test_an_underline_tells_its_value_and_marks_what_lies_beyond_its_scale(page, served):
    rows = [LIVE_ROW, LIVE_ROW | {"position": 2, "logprob_guided": -7.5}]
    alone = open_component(page, served, payload(rows), "&border=guidance")
    tokens = alone.locator(".tok")
    assert [t.get_attribute("aria-label") for t in tokens.all()] == [
        f"typed, KL(guided ‖ policy) 0.01 nats, Guidance {value} nats"
        for value in ("−0.10", "−6.40")
    ]
    assert ["clip-under" in (t.get_attribute("class") or "") for t in tokens.all()] == [False, True]
    assert "▾ those of the underline" in alone.inner_text()
