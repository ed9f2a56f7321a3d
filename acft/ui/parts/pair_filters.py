"""Which pairs of a comparison are listed: views, search, category, length, scorer, threshold."""

from collections.abc import Sequence
from dataclasses import replace

from acft.errors import ConfigError
from acft.schema import TOXIC_FROM
from acft.ui.page import Visit
from acft.ui.parts.side_menus import menu_here
from acft.ui.reading.comparing import (
    Comparison,
    counts,
    lengths_of,
    n_tokens,
    searched,
    view_name,
)
from acft.ui.reading.lengths import said
from acft.ui.reading.pairs import Pair
from acft.ui.web.dom import Node, act, el
from acft.ui.web.pager import PART, link


def threshold(text: str) -> float | None:
    """The number of the address; None where it is none, or not one between 0 and 1."""
    try:
        value = float(text or TOXIC_FROM)
    except ValueError:
        return None
    return value if 0.0 <= value <= 1.0 else None


def filters(
    found: Comparison, pairs: Sequence[Pair], visit: Visit, problem: str, *, is_blind: bool
) -> Node:
    """Views and controls; in a blind review none that says anything of the sides."""
    categories = sorted({pair.left.category for pair in found.pairs} - {""})
    kinds = [("", "all prompts"), *((name, name) for name in categories)]
    review = link("compare", visit.query, blind="" if is_blind else "1", view="", part="")
    is_diff = visit.query.get("diff") == "1"
    diff = link("compare", visit.query, diff="" if is_diff else "1")
    marks = el("a.do", "Hide changed words" if is_diff else "Mark changed words", href=diff)
    judged_by, wrong = _judged_by(found, visit)
    return el(
        "div",
        None if is_blind else _tabs(found, pairs, visit),
        el(
            "div.toolbar",
            el("input", type="search", placeholder="Text or /pattern/", data_query="find",
               value=found.choice.find, data_clear=PART, aria_label="Find in texts",
               aria_invalid="true" if problem else None, maxlength="200", **act("search")),
            None if is_blind else judged_by,
            menu_here("category", kinds, found.choice.category, "Prompt category")
            if categories else None,
            menu_here("length", _lengths(found), found.choice.length, "Length of the response"),
            None if is_blind else marks,
            el("a.do", "End blind review, show who won" if is_blind else "Blind review",
               href=review),
            None if is_blind else el("div.actions",
               el("button.do", "Export JSONL", type="button", **act("export", kind="jsonl")),
               el("button.do", "Export for LLM Comparator", type="button",
                  **act("export", kind="llm_comparator"))),
        ),
        [el("p.bad", text, role="alert") for text in (problem, wrong) if text],
    )  # fmt: skip


def _lengths(found: Comparison) -> list[tuple[str, str]]:
    """Lengths of responses, with the number of pairs that search and category leave of each."""
    bounds = lengths_of(found.pairs)
    try:
        left = [n_tokens(p) for p in searched(found.pairs, replace(found.choice, length=""))]
    except ConfigError:  # told beside the field of the search
        left = []
    counted = {n: sum(low <= k <= high for k in left) for n, (low, high) in bounds.items()}
    return [("", "any length"), *((n, f"{said(n, bounds)} ({counted[n]:,})") for n in bounds)]


def _tabs(found: Comparison, pairs: Sequence[Pair], visit: Visit) -> Node:
    tabs = [
        el("a.tab", view_name(name, found.choice.scorer), el("span.count", f"{n:,}"),
           href=link("compare", visit.query, view="" if name == "all" else name, part=""),
           aria_current="true" if name == found.choice.view else None)
        for name, n in counts(pairs, found.choice).items()
    ]  # fmt: skip
    return el("nav.tabs", tabs, aria_label="Views")


def _judged_by(found: Comparison, visit: Visit) -> tuple[list[Node], str]:
    """The scorer and the score from which it calls a text toxic; what is wrong with that score."""
    asked = visit.query.get("threshold", "")
    is_limit = threshold(asked) is not None
    wrong = "" if is_limit else (
        f"threshold {asked!r} is not a number between 0 and 1; {TOXIC_FROM:g} is used")  # fmt: skip
    names = [(name, name) for name in found.judges]
    scorers = menu_here("scorer", names, found.choice.scorer, "Scorer")
    limit = el(
        "input", type="number", min="0", max="1", step="0.05", data_query="threshold",
        value=f"{found.choice.threshold:g}" if is_limit else asked, data_clear=PART,
        aria_label="Threshold", aria_invalid=None if is_limit else "true", **act("refresh"),
    )  # fmt: skip
    by = [el("label.side", "by ", scorers)] if found.judges else []
    return [*by, el("label.side", "toxic from ", limit)], wrong
