"""axe-core on every page, and the keyboard alone through what matters."""

import hashlib
import shutil
import subprocess
import tarfile

import pytest

from acft.ui.page import PAGES
from tests.ui.browser import ready
from tests.ui.conftest import QUICK

pytestmark = pytest.mark.ui
AXE = "axe-core@4.14.1"
AXE_SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
"""Of ``axe.min.js``; fetched from the npm registry when the tests run, never stored here."""
NPM_SECONDS = 120
"""Longer than any answer took; npm itself asks again for a quarter of an hour."""
ROUTES = {name: page.route for name, page in PAGES.items()}


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("axe")
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed, so axe-core could not be run")
    try:
        subprocess.run(
            ["npm", "pack", AXE, "--silent"],
            cwd=folder, capture_output=True, timeout=NPM_SECONDS, check=True,
        )  # fmt: skip
        (path,) = folder.glob("axe-core-*.tgz")
    except (subprocess.SubprocessError, ValueError) as error:
        pytest.skip(f"axe-core could not be had from npm: {error}")
    with tarfile.open(path) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        script = member.read()
    assert hashlib.sha256(script).hexdigest() == AXE_SHA256
    return script.decode()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", sorted(ROUTES))
def test_axe_finds_nothing_serious(page, served, axe, name, scheme):
    page.emulate_media(color_scheme=scheme)
    page.goto(served.link(f"/{ROUTES[name]}?run={QUICK}"))
    ready(page)
    page.wait_for_timeout(2000)
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    bad = [
        f"{v['id']}: {v['nodes'][0]['html'][:120]}"
        for v in found
        if v["impact"] in ("serious", "critical")
    ]
    assert bad == []


def test_the_token_view_is_used_by_keyboard_alone(page, served):
    page.goto(served.link(f"/tokens?run={QUICK}"))
    ready(page)
    page.get_by_role("button", name="Toxic text").click()
    tokens = page.get_by_role("option").filter(has_not_text="log p")
    page.locator(".tok").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.locator(".tok[tabindex='0']").count() == 1
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Token details")
    dialog.wait_for()
    assert "at=2" in page.url
    page.keyboard.press("Escape")
    assert dialog.is_hidden()
    page.keyboard.press("2")
    assert "channel=guidance" in page.url
    page.keyboard.press("n")
    assert tokens.count() > 0


def test_of_three_rows_the_token_that_was_clicked_is_marked_and_no_word_is_broken(page, served):
    page.goto(served.link(f"/tokens?run={QUICK}&view=three"))
    ready(page)
    token = page.locator(".token-line").nth(2).locator(".tok").nth(3)
    token.click()
    assert "at=3" in page.url
    assert token.get_attribute("aria-selected") == "true"
    page.wait_for_timeout(400)
    assert page.locator(".tok[aria-selected=true]").count() == 1
    page.keyboard.press("ArrowRight")
    assert "at=" not in page.url
    page.get_by_role("button", name="Toxic text").click()
    words = page.locator(".tok:has(.gap)")
    assert words.count() == page.locator("wbr + .tok:has(.gap)").count() > 0


def test_a_keyboard_reaches_the_content_past_the_navigation(page, served):
    page.goto(served.link("/"))
    ready(page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"


def test_every_control_can_be_reached_and_has_a_name(page, served):
    for route in ROUTES.values():
        page.goto(served.link(f"/{route}?run={QUICK}"))
        ready(page)
        nameless = page.evaluate(
            """() => [...document.querySelectorAll(`#content button, #content a[href],
            #content select, #content input`)].filter((control) =>
              !(control.textContent.trim() || control.getAttribute('aria-label') || control.title
                || control.labels?.length || control.closest('label'))).map((c) => c.outerHTML)"""
        )
        assert nameless == [], route
