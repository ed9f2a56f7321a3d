"""What style sheet and theme must bring about, measured in a real browser."""

from typing import Any

import pytest
from playwright.sync_api import expect

from acft.errors import ConfigError
from tests.ui.browser import shoot
from tests.ui.conftest import QUICK, FakeSettingsProcess
from tests.ui.test_stories import PATIENCE, server

__all__ = ["server"]
pytestmark = pytest.mark.ui
FULL = """dom => {
  const form = dom.closest(".form"), bottom = (node) => node.getBoundingClientRect().bottom;
  return bottom(form) >= bottom(dom);
}"""
GROUND = {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 22, 27)"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_refusal_stands_on_ground_of_its_own(page, served, monkeypatch, scheme):
    def refuse(*_: Any, **__: Any) -> Any:
        raise ConfigError("not today")

    monkeypatch.setattr(FakeSettingsProcess, "call", refuse)
    page.emulate_media(color_scheme=scheme)
    page.goto(served.link("/"))
    page.get_by_role("button", name="Start the quickstart run").first.click()
    notice = page.locator(".toast-body.error")
    notice.wait_for(timeout=PATIENCE)
    expect(notice).to_have_css("background-color", GROUND[scheme])
    expect(notice).to_have_css("opacity", "1")
    shoot(page, f"refusal-{scheme}")


@pytest.mark.parametrize(("width", "height"), [(1024, 768), (1024, 560)])
def test_the_settings_text_keeps_its_bottom_and_the_verdict_is_in_sight(
    page, served, width, height
):
    page.set_viewport_size({"width": width, "height": height})
    page.goto(served.link("/launch?preset=quickstart"))
    button = page.get_by_role("button", name="Launch", exact=True)
    button.wait_for(timeout=PATIENCE)
    assert page.get_by_label("Settings (TOML)").evaluate(FULL)
    button.scroll_into_view_if_needed()
    expect(button).to_be_in_viewport(ratio=0.9)
    expect(page.get_by_text("Ready.")).to_be_in_viewport(ratio=0.9)


def test_a_step_that_failed_takes_the_place_of_ready_and_is_in_sight(page, server):
    (server.experiments / "quickstart.toml").write_text('title = "hopeless"\n', "utf-8")
    page.set_viewport_size({"width": 1024, "height": 700})
    page.goto(server.link("/launch?preset=quickstart"))
    ready = page.get_by_text("Ready.")
    ready.wait_for(timeout=PATIENCE)
    page.get_by_role("button", name="Try it out first").click()
    reason = page.get_by_text("ran out of memory")
    reason.wait_for(timeout=PATIENCE)
    expect(page.get_by_text("trying it out failed")).to_be_visible()
    expect(ready).to_be_hidden()
    shoot(page, "launch-failed-step")
    expect(reason).to_be_in_viewport()
    page.get_by_label("Settings (TOML)").fill("seed = 8\n")
    expect(ready).to_be_visible(timeout=PATIENCE)


def test_what_is_printed_in_the_dark_is_dark_on_paper(page, served):
    page.emulate_media(color_scheme="dark")
    page.goto(served.link(f"/run?run={QUICK}"))
    name = page.locator("h1.runname")
    name.wait_for(timeout=PATIENCE)
    expect(name).to_have_css("color", "rgb(230, 233, 236)")
    page.emulate_media(media="print")
    expect(name).to_have_css("color", "rgb(28, 33, 38)")


def test_tokens_keep_the_colours_that_tell_their_values_where_colours_are_forced(page, served):
    page.emulate_media(forced_colors="active")
    page.goto(served.link(f"/tokens?run={QUICK}"))
    page.locator(".tok").first.wait_for(timeout=PATIENCE)
    grounds = page.locator(".tok").evaluate_all(
        "all => [...new Set(all.map((dom) => getComputedStyle(dom).backgroundColor))]"
    )
    assert len(grounds) > 2
