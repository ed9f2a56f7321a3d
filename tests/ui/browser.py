"""What every browser test watches: errors, foreign requests; and keeps: screenshots."""

from pathlib import Path
from typing import Any

ARTEFACTS = Path("test-artifacts/ui")
STREAM_ENDED_BY_LEAVING = (
    "AbortError: signal is aborted without reason",
    "AbortError: BodyStreamBuffer was aborted",
)
"""What Gradio's client logs when it ends its own stream of events before a page is left; the second
while an answer is being read.

Source: ``Client.close``, which Gradio's page calls on ``beforeunload``. A lost server or a refused
request reads differently.
"""


class Watch:
    """Collects what must not happen on any page."""

    def __init__(self, page: Any, address: str) -> None:
        self.problems: list[str] = []
        self._address = address
        self.is_expecting_loss = False
        """While the server restarts or the page reloads, failed requests are not a defect."""
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.problems.append(f"page error: {error}"))
        page.on("request", self._request)
        page.on("response", self._response)

    def _console(self, message: Any) -> None:
        is_defect = not message.text.startswith(STREAM_ENDED_BY_LEAVING)
        if message.type == "error" and is_defect and not self.is_expecting_loss:
            self.problems.append(f"console: {message.text}")

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self._address, "data:", "blob:")):
            self.problems.append(f"request leaves loopback: {request.url}")

    def _response(self, response: Any) -> None:
        if response.status >= 400 and not self.is_expecting_loss:
            self.problems.append(f"{response.status} {response.url}")

    def check(self) -> None:
        """Fails on anything collected."""
        assert not self.problems, self.problems


def shoot(page: Any, name: str, *, full: bool = False) -> None:
    """Keeps a screenshot as an artefact."""
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(ARTEFACTS / f"{name}.png"), full_page=full)


def ready(page: Any) -> None:
    """Waits until the server's first answer is drawn."""
    page.wait_for_function("Number(document.body.dataset.drawn || 0) > 0", timeout=30_000)
