"""Every page in a real browser: opens, is quiet, stays on this machine, shows text as text."""

import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect

from acft.ui.page import PAGES
from acft.ui.pages import compare
from tests.ui.browser import Watch, ready, shoot
from tests.ui.conftest import ATTACKS, HOSTILE, QUICK

pytestmark = pytest.mark.ui
ROUTES = {name: page.route for name, page in PAGES.items()}


@pytest.mark.parametrize("name", sorted(ROUTES))
def test_every_page_opens_quietly_and_loads_nothing_from_elsewhere(page, served, name):
    watch = Watch(page, served.address)
    page.goto(served.link(f"/{ROUTES[name]}?run={QUICK}"))
    ready(page)
    page.wait_for_timeout(1500)
    shoot(page, f"page-{name}", full=True)
    watch.check()
    assert page.get_by_role("navigation", name="Pages").is_visible()


@pytest.mark.parametrize("name", sorted(ROUTES))
def test_every_page_fits_a_phone(phone, served, name):
    phone.emulate_media(color_scheme="dark")
    phone.goto(served.link(f"/{ROUTES[name]}?run={QUICK}"))
    ready(phone)
    phone.wait_for_timeout(1000)
    shoot(phone, f"phone-{name}", full=True)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    for part in phone.locator(".runmenu select, .runmenu .state, nav [aria-current]").all():
        box = part.bounding_box()
        assert box is None or box["x"] + box["width"] <= 390


def test_a_table_wider_than_a_phone_has_a_shadow_where_it_goes_on(phone, served):
    phone.goto(served.link(f"/compare?run={QUICK}"))
    grid = phone.get_by_role("region", name="What each scorer says")
    grid.wait_for()
    assert grid.evaluate("dom => dom.scrollWidth > dom.clientWidth")
    # Two covers move with the table, two shadows stay at the edges.
    assert grid.evaluate("dom => getComputedStyle(dom).backgroundAttachment") == (
        "local, local, scroll, scroll"
    )


@pytest.mark.parametrize(
    ("route", "caption"), [("run", "Measured values"), ("tradeoff", "Trade-off")]
)
def test_measured_values_are_in_sight_on_a_phone(phone, served, route, caption):
    phone.goto(served.link(f"/{route}?run={QUICK}"))
    ready(phone)
    if route == "run":
        phone.get_by_text("Evaluations (").click()
    grid = phone.get_by_role("region", name=caption)
    grid.wait_for()
    assert grid.evaluate("dom => dom.scrollWidth <= dom.clientWidth")
    for cell in grid.get_by_role("cell").all():
        box = cell.bounding_box()
        assert box["x"] + box["width"] <= 390
    shoot(phone, f"phone-values-{route}", full=True)


def test_every_score_of_a_rollout_has_a_line_of_its_own(page, served):
    page.goto(served.link(f"/rollouts?run={QUICK}"))
    scores = page.locator(".score-line")
    scores.first.wait_for()
    heights = scores.evaluate_all("all => all.map((dom) => dom.getClientRects()[0].height)")
    assert max(heights) == min(heights) < 30


@pytest.mark.parametrize("name", sorted(ROUTES))
def test_model_text_is_shown_as_text_on_every_page(page, served, name):
    watch = Watch(page, served.address)
    page.goto(served.link(f"/{ROUTES[name]}?run={HOSTILE}"))
    ready(page)
    page.get_by_role("button", name="Toxic text").click()
    page.wait_for_timeout(1500)
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[src='x']").count() == 0
    watch.check()


def test_every_attack_is_readable_where_texts_are_listed(page, served):
    page.goto(served.link(f"/rollouts?run={HOSTILE}"))
    ready(page)
    page.get_by_role("button", name="Toxic text").click()
    shown = page.locator("#content").inner_text()
    for attack in ATTACKS:
        assert attack in shown


def test_texts_run_in_their_own_direction_and_no_token_turns_its_neighbours_round(page, served):
    page.goto(served.link(f"/rollouts?run={HOSTILE}"))
    ready(page)
    edges = """([cls, inner, texts]) => {
        const line = document.createElement("p");
        line.className = cls;
        line.dir = cls ? "auto" : "ltr";
        line.append(...texts.map((text) => {
            const part = document.createElement("span");
            part.className = inner;
            part.textContent = text;
            return part;
        }));
        document.querySelector("#content").append(line);
        return [...line.children].map((part) => part.getBoundingClientRect().left);
    }"""
    left = page.evaluate(edges, ["token-line", "tok", ["a\u202e", "b", "c"]])
    assert left == sorted(left)
    right = page.evaluate(edges, ["token-line", "tok", ["\u05d0", "b", "c"]])
    assert right == sorted(right, reverse=True)
    beside = page.evaluate(edges, ["", "text", ["turned\u202e", "b", "c"]])
    assert beside == sorted(beside)


