"""Requests to one server: JSON in, JSON out, tried again while there is hope."""

import http.client
import json
from dataclasses import dataclass
from time import sleep
from typing import Any
from urllib.parse import urlsplit

from acft.errors import ConfigError, ModelError

FIRST_PAUSE_SECONDS = 0.5
LARGEST_REPLY = 1 << 26
HOPEFUL = (408, 425, 429, 500, 502, 503, 504)
"""Statuses after which another try may succeed."""
SHOWN_LETTERS = 300


@dataclass(frozen=True)
class Place:
    """A parsed address."""

    is_secure: bool
    host: str
    port: int | None
    path: str


class RefusedError(ModelError):
    """The server answered, and said no."""


def parse_address(address: str) -> Place:
    """The parts of an address; a trailing /v1 is left out.

    Raises:
        ConfigError: It is no plain http or https address.
    """
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    is_plain = not (parts.query or parts.fragment or parts.username or parts.password)
    if parts.scheme not in ("http", "https") or not parts.hostname or not is_plain:
        raise ConfigError(
            f"[engine] address = {address!r} is not of the form http://host:port; leave out keys "
            "and passwords, ACFT_ENGINE_KEY is for them"
        )
    path = parts.path.rstrip("/").removesuffix("/v1")
    return Place(parts.scheme == "https", parts.hostname, port, path)


class Server:
    """One server; may be called by several threads."""

    def __init__(
        self, address: str, *, key: str = "", timeout_seconds: float = 300.0, retries: int = 4
    ) -> None:
        self.address = address
        self._place = parse_address(address)
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._timeout = timeout_seconds
        self._retries = retries

    def call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON that the server answers, its text where it is no JSON; posts where ``body``.

        Raises:
            RefusedError: The server says that the request is wrong.
            ModelError: No answer after every try.
        """
        problem = ""
        for attempt in range(self._retries + 1):
            if attempt:
                sleep(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1))
            try:
                status, text = self._once(path, body)
            except (OSError, http.client.HTTPException) as error:
                problem = f"{type(error).__name__}: {error}".rstrip(": ")
                continue
            if status < http.client.MULTIPLE_CHOICES:
                return _json(text)
            problem = f"status {status}: {text[:SHOWN_LETTERS].strip()}"
            if status not in HOPEFUL:
                raise RefusedError(f"rollout server {self.address} refuses {path} with {problem}")
        raise ModelError(
            f"rollout server {self.address} gives no answer to {path} in {self._retries + 1} tries "
            f"({problem}); is it running, and is [engine] address right?"
        )

    def hurry(self, seconds: float) -> None:
        """From now on there is one more try at most, and so much patience with each."""
        self._timeout = min(self._timeout, seconds)
        self._retries = min(self._retries, 1)

    def _once(self, path: str, body: dict[str, Any] | None) -> tuple[int, str]:
        place = self._place
        kind = http.client.HTTPSConnection if place.is_secure else http.client.HTTPConnection
        # no proxy and no redirect: the request goes where the settings say, or nowhere
        connection = kind(place.host, place.port, timeout=self._timeout)
        try:
            content = None if body is None else json.dumps(body).encode()
            method = "GET" if body is None else "POST"
            connection.request(method, place.path + path, content, self._headers)
            reply = connection.getresponse()
            data = reply.read(LARGEST_REPLY + 1)
        finally:
            connection.close()
        if len(data) > LARGEST_REPLY:
            raise ModelError(
                f"rollout server {self.address} answers {path} with more than {LARGEST_REPLY} bytes"
            )
        return reply.status, data.decode(errors="replace")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
