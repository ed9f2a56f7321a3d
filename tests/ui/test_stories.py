"""Whole stories in a real browser, against a workbench that is a process of its own."""

import functools
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ui.browser import Watch, ready, shoot

pytestmark = pytest.mark.ui
FAST = """title = "Story"

[schedule]
rounds = 2

[optimizer]
steps_per_round = 12
warmup_steps = 1

[method]
name = "acft"
gate = "{gate}"
"""
ROOT = Path(__file__).parents[2]
PATIENCE = 120_000


class Server:
    """A workbench that can be killed and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self.runs, self.experiments = folder / "runs", folder / "experiments"
        self.experiments.mkdir()
        self.port = _usual_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[str] | None = None

    def preset(self, name: str) -> None:
        """Offers a run that waits in its second round until ``open_gate``."""
        (self.experiments / f"{name}.toml").write_text(FAST.format(gate=self.gate), "utf-8")

    @property
    def gate(self) -> Path:
        return self.experiments / "gate"

    def open_gate(self) -> None:
        self.gate.touch()

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.ui.story_server", str(self.runs),
                   str(self.experiments), str(self.port)]  # fmt: skip
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == "ready"

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def link(self, path: str) -> str:
        token = (self.runs / ".token").read_text().strip()
        joint = "&" if "?" in path else "?"
        return f"{self.address}{path}{joint}token={token}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    made.preset("quickstart")
    made.start()
    yield made
    made.kill()
    made.open_gate()  # workers that wait there end


@functools.cache
def _usual_port() -> int:
    """The port of every workbench of this process, whose scripts the browser has compiled then."""
    return _free_port()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def state(page: Any, words: str) -> None:
    page.locator(".runline .state").filter(has_text=words).wait_for(timeout=PATIENCE)


def test_launch_watch_reload_restart_finish_tokens_compare_export(page, server, tmp_path):
    watch = Watch(page, server.address)
    page.goto(server.link("/"))
    page.get_by_role("button", name="Start the quickstart run").first.click()
    page.wait_for_url(re.compile(r"/run\?run="), timeout=PATIENCE)
    state(page, "running")
    page.locator(".plot .main-svg").first.wait_for(timeout=PATIENCE)
    shoot(page, "story-1-live")
    page.reload()
    state(page, "running")
    watch.check()

    watch.is_expecting_loss = True
    server.kill()
    page.get_by_text("Connection to the server was lost").wait_for(timeout=PATIENCE)
    server.start()
    state(page, "")
    page.wait_for_timeout(2000)
    watch.is_expecting_loss = False

    server.open_gate()
    state(page, "finished")
    page.get_by_role("heading", name="Before and after").wait_for(timeout=PATIENCE)
    shoot(page, "story-2-finished", full=True)

    page.get_by_role("link", name="Tokens", exact=True).last.click()
    page.locator(".tok").first.wait_for(timeout=PATIENCE)
    page.get_by_text("sum agrees").wait_for(timeout=PATIENCE)
    shoot(page, "story-3-tokens")

    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Compare").click()
    page.get_by_role("link", name=re.compile("^regressed")).click()
    ready(page)
    with page.expect_download() as saving:
        page.get_by_role("button", name="Export JSONL").click()
    target = tmp_path / "export.jsonl"
    saving.value.save_as(target)
    assert target.read_text().startswith('{"conditions"')
    watch.check()


def test_a_run_is_stopped_saved_and_resumed(page, server):
    watch = Watch(page, server.address)
    page.goto(server.link("/launch?preset=quickstart"))
    page.get_by_text("Ready.").wait_for(timeout=PATIENCE)
    page.get_by_role("button", name="Launch", exact=True).click()
    page.wait_for_url(re.compile(r"/run\?run="), timeout=PATIENCE)
    state(page, "running")
    page.get_by_role("button", name="Stop after this step").click()
    state(page, "stopped")
    shoot(page, "story-stopped")
    page.get_by_role("button", name="Resume").click()
    state(page, "running")
    server.open_gate()
    state(page, "finished")
    watch.check()


def test_a_run_goes_on_after_a_chosen_round_is_exported_and_deleted(page, server):
    watch = Watch(page, server.address)
    page.goto(server.link("/"))
    page.get_by_role("button", name="Start the quickstart run").first.click()
    page.wait_for_url(re.compile(r"/run\?run="), timeout=PATIENCE)
    page.get_by_text("Round 2 of 2").wait_for(timeout=PATIENCE)
    page.get_by_role("button", name="Stop now").click()
    state(page, "stopped")
    server.open_gate()
    page.get_by_text("Rounds and checkpoints (1)").click()
    page.get_by_role("button", name="Resume after round 1").click()
    state(page, "finished")

    page.get_by_text("Export, free space, delete").click()
    page.get_by_role("combobox", name="Form").select_option("adapter")
    page.get_by_role("button", name="Export", exact=True).click()
    page.get_by_text("is written.").wait_for(timeout=PATIENCE)
    page.get_by_text("Begin every prompt with a bow.").wait_for(timeout=PATIENCE)
    assert page.evaluate("document.activeElement.textContent") == "Export"
    shoot(page, "story-exported", full=True)
    (folder,) = server.runs.glob("*/exports/round-*-adapter")
    assert page.get_by_text(str(folder)).count() == 1

    page.get_by_text("Delete this run").click()
    page.get_by_role("button", name="Delete for good").click()
    page.wait_for_url(re.compile(rf"{server.address}/$"), timeout=PATIENCE)
    assert not folder.parents[1].exists()
    watch.check()


def test_several_runs_are_launched_from_one_text(page, server):
    watch = Watch(page, server.address)
    page.goto(server.link("/launch?preset=quickstart"))
    page.get_by_text("Ready.").wait_for(timeout=PATIENCE)
    page.get_by_text("Several runs at once").click()
    page.get_by_role("textbox", name="Settings to vary").fill("seed")
    page.get_by_text("is not of the form").wait_for(timeout=PATIENCE)
    page.get_by_role("textbox", name="Settings to vary").fill("seed=0|1|2")
    several, text = page.locator("details.several"), page.locator(".code textarea")
    several.get_by_role("button", name="Launch 3 runs").wait_for(timeout=PATIENCE)
    as_it_came = text.input_value()
    text.fill(as_it_came.replace("rounds = 2", "rounds = -2"))
    several.get_by_text("rounds = -2").wait_for(timeout=PATIENCE)
    text.fill(as_it_came)
    page.get_by_role("button", name="Launch 3 runs").click()
    page.wait_for_url(re.compile(rf"{server.address}/$"), timeout=PATIENCE)
    page.get_by_text("queued").nth(1).wait_for(timeout=PATIENCE)
    shoot(page, "story-several")
    assert page.get_by_role("link", name="Story").count() == 3
    watch.check()


def test_two_tabs_see_the_same_run(context, server):
    first, second = context.new_page(), context.new_page()
    first.goto(server.link("/"))
    first.get_by_role("button", name="Start the quickstart run").first.click()
    first.wait_for_url(re.compile(r"/run\?run="), timeout=PATIENCE)
    second.goto(first.url)
    state(second, "running")
    first.get_by_role("button", name="Stop now").click()
    state(first, "stopped")
    state(second, "stopped")


def test_bad_form_values_are_explained_and_cannot_be_launched(page, server):
    watch = Watch(page, server.address)
    page.goto(server.link("/launch?preset=quickstart"))
    page.get_by_text("Ready.").wait_for(timeout=PATIENCE)
    rounds = page.get_by_role("textbox", name="rounds")
    rounds.fill("-3")
    page.get_by_text("1 problem to fix").wait_for(timeout=PATIENCE)
    assert page.get_by_role("button", name="Launch", exact=True).is_disabled()
    shoot(page, "story-bad-value")
    rounds.fill("5")
    page.get_by_text("Ready.").wait_for(timeout=PATIENCE)
    assert "rounds = 5" in page.get_by_label("Settings (TOML)").input_value()
    watch.check()


def test_a_draft_survives_a_reload(page, server):
    page.goto(server.link("/launch"))
    page.get_by_text("Ready.").wait_for(timeout=PATIENCE)
    page.get_by_role("textbox", name="title").fill("My draft")
    page.wait_for_function(
        "document.querySelector('.code textarea').value.includes('My draft')", timeout=PATIENCE
    )
    page.reload()
    page.get_by_text("Ready.").wait_for(timeout=PATIENCE)
    assert "My draft" in page.get_by_label("Settings (TOML)").input_value()


def test_a_second_workbench_only_looks_and_says_who_owns_the_runs(page, server):
    second = Server.__new__(Server)
    second.runs, second.experiments = server.runs, server.experiments
    second.port = _free_port()
    second.address = f"http://127.0.0.1:{second.port}"
    second.start()
    try:
        page.goto(second.link("/"))
        page.locator(".mode", has_text="These runs are supervised by").wait_for(timeout=PATIENCE)
    finally:
        second.kill()


def test_a_killed_workbench_leaves_the_run_alive(page, server):
    page.goto(server.link("/"))
    page.get_by_role("button", name="Start the quickstart run").first.click()
    page.wait_for_url(re.compile(r"/run\?run="), timeout=PATIENCE)
    state(page, "running")
    page.close()
    server.kill()
    server.open_gate()
    run = next(path for path in server.runs.iterdir() if path.is_dir())
    deadline = time.monotonic() + PATIENCE / 1000
    while '"finished"' not in (run / "status.json").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    server.start()
    with urllib.request.urlopen(server.address, timeout=20) as answer:
        assert answer.status == 200
