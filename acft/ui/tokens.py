"""A text's tokens with their values under three distributions, for ``static/tokens.js``."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from acft.ui import hot_words
from acft.ui.dom import ASSETS, HEAD, sent
from acft.ui.hot_words import hot_tokens

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


def payload(
    rows: Sequence[Mapping[str, Any]],
    *,
    name: str = "",
    toxicity: float | None = None,
    logged_kl: float | None = None,
    judge: str = "toxicity",
    can_branch: bool = False,
    first: str = "",
) -> dict[str, Any]:
    """What the component draws: tokens, sum-check, and whether the text starts out blurred.

    Args:
        rows: Rows of the guidance table.
        name: Of the sequence.
        toxicity: From 0.5 on the text is blurred.
        logged_kl: What the training pass summed, in nats.
        judge: What says so.
        can_branch: Whether alternatives can be chosen.
        first: Text of the first token where it has no row; empty where it is not known.
    """
    if rows and rows[0]["position"] == 0:
        first, rows = str(rows[0]["token_text"]), rows[1:]
    if not rows:
        return {"empty": "No token was stored for this text."}
    hot = hot_tokens([str(row["token_text"]) for row in rows])
    value: dict[str, Any] = {
        "tokens": [_token(row, is_hot=is_hot) for row, is_hot in zip(rows, hot, strict=True)],
        "name": name,
        "toxicity": toxicity,
        "judge": judge,
        "canBranch": can_branch,
        "first": "" if hot_words.is_hot(first) else first,
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
        head=f'{HEAD}<script src="{ASSETS}/tokens.js"></script>',
        **options,
    )


def _token(row: Mapping[str, Any], *, is_hot: bool) -> dict[str, Any]:
    token = {short: _plain(row[name]) for name, short in COLUMNS.items()}
    if is_hot:
        token["hot"] = True
    token["alt"] = [_alternative(entry) for entry in _entries(row.get("alternatives"))]
    return token


def _alternative(entry: Mapping[str, Any]) -> dict[str, Any]:
    found = {short: _plain(entry.get(name)) for name, short in ALTERNATIVE.items()}
    return {**found, "hot": True} if hot_words.is_hot(str(entry.get("text", ""))) else found


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
