"""Stories of a visitor of the read-only workbench, in a real browser."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from acft.eventlog import read_events
from acft.events import to_json
from acft.runs.recording import TAG
from acft.ui.web.guard import Bind
from tests.ui import synthetic
from tests.ui.browser import Watch, ready, shoot
from tests.ui.conftest import QUICK, make_bench

pytestmark = pytest.mark.ui
PATIENCE = 60_000


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory, experiments) -> Iterator[str]:
    """Address of a workbench as a Space serves it, with one recorded run."""
    from acft.ui.app import launch
    from acft.ui.options import Options

    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    runs = tmp_path_factory.mktemp("recorded")
    synthetic.write_run(runs, QUICK)
    (runs / QUICK / "labels.json").write_text(f'{{"tags": ["{TAG}"]}}')
    _stretch(runs / QUICK / "events.jsonl", 1000.0)
    bind = Bind(port=0, is_demo=True, is_space=True, space_id="somebody/acft")
    bench = replace(make_bench(runs, experiments, bind), bind=bind)
    blocks = launch(bench, Options(runs=runs, port=0))
    yield str(blocks.local_url).rstrip("/")
    blocks.close()


def _stretch(path: Path, factor: float) -> None:
    """Makes the recording so long that no slow machine plays it to its end unasked."""
    entries = read_events(path)
    start = entries[0].time
    lines = [to_json(e.event, e.seq, start + (e.time - start) * factor) + "\n" for e in entries]
    path.write_text("".join(lines), "utf-8")


def opened(page: Any, address: str) -> Any:
    page.goto(address)
    ready(page)
    return page


def test_a_visitor_plays_the_recorded_run_as_if_it_were_live(page, space):
    watch = Watch(page, space)
    opened(page, space)
    page.get_by_role("link", name="Play it as if live").click()
    page.get_by_text("Replay of a recorded run.").wait_for(timeout=PATIENCE)
    page.get_by_label("Speed", exact=True).select_option("10")
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Continue").wait_for(timeout=PATIENCE)
    place = page.get_by_label("Place in the recording")
    place.press("Home")
    page.locator(".state.running").wait_for(timeout=PATIENCE)
    shoot(page, "replay-beginning", full=True)
    place.press("End")
    page.get_by_text("Replay over.").wait_for(timeout=PATIENCE)
    page.locator(".state.finished").wait_for(timeout=PATIENCE)
    page.get_by_role("heading", name="Before and after").wait_for(timeout=PATIENCE)
    page.get_by_role("link", name="Show the finished run").click()
    page.get_by_role("link", name="Play as if live").wait_for(timeout=PATIENCE)
    watch.check()


def test_a_control_used_while_another_is_answered_counts_too(page, space):
    opened(page, f"{space}/run?run={QUICK}&play=30")
    page.get_by_role("button", name="Pause").wait_for(timeout=PATIENCE)
    page.get_by_label("Speed", exact=True).evaluate(
        """speed => {
            speed.value = "10";
            speed.dispatchEvent(new Event("change", { bubbles: true }));
            speed.closest(".replay").querySelector("button").click();
        }"""
    )
    page.get_by_role("button", name="Continue").wait_for(timeout=PATIENCE)
    assert page.get_by_label("Speed", exact=True).input_value() == "10"


def test_nothing_can_be_launched_and_the_way_to_do_it_is_shown(page, space):
    watch = Watch(page, space)
    opened(page, f"{space}/launch")
    button = page.get_by_role("button", name="Launch", exact=True)
    button.wait_for(timeout=PATIENCE)
    assert button.is_disabled()
    shown = page.locator("#content").inner_text()
    assert "its server has no handler that launches" in shown
    assert "git clone https://huggingface.co/spaces/somebody/acft" in shown
    link = page.get_by_role("link", name="Duplicate this Space").first
    assert link.get_attribute("href").endswith("/spaces/somebody/acft?duplicate=true")
    assert link.get_attribute("target") == "_blank"
    shoot(page, "space-launch", full=True)
    watch.check()


def test_a_visitor_goes_from_texts_to_tokens_whose_sum_agrees(page, space):
    watch = Watch(page, space)
    opened(page, f"{space}/tokens?run={QUICK}")
    page.get_by_text("sum agrees").wait_for(timeout=PATIENCE)
    page.get_by_text("= training pass").wait_for(timeout=PATIENCE)
    page.locator(".tok").first.focus()
    page.keyboard.press("n")
    page.keyboard.press("Enter")
    page.get_by_role("dialog", name="Token details").wait_for(timeout=PATIENCE)
    shoot(page, "space-tokens", full=True)
    watch.check()


@pytest.mark.parametrize("route", ["", "launch", "run", "compare", "tokens", "rollouts"])
def test_the_read_only_pages_fit_a_phone(phone, space, route):
    opened(phone, f"{space}/{route}?run={QUICK}")
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
