"""A form made from the settings schema: every field with its help, default and allowed values."""

import inspect
import re
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from acft.config import toml_value
from acft.inference.fields import Field, as_text, fields_of
from acft.settings import CorpusSettings, RunSettings
from acft.ui.parts.settings_text import default_tables
from acft.ui.web.dom import Node, act, choose, el

HEADINGS = {
    "": "General",
    "model": "Model",
    "adapter": "Adapter",
    "prompts": "Prompts",
    "sampling": "Sampling",
    "engine": "Engine",
    "oracle": "Oracle",
    "schedule": "Schedule",
    "optimizer": "Optimiser",
    "limits": "Limits",
    "evaluation": "Evaluation",
    "corpus": "Corpora",
    "constraint": "Constraints",
    "method": "Method",
}
ORDER = (
    "", "method", "constraint", "model", "corpus", "prompts", "oracle", "schedule", "optimizer",
    "adapter", "sampling", "engine", "evaluation", "limits",
)  # fmt: skip
CHOSEN = ("corpus", "constraint", "method")
"""Sections whose fields depend on what they hold."""
NEVER_TYPED = {"engine": ("address", "folder")}
"""Settings that are refused from a browser, so that the form has no field for them."""
OPEN = ("", "method", "constraint", "schedule")
Described = Mapping[str, Any]
"""Methods and constraints with their settings, as the settings process tells them."""
Told = Mapping[str, str]
"""Problem of each setting, by its dotted name."""
PLACE = re.compile(r"(?:\[([\w.]*)\] ?)?(?:(\w+)(?: = |: ))?")
"""Section and setting at the start of a problem."""


def place_of(problem: str) -> tuple[str, str]:
    """Section and setting that a problem names; empty where it names none.

    One about settings that contradict each other belongs to the first of them.
    """
    found = PLACE.match(problem)
    assert found is not None
    section, name = found[1] or "", found[2] or ""
    if section or name not in HEADINGS:
        return section, name
    names = {field.name for field in section_fields(name)}
    told = (word for word in re.findall(r"\w+", problem[found.end() :]) if word in names)
    return name, next(told, "")


def form(values: Mapping[str, Any], described: Described, problems: Sequence[str]) -> Node:
    """The whole form for the values of a settings text."""
    return el("div.form", [_section(name, values, described, problems) for name in ORDER])


def _section(
    name: str, values: Mapping[str, Any], described: Described, problems: Sequence[str]
) -> Node:
    told = {".".join(filter(None, place_of(line))): line for line in problems}
    if name == "corpus":
        body = _corpora(values, told)
    elif name == "constraint":
        body = _constraints(values, described.get("constraint", {}), told)
    elif name == "method":
        body = _method(values, described.get("method", {}), told)
    else:
        path, sections = ((name,), ()) if name else ((), RunSettings.model_fields)
        body = _fields(section_fields(name), _inside(values, name), path, told, sections)
    about = _about(name)
    changed = _changed(values, name)
    places = [place_of(line) for line in problems]
    bad = sum(place[0].partition(".")[0] == name for place in places if any(place))
    marks = [
        el("span.chip.bad", f"{bad} to fix") if bad else None,
        el("span.chip", f"{changed} set") if changed else None,
    ]
    heading = el("summary", HEADINGS[name], " ", marks, el("span.sub", about) if about else None)
    return el("details.part", heading, body, open=bool(bad) or name in OPEN, key=f"section-{name}")


def section_fields(name: str) -> list[Field]:
    """Fields of a section, none of those in ``CHOSEN``; the empty name is the top level."""
    if name in CHOSEN:
        return []
    if name:
        refused = NEVER_TYPED.get(name, ())
        return [field for field in fields_of(_class(name)) if field.name not in refused]
    return [f for f in fields_of(RunSettings) if f.kind != "table"]


def _class(name: str) -> type[BaseModel]:
    annotation = RunSettings.model_fields[name].annotation
    assert isinstance(annotation, type)
    return annotation