def test_first_content_comes_within_a_second_and_a_half(page, served):
    page.goto(served.link("/"))
    ready(page)
    seconds = []
    for _ in range(5):  # the best of five: other processes may hold the cores
        before = _slowness()
        begin = time.monotonic()
        page.goto(f"{served.address}/run?run={QUICK}")
        page.get_by_role("heading", name="Detoxify").wait_for()
        passed = time.monotonic() - begin
        seconds.append(passed / min(before, _slowness()))  # a spike beside the load excuses nothing
    assert min(seconds) < 1.5


def test_a_toxic_text_is_blurred_until_asked_for(page, served):
    page.goto(served.link(f"/run?run={QUICK}"))
    veil = page.locator(".veil").first
    veil.wait_for()
    assert veil.locator(".veil-text").get_attribute("aria-hidden") == "true"
    veil.get_by_role("button").click()
    assert veil.locator(".veil-text").get_attribute("aria-hidden") == "false"
    hidden = page.locator(".veil:not(.shown)").count()
    assert hidden > 0
    page.get_by_role("button", name="Toxic text").click()
    assert page.locator(".veil:not(.shown)").count() == 0


def test_revealed_texts_stay_revealed_while_the_page_polls(page, served):
    page.goto(served.link(f"/run?run={QUICK}"))
    veil = page.locator(".veil").first
    veil.get_by_role("button").click()
    page.wait_for_timeout(5000)
    assert veil.locator(".veil-text").get_attribute("aria-hidden") == "false"


def test_an_answer_that_came_before_its_component_counts_as_drawn(page, served):
    page.goto(served.link("/about"))
    ready(page)
    more = page.evaluate(
        """() => [["p", {}, "early"], null].map((node) => {
          const before = Number(document.body.dataset.drawn);
          const element = document.createElement("div");
          element.innerHTML = "<div></div>";
          const props = { value: JSON.stringify(node) };
          window.acft.view(element, props, () => {}, () => {}, [], true);
          return [element.textContent, Number(document.body.dataset.drawn) - before];
        })"""
    )
    assert more == [["early", 1], ["", 0]]


def test_the_theme_can_be_chosen_and_is_remembered(page, served):
    page.goto(served.link("/"))
    button = page.get_by_role("button", name="Theme")
    button.click()
    button.click()
    assert "dark" in (page.locator("body").get_attribute("class") or "")
    page.reload()
    page.get_by_role("button", name="Theme: dark").wait_for()


def test_two_fields_filled_quickly_are_both_sent(page, served):
    page.goto(served.link(f"/run?run={QUICK}"))
    page.get_by_text("Measure this policy again").click()
    page.get_by_role("button", name="Choose suites").click()
    page.get_by_role("checkbox", name="fluency").check()
    page.get_by_role("spinbutton", name="prompts").fill("6")
    page.get_by_role("spinbutton", name="continuations").fill("2")
    page.get_by_text("36 responses").wait_for(timeout=60_000)
    assert "measure_prompts=6" in page.url
    assert "measure_fluency=true" in page.url
    assert page.get_by_role("checkbox", name="harness").is_disabled()


def test_charts_that_cannot_be_loaded_say_so(page, served):
    page.route("**/plotly.min.js", lambda route: route.abort())
    page.goto(served.link(f"/run?run={QUICK}"))
    page.get_by_text("The charts could not be loaded").first.wait_for(timeout=60_000)


def test_the_same_file_is_saved_as_often_as_it_is_asked_for(page, served):
    page.goto(served.link(f"/compare?run={QUICK}"))
    button = page.get_by_role("button", name="Export JSONL")
    for _ in range(2):
        expect(button).not_to_have_attribute("aria-busy", "true")
        with page.expect_download() as saving:
            button.click()
        assert saving.value.suggested_filename == "comparison.jsonl"


def test_what_was_exported_is_told_beside_the_button(page, served):
    page.goto(served.link(f"/compare?run={QUICK}"))
    ready(page)
    button = page.get_by_role("button", name="Export JSONL")
    with page.expect_download():
        button.click()
    told = page.get_by_text(re.compile(r"^Saved \d"))
    told.wait_for()
    assert abs(told.bounding_box()["y"] - button.bounding_box()["y"]) < 300


