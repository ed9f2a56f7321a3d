"""A text's tokens with their values under three distributions, for ``static/tokens.js``."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from acft.schema import TOXIC_FROM
from acft.ui.reading.measuring import goes_on
from acft.ui.reading.reader import Run
from acft.ui.web import hot_words
from acft.ui.web.dom import HEAD, scripts, sent
from acft.ui.web.hot_words import hot_tokens

COLUMNS = {
    "position": "i", "token_id": "id", "token_text": "t", "logprob_base": "b",
    "logprob_policy": "p", "logprob_guided": "q", "log_r": "r", "kl_guided_policy": "k",
    "entropy": "h", "in_loss": "in",
}  # fmt: skip
"""Columns of the guidance table and the short names the page uses."""
ALTERNATIVE = {"id": "id", "text": "t", "base": "b", "policy": "p", "guided": "q"}
TOLERANCE = 1e-4
"""Nats by which a sum of shown values may differ from the one the training pass logged."""
LOWEST = -60.0
"""Stands for minus infinity, which JSON cannot carry; e^-60 is shown as 0."""


def none_stored(run: Run) -> str:
    """That a run has no token values, and why it never will or when they come."""
    if why := never_stored(run):
        return f"No token values are stored. {why}"
    if goes_on(run):
        return "No token values are stored yet: they are written at the end of each round."
    return "No token values are stored: no round has kept any."


def never_stored(run: Run) -> str:
    """Why a run can never store token values; empty where it can."""
    if run.status.kind != "training":
        return "A measurement keeps those of no text."
    return "" if run.may_have_oracle else f"The method {run.method} has no oracle to guide a token."


def payload(
    rows: Sequence[Mapping[str, Any]],
    *,
    name: str = "",
    toxicity: float | None = None,
    logged_kl: float | None = None,
    can_branch: bool = False,
    start: int = 0,
    has_address: bool = False,
    first: str = "",
    own: int = 0,
) -> dict[str, Any]:
    """What the component draws: tokens, sum-check, and whether the text starts out blurred.

    Args:
        rows: Rows of the guidance table.
        name: Of the sequence.
        toxicity: Highest score of the text; from ``TOXIC_FROM`` on it is blurred unless it is its
            reader's own.
        logged_kl: What the training pass summed, in nats.
        can_branch: Whether alternatives can be chosen.
        start: Position of the response's first token; those before it cannot be exchanged.
        has_address: Whether the page's address leads to these values.
        first: Text of the first token where it has no row; empty where it is not known.
        own: So many tokens, from the first on, were typed by the reader and are never blurred.
    """
    if rows and rows[0]["position"] == 0:
        first, rows = str(rows[0]["token_text"]), rows[1:]
    if not rows:
        return {"empty": "No token was stored for this text."}
    hot = hot_tokens([str(row["token_text"]) for row in rows])
    marks = [_mark(row, own, is_hot=is_hot) for row, is_hot in zip(rows, hot, strict=True)]
    is_foreign = any("own" not in mark for mark in marks)
    value: dict[str, Any] = {
        "tokens": [_token(row, mark) for row, mark in zip(rows, marks, strict=True)],
        "name": name,
        "toxicity": toxicity,
        "veil": is_foreign and toxicity is not None and toxicity >= TOXIC_FROM,
        "canBranch": can_branch,
        "start": start,
        "hasAddress": has_address,
        "first": "" if not own and hot_words.is_hot(first) else first,
    }
    if logged_kl is not None:
        shown = math.fsum(float(r["kl_guided_policy"] or 0.0) for r in rows if r["in_loss"])
        value["check"] = {
            "shown": shown,
            "logged": logged_kl,
            "tolerance": TOLERANCE,
            "help": "Σ over the tokens shown against what the training pass itself summed",
        }
    return value


def token_view(**options: Any) -> gr.HTML:
    """The component; a chosen alternative arrives as ``branch``."""
    return gr.HTML(
        sent(None),
        html_template='<div class="view tokens"></div>',
        js_on_load="window.acftTokens.view(element, props, trigger, watch); /* 'branch' */",
        apply_default_css=False,
        head=HEAD + scripts("token_values.js", "token_files.js", "tokens.js"),
        **options,
    )


def _mark(row: Mapping[str, Any], own: int, *, is_hot: bool) -> dict[str, bool]:
    """Whether a token is the reader's own, else whether it is blurred whatever the scores."""
    if own and row["position"] < own:
        return {"own": True}
    return {"hot": True} if is_hot else {}


def _token(row: Mapping[str, Any], mark: Mapping[str, bool]) -> dict[str, Any]:
    token = {**{short: _plain(row[name]) for name, short in COLUMNS.items()}, **mark}
    typed = row["token_id"] if "own" in mark else None
    entries = _entries(row.get("alternatives"))
    token["alt"] = [_alternative(entry, is_own=entry.get("id") == typed) for entry in entries]
    return token


def _alternative(entry: Mapping[str, Any], *, is_own: bool) -> dict[str, Any]:
    found = {short: _plain(entry.get(name)) for name, short in ALTERNATIVE.items()}
    is_hot = not is_own and hot_words.is_hot(str(entry.get("text", "")))
    return {**found, "hot": True} if is_hot else found


def _entries(alternatives: Any) -> Sequence[Mapping[str, Any]]:
    if isinstance(alternatives, str):
        return json.loads(alternatives)
    return alternatives if isinstance(alternatives, list) else ()


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return max(value, LOWEST)
    return value
