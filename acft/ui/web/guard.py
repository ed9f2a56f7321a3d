"""Who may talk to the workbench: host, origin and path checks, the launch token, response headers.

Reading is open to whoever reaches the server (loopback by default). Anything that changes a run
needs the launch token, which a browser gets once by opening the address printed at the start.
"""

import hmac
import os
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from acft.errors import ConfigError

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

TOKEN_FILE = ".token"  # noqa: S105 - a file name
LOOPBACK = ("127.0.0.1", "localhost", "::1")
WILDCARDS = ("0.0.0.0", "::", "")  # noqa: S104 - no bind, names of one
"""Hosts to listen on that are no names a browser can ask for."""
USUAL_PORTS = {"http": 80, "https": 443}
BLOCKED = ("/gradio_api/proxy=", "/gradio_api/vibe", "/gradio_api/undo-vibe", "/monitoring",
           "/gradio_api/process_recording", "/gradio_api/run-history", "/gradio_api/runs",
           "/gradio_api/profiling", "/gradio_api/upload", "/gradio_api/file", "/gradio_api/info",
           "/gradio_api/openapi", "/gradio_api/deep_link", "/gradio_api/dev")  # fmt: skip
"""Gradio routes that the workbench does not use."""
CONTENT_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' blob: data:; worker-src 'self' blob:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'"
)
"""Gradio compiles its templates in the browser, hence 'unsafe-eval'; nothing foreign may load."""


@dataclass(frozen=True)
class Bind:
    """Where the server listens and under which conditions."""

    host: str = "127.0.0.1"
    port: int = 7860
    has_auth: bool = False
    is_public: bool = False
    """The user asked for a bind other than loopback explicitly."""
    hosts: tuple[str, ...] = ()
    """Further names under which browsers reach it, such as that of a proxy; in small letters, and
    with the port where a proxy listens at another than the usual one."""
    is_demo: bool = False
    """Read-only: no handler that changes anything exists."""
    is_space: bool = False
    """Runs as a hosted Space, behind the host's proxy."""
    space_id: str = ""
    """Owner and name of the Space, where the host tells it."""

    @property
    def is_for_all(self) -> bool:
        """Whether it is a Space's demonstration, which everybody may read and nobody can change."""
        return self.is_demo and self.is_space

    @property
    def places(self) -> list[tuple[str, int | None]]:
        """Names and ports of ``hosts``; no port is the usual one."""
        return [place(name) for name in self.hosts]


def check_bind(bind: Bind) -> None:
    """Refuses addresses that others can reach unless that was asked for and is protected.

    Raises:
        ConfigError: The host is not loopback and ``public`` or authentication is missing, or it is
            every address of the machine and nothing says what browsers call it.
    """
    if bind.host in LOOPBACK or bind.is_for_all:
        return
    if not bind.is_public:
        raise ConfigError(
            f"host {bind.host!r} can be reached by other machines; keep 127.0.0.1, or add --public "
            "together with --auth-file"
        )
    if not bind.has_auth:
        raise ConfigError(
            f"--public on host {bind.host!r} needs --auth-file (a file with lines user:password)"
        )
    if bind.host in WILDCARDS and not bind.hosts:
        raise ConfigError(
            f"host {bind.host!r} is every address of this machine; add --allow-host NAME for each "
            "name or address that browsers will ask for"
        )


def launch_token(runs: Path) -> str:
    """The token of this runs directory, made once and readable only by its owner.

    Raises:
        ConfigError: The token file cannot be written or is open to other users.
    """
    path = runs / TOKEN_FILE
    try:
        runs.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        return _existing_token(path)
    except OSError as error:
        raise ConfigError(f"cannot write the launch token {str(path)!r}: {error}") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        token = secrets.token_urlsafe(32)
        file.write(token)
    return token


def _existing_token(path: Path) -> str:
    if path.is_symlink() or path.stat().st_mode & 0o077:
        raise ConfigError(
            f"launch token {str(path)!r} is a link or readable by others; delete it and start again"
        )
    token = path.read_text(encoding="utf-8").strip()
    if len(token) < 32:
        raise ConfigError(f"launch token {str(path)!r} is too short; delete it and start again")
    return token


@dataclass(frozen=True)
class Gate:
    """Knows the launch token and whether a request carries it."""

    token: str
    cookie: str = "acft_token"

    def knows(self, token: str) -> bool:
        """Whether ``token`` is the launch token; takes equally long for every wrong one."""
        return bool(token) and hmac.compare_digest(token.encode(), self.token.encode())

    def admits(self, cookie_header: str) -> bool:
        """Whether a request with this Cookie header may change things."""
        # Programs at other ports of this host set cookies too, of any form.
        return self.knows(cookie_parser(cookie_header).get(self.cookie, ""))