@pytest.mark.parametrize("has_clipboard", [True, False])
def test_a_text_is_copied_and_the_label_returns_however_often_it_is_pressed(
    page, served, has_clipboard
):
    watch = Watch(page, served.address)
    object_ = "{writeText: (text) => (copied.push(text), Promise.resolve())}"
    page.add_init_script(
        f"""const copied = [];
        window.copied = copied;
        document.addEventListener("copy", () => copied.push(document.activeElement.value));
        Object.defineProperty(navigator, "clipboard",
          {{ value: {object_ if has_clipboard else "undefined"} }});"""
    )
    page.goto(served.link(f"/rollouts?run={QUICK}"))
    page.get_by_text("SQL behind this table").click()
    button = page.locator("[data-do=copy]").first
    # what stands there for a moment may be over before anybody looks
    button.evaluate(
        """(button) => {
          window.labels = [];
          new MutationObserver(() => window.labels.push(button.textContent)).observe(
            button, { childList: true, characterData: true, subtree: true });
        }"""
    )
    button.dblclick()
    page.wait_for_function("window.labels.includes('copied')")
    expect(button).to_have_text("Copy query")
    sql = page.locator("details pre").first.inner_text()
    assert page.evaluate("window.copied") == [sql, sql]
    watch.check()


def test_the_link_to_a_text_is_copied_where_there_is_no_clipboard_object(page, served):
    page.add_init_script(
        """window.copied = [];
        document.addEventListener("copy", () => window.copied.push(document.activeElement.value));
        Object.defineProperty(navigator, "clipboard", { value: undefined });"""
    )
    page.goto(served.link(f"/tokens?run={QUICK}"))
    button = page.locator(".token-exports button").first
    button.click()
    expect(button).to_have_text("copied")
    expect(button).to_have_text("Copy link")
    assert page.evaluate("window.copied") == [page.url]


def test_a_browser_without_the_token_is_told_so_and_cannot_launch(page, served):
    page.goto(f"{served.address}/launch")
    page.get_by_text("Read-only.").wait_for()
    page.get_by_text("Ready.").wait_for()
    assert page.get_by_role("button", name="Launch", exact=True).is_disabled()


def test_about_names_the_port_that_was_taken_where_any_was_asked_for(page, served):
    assert served.bench.bind.port == 0
    page.goto(f"{served.address}/about")
    expect(page.locator("#content")).to_contain_text(served.address.removeprefix("http://"))


def test_the_token_leaves_the_address_at_once(page, served):
    page.goto(served.link(f"/run?run={QUICK}"))
    assert "token" not in page.url


def _slowness() -> float:
    """How much slower than an idle core this machine is now; loaded machines get more time."""
    begin = time.monotonic()
    sum(range(3_000_000))
    return max(1.0, (time.monotonic() - begin) / 0.05)


def test_token_values_are_saved_as_table_drawing_and_picture(page, served):
    page.goto(served.link(f"/tokens?run={QUICK}"))
    page.locator(".tok").first.wait_for()
    starts = {"csv": b'"position"', "svg": b"<svg ", "png": b"\x89PNG"}
    for kind, start in starts.items():
        with page.expect_download() as saving:
            page.get_by_role("button", name=kind.upper(), exact=True).click()
        assert saving.value.suggested_filename.endswith(f".{kind}")
        assert Path(saving.value.path()).read_bytes().startswith(start)


def test_a_token_and_its_place_on_the_curve_point_at_each_other(page, served):
    page.goto(served.address + f"/tokens?run={QUICK}")
    ready(page)
    token = page.locator(".tok").nth(3)
    token.hover()
    here = page.locator(".token-curve line")
    count = page.locator(".tok").count()
    assert float(here.get_attribute("x1")) == pytest.approx(3.5 / count * 1000)
    box = page.locator(".token-curve").bounding_box()
    page.mouse.move(box["x"] + 1, box["y"] + box["height"] / 2)
    assert "pointed" in page.locator(".tok").first.get_attribute("class")
    page.mouse.move(0, 0)
    assert page.locator(".tok.pointed").count() == 0


