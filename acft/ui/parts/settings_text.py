"""Editing a settings text (TOML) without losing comments or order."""

import shlex
from collections.abc import Sequence
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT

from acft.config import read_override, toml_value
from acft.errors import ConfigError
from acft.settings import RunSettings, as_asked
from acft.ui.control import limit_text

LISTS = {name: RunSettings.model_fields[name] for name in ("corpus", "constraint")}
"""Settings that are lists of tables, with their defaults."""


def parse(text: str) -> dict[str, Any]:
    """Plain values of a settings text.

    Raises:
        ConfigError: The text is not TOML; says where.
    """
    return _document(text).unwrap()


def assign(text: str, path: Sequence[str], value: Any) -> str:
    """The text with one setting changed; None removes it, so that its default applies."""
    document = _document(text)
    if path[0] in LISTS:
        _listed(document, path[0])
    place = _descend(document, path[:-1])
    name = path[-1]
    if value is not None:
        place[name] = value
    elif name in place:
        del place[name]
    _drop_empty(document, path)
    return tomlkit.dumps(document)


def with_overrides(text: str, overrides: Sequence[str]) -> str:
    """The text with ``a.b=c`` changes written into it, as a launch reads them.

    Raises:
        ConfigError: The text is not TOML, or a change cannot be made.
    """
    if overrides:
        as_asked(parse(text), overrides)
    for override in overrides:
        path, value = read_override(override)
        if path[0] == "method" and "method" not in _document(text):
            text = assign(text, path[:1], RunSettings().method)
        text = assign(text, path, value)
    return text


def add_table(text: str, name: str, table: dict[str, Any]) -> str:
    """The text with one more entry of a list of tables."""
    document = _document(text)
    tables = _listed(document, name)
    tables.append(_table(table) if isinstance(tables, AoT) else table)
    return tomlkit.dumps(document)


def remove_table(text: str, name: str, index: int) -> str:
    """The text without one entry of a list of tables; the only one stays.

    Without it the default would apply.
    """
    document = _document(text)
    tables = _listed(document, name)
    if len(tables) > 1:
        del tables[index]
    return tomlkit.dumps(document)


def written(raw: Any, kind: str) -> Any:
    """What a form field's content means: a value of the kind, or None for an empty field.

    A number that cannot be read stays text, so that the checker can say what is wrong with it.
    """
    if kind == "bool":
        return bool(raw)
    text = str(raw).strip()
    if text == "":
        return None
    if kind in ("int", "float"):
        return _number(text, kind)
    if kind == "flag":
        return {"true": True, "false": False}.get(text, text)
    if kind in ("list", "ints", "floats"):
        parts = [part.strip() for part in text.split(",") if part.strip()]
        return parts if kind == "list" else [_number(part, kind[:-1]) for part in parts]
    return text


def command(text: str, file: str, before: str, options: str = "") -> str:
    """The command line that launches exactly this text, which was made from that of a file.

    Args:
        text: The settings.
        file: Path of the file; empty where they come from none.
        before: Its text.
        options: What else the command says, quoted.
    """
    changes = overrides(before, text) if file else None
    if changes is None:
        return f"acft launch settings.toml{options}"
    changed = "".join(f" \\\n  --set {shlex.quote(change)}" for change in changes)
    return f"acft launch {shlex.quote(file)}{options}{changed}"


def overrides(before: str, after: str) -> list[str] | None:
    """``a.b=c`` changes that turn one text into the other; None when it takes more than that."""
    try:
        old, new = _leaves(parse(before)), _leaves(parse(after))
    except ConfigError:
        return None
    if old.keys() - new.keys() or any(isinstance(value, dict) for value in new.values()):
        return None
    changed = [key for key in new if key not in old or old[key] != new[key]]
    if any(part.isdigit() and key not in old for key in changed for part in key.split(".")):
        return None
    return [f"{key}={toml_value(new[key])}" for key in changed]


def _document(text: str) -> tomlkit.TOMLDocument:
    limit_text(text)
    try:
        return tomlkit.parse(text)
    except TOMLKitError as error:
        raise ConfigError(f"the settings are not valid TOML: {error}") from None


def default_tables(name: str) -> list[dict[str, Any]]:
    """The entries of a list of tables where a text writes none."""
    default = LISTS[name].get_default(call_default_factory=True)
    return [
        dict(table) if isinstance(table, dict) else table.model_dump(exclude_unset=True)
        for table in default
    ]


def _listed(document: tomlkit.TOMLDocument, name: str) -> Any:
    """A list of tables, written out where the default applied so far."""
    if name not in document:
        document[name] = _tables(default_tables(name))
    return document[name]


def _tables(values: Sequence[Any]) -> AoT:
    tables = tomlkit.aot()
    for value in values:
        tables.append(_table(value))
    return tables


def _table(value: dict[str, Any]) -> Any:
    table = tomlkit.table()
    for key, item in value.items():
        table[key] = item
    return table


def _descend(document: Any, path: Sequence[str]) -> Any:
    place = document
    for name in path:
        if isinstance(place, list):
            place = place[int(name)]
        else:
            if name not in place:
                place[name] = tomlkit.table()
            place = place[name]
    return place


def _drop_empty(document: Any, path: Sequence[str]) -> None:
    is_section = len(path) == 2 and path[0] in document and path[0] not in LISTS
    if is_section and not document[path[0]]:
        del document[path[0]]


def _number(text: str, kind: str) -> Any:
    try:
        return int(text) if kind == "int" else float(text)
    except ValueError:
        return text


def _leaves(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        children = value.items()
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        children = ((str(index), item) for index, item in enumerate(value))
    else:
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, item in children:
        found.update(_leaves(item, f"{prefix}.{key}" if prefix else str(key)))
    return found