def _about(name: str) -> str:
    if not name or name in CHOSEN:
        return ""
    return (inspect.getdoc(_class(name)) or "").splitlines()[0]


def _inside(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner = values.get(name, {}) if name else values
    return inner if isinstance(inner, Mapping) else {}


def _changed(values: Mapping[str, Any], name: str) -> int:
    inner = values.get(name) if name else None
    if name == "":
        return sum(not isinstance(v, (Mapping, list)) for v in values.values())
    return len(inner) if isinstance(inner, (Mapping, list)) else 0


def _fields(
    fields: Sequence[Field],
    values: Mapping[str, Any],
    path: tuple[str, ...],
    told: Told,
    beside: Container[str] = (),
) -> Node:
    """The fields, and what the values hold that is none of them nor stands ``beside`` them."""
    names = {field.name for field in fields}
    strays = [name for name in values if name not in names and name not in beside]
    return el(
        "div.fields",
        [
            _table(field, values, (*path, field.name), told)
            if field.kind == "table"
            else _field(field, values, (*path, field.name), told)
            for field in fields
        ],
        [_stray(values[name], (*path, name), told) for name in strays],
    )


def _stray(value: Any, path: tuple[str, ...], told: Told) -> Node:
    """What is no setting here, such as one of the method chosen before, with the way to drop it."""
    key = ".".join(path)
    wrong = told.get(key)
    return el(
        "div.field.set.wrong" if wrong else "div.field.set",
        el("b", el("code", path[-1])),
        el("p.mono", toml_value(value)),
        el("p.fault", wrong, id=f"e-{key}") if wrong else None,
        el("button.quiet", "remove", type="button", id=f"f-{key}", aria_label=f"Remove {key}",
           aria_describedby=f"e-{key}" if wrong else None, **act("edit", path=list(path))),
        key=f"stray-{key}",
    )  # fmt: skip


def _table(field: Field, values: Mapping[str, Any], path: tuple[str, ...], told: Told) -> Node:
    """A setting made of others, as it is; a form for it would be as deep as somebody nests them."""
    key, is_set = ".".join(path), field.name in values
    wrong = next((line for name, line in told.items() if f"{name}.".startswith(f"{key}.")), None)
    kind = "div.field.set" if is_set else "div.field"
    return el(
        f"{kind}.wrong" if wrong else kind,
        el("b", el("code", field.name)),
        el("p.mono", toml_value(values[field.name]) if is_set else "not set"),
        el("p.fault", wrong, id=f"e-{key}") if wrong else None,
        el("p.help", with_code(field.help), id=f"h-{key}"),
        el("button.quiet", "edit in the text", type="button", id=f"f-{key}", data_do="line",
           data_field=key, aria_describedby=f"e-{key} h-{key}" if wrong else f"h-{key}"),
        key=key,
    )  # fmt: skip


def _field(field: Field, values: Mapping[str, Any], path: tuple[str, ...], told: Told) -> Node:
    is_set = field.name in values
    value = values.get(field.name, field.default)
    key = ".".join(path)
    reset = el(
        "button.quiet", "use default", type="button", title=f"Default: {field.shown_default}",
        aria_label=f"use default of {key}", **act("edit", path=list(path)),
    )  # fmt: skip
    default = f" Default: {field.shown_default}." if field.shown_default else ""
    wrong = told.get(key)
    kind = "div.field.set" if is_set else "div.field"
    return el(
        f"{kind}.wrong" if wrong else kind,
        el("label", el("code", field.name), for_=f"f-{key}"),
        _control(field, value, path, is_wrong=bool(wrong)),
        el("p.fault", wrong, id=f"e-{key}") if wrong else None,
        el("p.help", with_code(field.help), default, id=f"h-{key}"),
        reset if is_set and not field.required else None,
        key=key,
    )  # fmt: skip


def _control(field: Field, value: Any, path: tuple[str, ...], *, is_wrong: bool) -> Node:
    key = ".".join(path)
    about = f"e-{key} h-{key}" if is_wrong else f"h-{key}"
    common = {"id": f"f-{key}", "name": key, "aria_describedby": about,
              "aria_invalid": "true" if is_wrong else None}  # fmt: skip
    event = act("edit", path=list(path), kind=field.kind)
    if field.kind == "bool":
        return el("input", type="checkbox", checked=bool(value), **common, **event)
    if field.choices:
        chosen, unset = as_text(value), "choose one" if field.required else "not set"
        stray = [] if chosen in field.choices else [
            (chosen, f"{chosen} (not allowed)" if chosen else unset)
        ]  # fmt: skip
        pairs = [*stray, *((choice, choice) for choice in field.choices)]
        return choose(pairs, chosen, **common, **event)
    shown = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else as_text(value)
    mode = "decimal" if field.kind in ("int", "float") else None
    return el("input", type="text", value=shown, inputmode=mode, autocomplete="off",
              maxlength="400", **common, **event)  # fmt: skip


def with_code(text: str) -> list[Node]:
    """Help text with what stands between double backticks as code."""
    parts = text.split("``")
    return [el("code", part) if index % 2 else part for index, part in enumerate(parts) if part]


def _corpora(values: Mapping[str, Any], told: Told) -> Node:
    fields = fields_of(CorpusSettings)
    parts = _entries("corpus", values, lambda table, path: _fields(fields, table, path, told))
    add = act("edit", list="corpus", table={"source": "sotu", "domain": "general"})
    return el("div", parts, el("button.do", "Add a corpus", type="button", **add))


def _constraints(values: Mapping[str, Any], described: Mapping[str, Any], told: Told) -> Node:
    parts = _entries(
        "constraint", values, lambda table, path: _chosen(table, described, path, "kind", told)
    )
    kinds = [
        el("button.do", f"Add {kind}", type="button", title=str(facts.get("summary", "")),
           **act("edit", list="constraint", table={"kind": kind}))
        for kind, facts in described.items()
    ]  # fmt: skip
    return el("div", parts, el("div.actions", kinds))


def _method(values: Mapping[str, Any], described: Mapping[str, Any], told: Told) -> Node:
    table = values.get("method")
    if not isinstance(table, Mapping):
        table = {"name": "acft"}
    return _chosen(table, described, ("method",), "name", told)


def _chosen(
    table: Mapping[str, Any],
    described: Mapping[str, Any],
    path: tuple[str, ...],
    selector: str,
    told: Told,
) -> Node:
    """A table whose further fields depend on one of its values."""
    name = str(table.get(selector, ""))
    choices = tuple(described) or ((name,) if name else ())
    summary = described.get(name, {}).get("summary", "")
    chooser = Field(selector, "text", summary, name, choices, required=True)
    fields = [Field.from_description(item) for item in described.get(name, {}).get("fields", [])]
    # Of a kind that is unknown, or not described yet, nothing can be said to be no setting.
    return _fields([chooser, *fields], table, path, told, () if name in described else table)


def _entries(
    name: str, values: Mapping[str, Any], body: Callable[[Mapping[str, Any], tuple[str, ...]], Node]
) -> list[Node]:
    """The entries of a list of tables, or those that apply by default."""
    written = values.get(name)
    tables = written if isinstance(written, list) else default_tables(name)
    return [
        _entry(name, index, len(tables), body(table, (name, str(index))))
        for index, table in enumerate(tables)
        if isinstance(table, Mapping)
    ]


def _entry(name: str, index: int, n: int, body: Node) -> Node:
    remove = el(
        "button.quiet", "remove", type="button", aria_label=f"Remove {name} {index + 1}",
        **act("edit", list=name, index=index),
    )  # fmt: skip
    return el(
        "fieldset.entry",
        el("legend", f"{index + 1}"),
        body,
        remove if n > 1 else None,
        key=f"{name}-{index}",
    )
