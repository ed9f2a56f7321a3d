"""What a browser is shown where there is no page."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from html import escape

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from acft.ui.web.dom import ASSETS

Handler = Callable[[Request, Exception], Response]


def absent(pages: Mapping[str, str]) -> Handler:
    """Answers what is not there: browsers with a page that names those there are.

    Args:
        pages: Title by route.
    """

    def answer(request: Request, error: Exception) -> Response:
        if "text/html" not in request.headers.get("accept", ""):
            detail = error.detail if isinstance(error, HTTPException) else "Not Found"
            return JSONResponse({"detail": detail}, status_code=404)
        root = str(request.scope.get("root_path", "")).rstrip("/")
        asked = request.url.path.removeprefix(root).strip("/").partition("/")[0]
        return HTMLResponse(_page(root, pages, _nearest(asked, pages)), status_code=404)

    return answer


def _nearest(asked: str, pages: Mapping[str, str]) -> str | None:
    """The route that was meant; None where nothing is near."""
    names = {_plain(name): route for route, title in pages.items() for name in (route, title)}
    near = get_close_matches(_plain(asked), names, n=1)
    return names[near[0]] if near else None


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _page(root: str, pages: Mapping[str, str], meant: str | None) -> str:
    def link(route: str) -> str:
        return f'<a href="{escape(root)}/{escape(route)}">{escape(pages[route])}</a>'

    files = f"{escape(root)}/{ASSETS}"
    question = f"<p>Did you mean {link(meant)}?</p>" if meant is not None else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>No such page</title>'
        '<meta name="viewport" content="width=device-width">'
        f'<link rel="stylesheet" href="{files}/acft.css"><script src="{files}/theme.js"></script>'
        f'</head><body><main class="view absent"><h1>There is no page here</h1>{question}'
        f"<p>Pages: {', '.join(map(link, pages))}.</p></main></body></html>"
    )
