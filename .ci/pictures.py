#!/usr/bin/env python
"""Draws the pictures in README.md anew: pages about the recorded run, as a browser shows them.

Needs Chromium (``.ci/chromium``) and playwright, which `make test` installs.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from acft.machine import chromium

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "assets"
PICTURES = {"run": ("run", 1240), "tokens": ("tokens?at=25", 840)}
"""Page and height in pixels of each picture."""
WIDTH = 1400
SETTLING_MS = 2000
"""Charts are laid out once more after their first drawing."""


def main() -> int:
    """0 when every picture was drawn."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "acft", "serve", "--demo", "--no-browser", "--port", "0",
                   "--runs", folder]  # fmt: skip
        server = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        try:
            draw(_address(server))
        finally:
            server.terminate()
            server.wait()
    return 0


def _address(server: subprocess.Popen[str]) -> str:
    assert server.stderr is not None
    for line in server.stderr:
        if found := re.search(r"http://[\w.]+:\d+", line):
            return found[0]
    raise SystemExit("the workbench did not start")


def draw(address: str) -> None:
    """Draws every picture from the workbench at an address."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium())
        for name, (page_of, height) in PICTURES.items():
            page = browser.new_page(viewport={"width": WIDTH, "height": height})
            page.goto(f"{address}/{page_of}")
            page.wait_for_function("Number(document.body.dataset.drawn || 0) > 0")
            page.wait_for_timeout(SETTLING_MS)
            page.screenshot(path=str(ASSETS / f"{name}.png"))
            page.close()
        browser.close()


if __name__ == "__main__":
    sys.exit(main())