def test_conditions_of_live_answers_stay_in_all_links_and_leave_the_verdicts_alone(
    page, served, monkeypatch
):
    asked, summary = [], compare.summary
    monkeypatch.setattr(compare, "summary", lambda *a: asked.append(a) or summary(*a))
    page.goto(served.link(f"/compare?run={QUICK}"))
    ready(page)
    once = len(asked)
    page.get_by_label("samples", exact=True).fill("3")
    page.locator("a.do[href*='live_samples=3']").first.wait_for()
    assert len(asked) == once


def test_what_is_looked_for_draws_the_texts_alone_and_a_threshold_the_verdicts_too(
    page, served, monkeypatch
):
    drawn, summary, verdicts = [], compare.summary, compare.compared
    monkeypatch.setattr(compare, "summary", lambda *a: drawn.append("summary") or summary(*a))
    monkeypatch.setattr(compare, "compared", lambda *a: drawn.append("pairs") or verdicts(*a))
    page.goto(served.link(f"/compare?run={QUICK}"))
    ready(page)
    assert drawn == ["pairs", "summary"]
    page.get_by_label("Find in texts").fill("nowhere to be found")
    page.get_by_text("No pair is in this view.").wait_for()
    assert drawn[2:] == ["pairs"]
    page.get_by_label("Threshold").fill("0.9")
    page.locator("a.tab[href*='threshold=0.9']").first.wait_for()
    assert drawn[3:] == ["pairs", "summary"]


def test_the_address_of_a_typed_text_brings_it_back(page, served):
    page.goto(served.link(f"/tokens?run={QUICK}&prompt=One%20%26&response=%3Cb%3E%20two"))
    ready(page)
    expect(page.get_by_label("Prompt")).to_have_value("One &")
    expect(page.get_by_label("Response")).to_have_value("<b> two")


@pytest.mark.parametrize("name", ["__proto__", "constructor", "odd"])
def test_a_channel_that_does_not_exist_is_the_usual_one(page, served, name):
    watch = Watch(page, served.address)
    page.goto(served.link(f"/tokens?run={QUICK}&channel={name}&border={name}&at=99999"))
    page.locator(".tok").first.wait_for()
    assert page.get_by_label("Channel shown as colour").input_value() == "kl"
    watch.check()


def test_filters_that_cannot_be_read_leave_no_chart_waiting(page, served):
    watch = Watch(page, served.address)
    page.goto(served.link(f"/rollouts?run={QUICK}&round=abc"))
    page.get_by_role("alert").filter(has_text="round 'abc' is not a whole number").wait_for()
    page.get_by_text("See the message above.").wait_for()
    watch.check()
    page.get_by_role("link", name="Clear all filters").click()
    page.locator(".texts table").wait_for()


def test_a_filter_begins_with_its_first_page(page, served):
    page.goto(served.link(f"/rollouts?run={QUICK}&part=2"))
    page.get_by_text("51–75 of").wait_for()
    page.get_by_label("policy", exact=True).select_option("base")
    page.get_by_text("1–25 of").wait_for()
    assert "part=" not in page.url


def test_a_warning_leads_to_its_step_in_the_curves_and_the_address_keeps_it(page, served):
    watch = Watch(page, served.address)
    page.goto(served.link(f"/run?run={QUICK}"))
    page.get_by_role("button", name="Step 24").click()
    marked = """() => [...document.querySelectorAll(".js-plotly-plot")].filter(
      (plot) => (plot.layout.shapes || []).some((s) => s.x0 === 24 && s.line.width === 2)).length"""
    page.wait_for_function(f"({marked})() === 6")
    assert "step=24" in page.url
    page.reload()
    page.wait_for_function(f"({marked})() === 6")
    shoot(page, "run-step")
    watch.check()


def test_on_a_phone_verdict_and_launch_button_stay_in_sight(phone, served):
    phone.goto(served.link("/launch"))
    phone.get_by_text("Ready.").wait_for()
    button = phone.get_by_role("button", name="Launch", exact=True)
    for place in ("0", "document.body.scrollHeight / 2", "document.body.scrollHeight"):
        phone.evaluate(f"scrollTo(0, {place})")
        box = button.bounding_box()
        assert box["y"] > 0
        assert box["y"] + box["height"] <= 844
    phone.locator("footer.bottom span").last.scroll_into_view_if_needed()
    phone.evaluate("scrollTo(0, document.body.scrollHeight)")
    last = phone.locator("footer.bottom span").last.bounding_box()
    bar = phone.locator(".verdict").bounding_box()
    shoot(phone, "phone-launch-bar")
    assert last["y"] + last["height"] <= bar["y"]
