"""Links to the parts of a long list."""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar, runtime_checkable
from urllib.parse import urlencode

from acft.ui.web.dom import Node, el

PART = "part"
"""Parameter of addresses. Gradio keeps ``page`` for itself and finds no page of such a name."""


@runtime_checkable
class Counted(Protocol):
    """An answer that knows how long the whole list is."""

    @property
    def total(self) -> int:
        """Entries in all."""
        ...


A = TypeVar("A", bound=Counted)


def pager(route: str, query: Mapping[str, str], total: int, per_page: int) -> Node:
    """Where in the list the reader is, with links forward and back."""
    page = current_page(query, total, per_page)
    last = max(0, (total - 1) // per_page)
    first, end = page * per_page, min(total, (page + 1) * per_page)
    shown = f"{first + 1:,}–{end:,} of {total:,}" if total else "none"
    return el(
        "nav.pager",
        _step(route, query, page - 1, "← previous") if page > 0 else None,
        el("span.side", shown),
        _step(route, query, page + 1, "next →") if page < last else None,
        aria_label="Parts of the list",
    )


def current_page(query: Mapping[str, str], total: int, per_page: int) -> int:
    """Number of the part asked for, from 0, within what there is."""
    return min(_wanted(query), max(0, (total - 1) // per_page))


def asked_part(query: Mapping[str, str], per_page: int, ask: Callable[[int], A]) -> A:
    """The answer to a question about the part asked for, or about the last where it is beyond."""
    wanted = _wanted(query)
    found = ask(wanted)
    there = current_page(query, found.total, per_page)
    return found if there == wanted else ask(there)


def _wanted(query: Mapping[str, str]) -> int:
    text = query.get(PART, "0")
    return int(text) if text.isdecimal() and len(text) < 9 else 0


def link(route: str, query: Mapping[str, str], **changes: str) -> str:
    """Address of a page with some parameters changed; empty values are left out."""
    merged = {**query, **changes}
    kept = {key: value for key, value in merged.items() if value and key != "token"}
    return f"{route}?{urlencode(kept)}"


def _step(route: str, query: Mapping[str, str], page: int, label: str) -> Node:
    return el("a.do", label, href=link(route, query, **{PART: str(page) if page else ""}))
