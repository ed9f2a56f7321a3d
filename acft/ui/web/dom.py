"""Page fragments as plain data, drawn by ``static/acft.js`` with ``textContent`` only.

A node is a string or ``[tag, attributes, *children]``. No string is ever parsed as HTML, so model
text cannot become code, whatever it contains.
"""

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import gradio as gr
import orjson

from acft.schema import TOXIC_FROM
from acft.ui.web.hot_words import is_hot

Node = str | list[Any]
Child = Node | Iterable[Any] | None

ASSETS = "acft-static"
"""Path under which the files of ``static/`` are served."""


def scripts(*names: str) -> str:
    """The tags that load files of ``static/``, each after those before it."""
    return "".join(f'<script src="{ASSETS}/{name}"></script>' for name in names)


HEAD = scripts("theme.js", "acft.js")
"""What every view needs."""


def el(tag: str, *children: Child, **attributes: Any) -> Node:
    """A node; ``tag`` may carry classes (``"div.card"``), attribute names use ``_`` for ``-``.

    Attributes that are None or False are left out; True becomes an empty value.
    """
    name, *classes = tag.split(".")
    attrs: dict[str, Any] = {"class": " ".join(classes)} if classes else {}
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attrs[key.rstrip("_").replace("_", "-")] = "" if value is True else _plain(value)
    return [name, attrs, *_flat(children)]


def act(event: str, **argument: Any) -> dict[str, str]:
    """Attributes that make a control send ``event`` with its argument to the server."""
    return {"data_act": event, "data_arg": json.dumps(argument)}


def settle(**shown: str) -> dict[str, str]:
    """Attributes that put what is shown into the address, which named it or left it out.

    The address then leads to the same when something newer is there.
    """
    return {"data_here": json.dumps(shown)}


def choose(
    pairs: Iterable[tuple[str, str]], chosen: str, label: str = "", **attributes: Any
) -> Node:
    """A menu of values with their texts; what it does with the picked one is in ``attributes``."""
    options = [el("option", text, value=v, selected=v == chosen) for v, text in pairs]
    return el("select", options, aria_label=label or None, **attributes)


def veil(text: str, toxicity: float | None, *, in_link: bool = False) -> Node:
    """Text that stays blurred until revealed when a scorer calls it toxic, else plain text.

    One that nobody scored, such as a prompt, is blurred for a word that is toxic by itself. Inside
    a link it has no button of its own and follows the choice for the whole visit.
    """
    is_toxic = is_hot(text) if toxicity is None else toxicity >= TOXIC_FROM
    if not is_toxic:
        return el("span.text", text)
    quiet = {"quiet": ""} if in_link else {}
    told = "" if toxicity is None else f"{toxicity:.2f}"
    return ["veil", {"score": told, **quiet}, text]


def veiled(*content: Child) -> Node:
    """Text, plain or marked, that stays blurred until revealed, whatever it says."""
    return ["veil", {"score": ""}, *_flat(content)]


def table(
    columns: Sequence[Child],
    rows: Sequence[Sequence[Child]],
    caption: str = "",
    numeric: set[int] | None = None,
    orders: Mapping[int, str] | None = None,
) -> Node:
    """A table with header cells; columns in ``numeric`` are aligned for comparing numbers.

    ``orders`` tells by column how rows are sorted (``ascending``, ``descending``, ``none``). A row
    has the key of its first cell that has one.
    """
    numbers, sorts = numeric or set(), orders or {}
    # On a phone rows become blocks without a head; cells then carry the name of their column.
    labels = [_name_of(column) or None for column in columns]
    head = [
        _cell("th", index, cell, numbers, scope="col", aria_sort=sorts.get(index))
        for index, cell in enumerate(columns)
    ]
    body = [
        el(
            "tr",
            [
                _cell("td", index, cell, numbers, data_label=labels[index])
                for index, cell in enumerate(row)
            ],
            key=next(filter(None, map(_key, row)), None),
        )
        for row in rows
    ]
    label = el("caption.sr", caption) if caption else None
    grid = el("table", label, el("thead", el("tr", head)), el("tbody", body))
    return el("div.scroll", grid, tabindex="0", role="region", aria_label=caption or "table")


def _name_of(column: Child) -> str:
    """What a head cell says before anything else that it holds."""
    own = column[2:] if isinstance(column, list) else []
    lead = list(itertools.takewhile(lambda child: isinstance(child, str), own))
    return "".join(map(str, lead)) or text_of(column)


