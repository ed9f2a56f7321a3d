"""The settings text between browser and server: edits go up, the text they make comes back."""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from acft.errors import ConfigError
from acft.ui.parts import settings_text
from acft.ui.web.dom import HEAD, scripts, sent

RESTORE = """() => {
  const kept = (name) => sessionStorage.getItem(name) || "";
  const asked = new URLSearchParams(location.search);
  const [visit] = performance.getEntriesByType("navigation");
  const isAgain = visit && ["reload", "back_forward"].includes(visit.type);
  const isNew = (asked.get("preset") || asked.get("from")) && !isAgain;
  const draft = isNew ? "" : kept("acft-draft");
  if (!draft && kept("acft-hand")) sessionStorage.setItem("acft-before", JSON.stringify({
    text: kept("acft-draft"), query: JSON.parse(kept("acft-hand")),
    edits: JSON.parse(kept("acft-edits") || "[]"), isHand: true,
  }));
  if (!draft)
    ["acft-edits", "acft-hand", "acft-grid"].forEach((name) => sessionStorage.removeItem(name));
  return [draft];
}"""
"""The tab's draft, unless a link just asked for another text; a reload keeps what was edited.

Edits of the form that no answer has brought yet are kept beside it, in ``acft-edits``, the lines of
a grid in ``acft-grid``, and where a text came from that was edited by hand, in ``acft-hand``. One
that a link replaces can be brought back from ``acft-before``.
"""
KEEP = """(text) => {
  sessionStorage.setItem("acft-draft", text);
  window.acft?.draft?.shown(text);
  return [text];
}"""
CHECK = "check"
"""Key of an answer that asks the browser to have its text checked."""

MOST_EDITS = 200
"""More than anybody makes; each reads the whole text anew, and whoever sees the page may ask."""
MOST_LETTERS = 500_000
"""Read for all edits of a question together, which takes some two seconds."""


def draft() -> gr.HTML:
    """An invisible component whose event ``ask`` carries the text and the edits to make in it."""
    return gr.HTML(
        sent(None),
        html_template="<div></div>",
        js_on_load="window.acft.draft.start(element, props, trigger, watch); /* 'ask' */",
        apply_default_css=False,
        head=HEAD + scripts("draft.js"),
        elem_classes="none",
    )


def answered(question: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The text after the edits of a question, and what the browser is told of it.

    Edits wait in a text that is no TOML: none is made, and the browser shows the text as it is.
    """
    text = str(question.get("text", ""))
    told: dict[str, Any] = {"number": question.get("number"), "applied": False}
    edits = question.get("edits", [])
    if len(edits) > MOST_EDITS or len(edits) * len(text) > MOST_LETTERS:
        return text, told
    try:
        for edit in edits:
            text = _edited_where_possible(text, edit)
    except ConfigError:
        return str(question.get("text", "")), told
    return text, {**told, "applied": True, "text": text}


def _edited_where_possible(text: str, edit: Mapping[str, Any]) -> str:
    try:
        return edited(text, edit)
    except (LookupError, TypeError, ValueError, AttributeError):
        return text  # Its place in the text is gone; the form shows so.


def edited(text: str, data: Mapping[str, Any]) -> str:
    """The text after one action of the form."""
    if "table" in data:
        return settings_text.add_table(text, str(data["list"]), dict(data["table"]))
    if "index" in data:
        return settings_text.remove_table(text, str(data["list"]), int(data["index"]))
    path = [str(part) for part in data["path"]]
    value = settings_text.written(data["value"], data["kind"]) if "value" in data else None
    return settings_text.assign(text, path, value)
