"""The Chromium of the browser tests, which may not keep a test waiting for ever."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip

CLOSES_WITHIN = 60.0
"""Seconds after which a browser that does not close a window is ended.

Closing takes a fifth of a second. Once in some ten thousand windows Chromium never says that it is
closed, and playwright waits for that without a limit.
"""


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """The system's Chromium, since playwright's own cannot be downloaded here."""
    path = os.environ.get("ACFT_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)))
    return browser_type_launch_args | {"executable_path": path, "args": list(OPTIONS)}


@pytest.fixture(scope="session")
def launched(playwright: Any) -> Iterator[list[Any]]:
    """Browsers launched so far; the last may still answer. They close before playwright ends."""
    browsers: list[Any] = []
    yield browsers
    for browser in browsers:
        with ended_if_silent():
            browser.close()


@pytest.fixture
def browser(
    launched: list[Any], launch_browser: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> Any:
    """The browser that tests share; another one after one that had to be ended."""
    from playwright.sync_api import BrowserContext

    found = one_that_answers(launched, launch_browser)
    close = BrowserContext.close

    def closed_in_time(self: Any, **kwargs: Any) -> None:
        with ended_if_silent():
            close(self, **kwargs)

    monkeypatch.setattr(BrowserContext, "close", closed_in_time)
    return found


def one_that_answers(launched: list[Any], launch: Callable[[], Any]) -> Any:
    """The browser launched last, or another one when that was ended."""
    if not (launched and launched[-1].is_connected()):
        launched.append(launch())
    return launched[-1]


@contextmanager
def ended_if_silent(seconds: float | None = None) -> Iterator[None]:
    """Ends the browser when what is done within takes longer, which is then no failure."""
    from playwright.sync_api import Error

    was_ended = threading.Event()

    def end() -> None:
        was_ended.set()
        for process in psutil.Process().children(recursive=True):
            if process.name().startswith("chrom"):
                process.kill()

    timer = threading.Timer(seconds or CLOSES_WITHIN, end)
    timer.start()
    try:
        yield
    except Error:
        if not was_ended.is_set():
            raise
    finally:
        timer.cancel()
