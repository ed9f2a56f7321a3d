"""What a reader chooses on a page stands in its address, and nothing that was typed is lost."""

from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

from tests.ui.conftest import QUICK

pytestmark = pytest.mark.ui


def test_control_scorers_and_further_settings_are_kept_in_the_address(page, served):
    page.goto(served.link(f"/run?run={QUICK}"))
    page.get_by_text("Measure this policy again").click()
    page.get_by_role("button", name="Choose suites").click()
    page.get_by_role("combobox", name="Control").select_option("none")
    page.get_by_role("checkbox", name="jigsaw_tcc").check()
    typed = page.get_by_role("textbox", name="Further settings")
    typed.fill("seed=1\nlimits")
    page.get_by_text("'limits' is not of the form key=value").wait_for(timeout=60_000)
    expect(typed).to_have_value("seed=1\nlimits")
    query = parse_qs(urlsplit(page.url).query)
    assert query["measure_control"] == ["none"]
    assert query["measured_by_jigsaw_tcc"] == ["true"]
    assert query["measure_set"] == ["seed=1\nlimits"]


def test_the_colours_of_the_trade_off_are_kept_in_the_address(page, served):
    page.goto(served.link("/tradeoff"))
    colours = page.get_by_role("combobox", name="Colours")
    colours.select_option("run")
    page.wait_for_url("**by=run**")
    page.reload()
    expect(colours).to_have_value("run")


def test_the_decoder_beside_the_policies_is_kept_in_the_address(page, served):
    page.goto(served.link(f"/compare?run={QUICK}"))
    beside = page.get_by_role("combobox", name="Beside them")
    beside.select_option("rad")
    page.wait_for_url("**live_beside=rad**")
    page.reload()
    expect(beside).to_have_value("rad")