class Guard:
    """ASGI middleware in front of everything Gradio serves."""

    def __init__(self, app: Any, gate: Gate, bind: Bind) -> None:
        self.app = app
        self.gate = gate
        self.bind = bind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers bad requests itself and passes the others on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = self._refusal(scope) or self._exchange(scope)
        if answer is not None:
            await answer(scope, receive, send)  # pyright: ignore[reportArgumentType]
            return
        await self.app(scope, receive, self._with_headers(send))

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        unknown = [name for name in (host, *self._forwarded(headers)) if not self._is_known(name)]
        if unknown:
            return PlainTextResponse(f"unknown host {unknown[0][:80]!r}", status_code=421)
        origin = headers.get("origin")
        if scope["method"] not in {"GET", "HEAD"} and origin and not self._same(origin, host):
            return PlainTextResponse("requests from other sites are refused", status_code=403)
        if scope["path"].startswith(BLOCKED):
            return PlainTextResponse("not available", status_code=404)
        return None

    def _is_known(self, host: str) -> bool:
        if self.bind.is_space:
            return True
        name, _ = _place(f"//{host}")
        known = (*LOOPBACK, *[each for each, _ in self.bind.places])
        is_own = self.bind.is_public and name == self.bind.host
        return name != "" and (name in known or is_own)

    def _forwarded(self, headers: Headers) -> list[str]:
        """The name by which the nearest proxy was asked, where it says so and names are given."""
        given = ",".join(headers.getlist("x-forwarded-host"))
        # Those before the last one are whatever the browser and other proxies said.
        return [given.rpartition(",")[2].strip()] if given and self.bind.hosts else []

    def _same(self, origin: str, host: str) -> bool:
        # A proxy may ask under its own name for the server, not under the one the browser used.
        is_page = origin.partition("://")[2] == host or self._is_allowed(origin)
        return self.bind.is_space or is_page

    def _is_allowed(self, origin: str) -> bool:
        """Whether a page is at one of the further names; another port is another program."""
        usual = USUAL_PORTS.get(origin.partition("://")[0])
        name, port = _place(origin)
        return usual is not None and (name, port or usual) in [
            (each, wanted or usual) for each, wanted in self.bind.places
        ]

    def _exchange(self, scope: Scope) -> Response | None:
        """A redirect that swaps ``?token=`` in the address for a cookie, and drops ``?page=`` of /.

        Gradio takes the latter for the name of a page of its own and fails.
        """
        query = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        path = "/" + scope["path"].lstrip("/")
        kept = [pair for pair in query if pair[0] != "token" and (pair[0], path) != ("page", "/")]
        if scope["method"] not in {"GET", "HEAD"} or kept == query:
            return None
        token, rest = dict(query).get("token", ""), urlencode(kept)
        answer = RedirectResponse(f"{path}?{rest}" if rest else path, status_code=303)
        if self.gate.knows(token) and not self.bind.is_demo:
            is_secret = scope.get("scheme") == "https"
            answer.set_cookie(
                self.gate.cookie, token, httponly=True, samesite="strict", secure=is_secret
            )
        return answer

    def _with_headers(self, send: Send) -> Send:
        async def sending(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "same-origin"
                headers["Content-Security-Policy"] = CONTENT_POLICY
                if not self.bind.is_space:  # a Space lives in its host's frame
                    headers["Content-Security-Policy"] = CONTENT_POLICY + "; frame-ancestors 'none'"
                    headers["X-Frame-Options"] = "DENY"
                if self.bind.is_demo or self.bind.is_space:  # its texts are for no search engine
                    headers["X-Robots-Tag"] = "noindex"
            await send(message)

        return sending


def place(name: str) -> tuple[str, int | None]:
    """Host and port of a name to be allowed; no host where there is none, no port if not named."""
    is_bare = name.count(":") > 1 and not name.startswith("[")
    return _place(f"//[{name}]" if is_bare else f"//{name}")


def _place(address: str) -> tuple[str, int | None]:
    """Host, in small letters, and port of an address; empty and none where they are missing."""
    try:
        parts = urlsplit(address)
        found = parts.hostname or "", parts.port
    except ValueError:
        return "", None
    return found


def read_auth(path: Path) -> list[tuple[str, str]]:
    """User and password pairs of an auth file.

    Raises:
        ConfigError: The file is missing, readable by others, or has a line without a colon.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"auth file {str(path)!r} is readable by others; chmod 600 it")
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise ConfigError(f"cannot read auth file {str(path)!r}: {error}") from None
    pairs = [line.partition(":")[::2] for line in lines if line and not line.startswith("#")]
    if not pairs or any(not user or len(password) < 8 for user, password in pairs):
        raise ConfigError(
            f"auth file {str(path)!r} needs lines user:password with passwords of 8 or more letters"
        )
    return [(user, password) for user, password in pairs]