def notice(error: Exception) -> Node:
    """What an error says, in place of a part of a page or above it."""
    return el("div.notice.bad", str(error), role="alert")


def fact(name: str, value: str, note: str = "") -> Node:
    """A tile with one number, what it is called and what must be known about it."""
    below = el("span.note", note) if note else None
    return el("div.fact", el("span.name", name), el("span.value", value), below)


def unbroken(parts: Sequence[str]) -> list[Node]:
    """The parts that are not empty with dots between them, where alone a line may break."""
    whole = [el("span.whole", part) for part in parts if part]
    return [node for part in whole for node in (" · ", part)][1:]


def sql_behind(what: str, sql: str) -> Node:
    """The query behind a table or chart, folded, to be read and copied."""
    copy = el("button.do", "Copy query", type="button", data_do="copy", data_text=sql)
    return el("details", el("summary", f"SQL behind this {what}"),
              el("pre.log", sql, tabindex="0"), el("div.actions", copy))  # fmt: skip


def text_of(node: Any) -> str:
    """All text inside a node, for tests and for plain-text export."""
    if isinstance(node, str):
        return node
    return "".join(text_of(child) for child in node[2:]) if isinstance(node, list) else ""


def sent(value: Any) -> str:
    """A node or figure as JSON text, NaN and infinity as null.

    Gradio hands a text on as it is; through lists and dicts it searches for files, several times,
    which costs more than all else that a page does. It takes the text for HTML and warns of tags,
    hence no bracket stays one.
    """
    text = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return text.replace("<", r"\u003c")


def view(value: Node | None = None, acts: tuple[str, ...] = (), **options: Any) -> gr.HTML:
    """A component that shows a node; ``act`` controls send the events named in ``acts``."""
    names = ", ".join(f"'{name}'" for name in acts)
    is_awaited = "true" if value is None else "false"
    return gr.HTML(
        sent(value),
        html_template='<div class="view"></div>',
        js_on_load=f"window.acft.view(element, props, trigger, watch, [{names}], {is_awaited});",
        apply_default_css=False,
        head=HEAD,
        **options,
    )


def chart(**options: Any) -> gr.HTML:
    """A component that shows a figure of ``charts``; a clicked point's data arrive as ``pick``."""
    return gr.HTML(
        sent(None),
        html_template='<div class="chart"><div class="plot"></div><p class="empty"></p></div>',
        js_on_load="window.acft.chart(element, props, trigger, watch); /* 'pick' */",
        apply_default_css=False,
        head=HEAD + scripts("charts.js"),
        **options,
    )


def sparkline(values: Sequence[float], label: str) -> Node | None:
    """A line as small as a word, ending in the last value; none for fewer than two values."""
    if len(values) < 2:
        return None  # a dash here would read as the sign of the number beside it
    width, height = 84, 22
    drawn = values[:: -math.ceil(len(values) / (width // 2))][::-1]
    low, high = min(drawn), max(drawn)
    span, apart = (high - low) or 1.0, (width - 4) / max(1, len(drawn) - 1)
    points = " ".join(
        f"{2 + i * apart:.1f},{height - 3 - (v - low) / span * (height - 6):.1f}"
        for i, v in enumerate(drawn)
    )
    line = el("polyline", points=points, fill="none", stroke="var(--tuned)", stroke_width="1.5")
    return el(
        "svg.spark", line, viewBox=f"0 0 {width} {height}", width=width, height=height, role="img",
        aria_label=f"{label}: from {values[0]:.3g} to {values[-1]:.3g}, {len(values)} values",
    )  # fmt: skip


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, dict)) else str(value)


def _flat(children: Iterable[Any]) -> list[Node]:
    flat: list[Node] = []
    for child in children:
        if child is None or child is False:
            continue
        if isinstance(child, str) or _is_node(child):
            flat.append(child)
        elif isinstance(child, (int, float)):
            flat.append(str(child))
        else:
            flat.extend(_flat(child))
    return flat


def _is_node(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) >= 2
        and isinstance(value[0], str)
        and isinstance(value[1], dict)
    )


def _key(child: Child) -> str | None:
    return child[1].get("key") if isinstance(child, list) and _is_node(child) else None


def _cell(tag: str, index: int, child: Child, numbers: set[int], **attributes: Any) -> Node:
    return el(f"{tag}.num" if index in numbers else tag, child, **attributes)
