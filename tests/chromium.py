"""The Chromium of the browser tests: warm for each, and never waited for without a limit."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from acft.machine import chromium

OPTIONS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
PHONE = {"width": 390, "height": 844}

SEEN_WITHIN = 30_000.0
"""Milliseconds until what a test expects to see must be there; busy machines take seconds."""
CLOSES_WITHIN = 60.0
"""Seconds after which a browser that does not close a page is ended.

Closing takes a fifth of a second. Once in some ten thousand pages Chromium never says that one is
closed, and playwright waits for that without a limit.
"""


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """The system's Chromium, since playwright's own cannot be downloaded here."""
    return browser_type_launch_args | {"executable_path": chromium(), "args": list(OPTIONS)}


class Profiles:
    """Browsers with a profile on disk; the last may still answer.

    A profile keeps compiled scripts. A page of Gradio costs one CPU second with them, two without.
    """

    def __init__(self, launch: Callable[[], Any]) -> None:
        self._launch = launch
        self.launched: list[Any] = []

    def warm(self) -> Any:
        """The browser launched last, or another one when that was ended."""
        if not (self.launched and _answers(self.launched[-1])):
            self.launched.append(self._launch())
        return self.launched[-1]


def _answers(context: Any) -> bool:
    return bool(context.pages)  # the first page of a profile stays open, so that the browser does


@pytest.fixture(scope="session")
def profiles(
    browser_type: Any,
    browser_type_launch_args: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Profiles]:
    from playwright.sync_api import expect

    expect.set_options(timeout=SEEN_WITHIN)

    def launch() -> Any:
        folder: Path = tmp_path_factory.mktemp("profile")
        return browser_type.launch_persistent_context(folder, **browser_type_launch_args)

    found = Profiles(launch)
    yield found
    for context in found.launched:
        with ended_if_silent():
            context.close()


@pytest.fixture
def context(profiles: Profiles) -> Iterator[Any]:
    """The browser that tests share, which remembers nothing of the test before but scripts."""
    context = profiles.warm()
    yield context
    with ended_if_silent():
        empty(context)


def empty(context: Any) -> None:
    """Closes what a test opened and forgets what its pages stored."""
    for page in context.pages[1:]:
        page.close()
    context.clear_permissions()
    context.set_storage_state({"cookies": [], "origins": []})


@pytest.fixture
def phone(page: Any) -> Any:
    """A page as wide as a phone's."""
    page.set_viewport_size(PHONE)
    return page


@contextmanager
def ended_if_silent() -> Iterator[None]:
    """Ends the browser when what is done within takes too long, which is then no failure."""
    from playwright.sync_api import Error

    was_ended = threading.Event()

    def end() -> None:
        was_ended.set()
        for process in psutil.Process().children(recursive=True):
            if process.name().startswith("chrom"):
                process.kill()

    timer = threading.Timer(CLOSES_WITHIN, end)
    timer.start()
    try:
        yield
    except Error:
        if not was_ended.is_set():
            raise
    finally:
        timer.cancel()
