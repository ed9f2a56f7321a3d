"""What style sheet and theme must bring about, measured in a real browser."""

from typing import Any

import pytest
from playwright.sync_api import expect

from acft.errors import ConfigError
from tests.ui.browser import shoot
from tests.ui.conftest import FakeSettingsProcess
from tests.ui.test_stories import PATIENCE

pytestmark = pytest.mark.ui
GROUND = {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 22, 27)"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_refusal_stands_on_ground_of_its_own(browser, served, monkeypatch, scheme):
    def refuse(*_: Any, **__: Any) -> Any:
        raise ConfigError("not today")

    monkeypatch.setattr(FakeSettingsProcess, "call", refuse)
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto(served.link("/"))
    page.get_by_role("button", name="Start the quickstart run").first.click()
    notice = page.locator(".toast-body.error")
    notice.wait_for(timeout=PATIENCE)
    expect(notice).to_have_css("background-color", GROUND[scheme])
    expect(notice).to_have_css("opacity", "1")
    shoot(page, f"refusal-{scheme}")
    context.close()
