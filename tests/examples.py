"""A filled-in example of every record that is written to a run directory."""

import dataclasses
from typing import Any, TypeVar

import pyarrow as pa

Record = TypeVar("Record")

VALUES: dict[str, Any] = {"str": "text ü \n", "int": 7, "float": 0.1, "bool": True}


def example(record: type[Record], **known: Any) -> Record:
    """A record whose fields all differ from their defaults."""
    values = {field.name: _value(field.type) for field in dataclasses.fields(record)}  # type: ignore[arg-type]
    return record(**values | known)


def example_rows(schema: pa.Schema) -> pa.Table:
    """One row with no missing value."""
    return pa.table({field.name: [_cell(field.type)] for field in schema}, schema=schema)


def _value(annotation: Any) -> Any:
    name = getattr(annotation, "__name__", "") if isinstance(annotation, type) else ""
    text = name or str(annotation)
    if text.startswith("tuple"):
        return ("a", "b")
    if text.startswith("dict"):
        return {"area/quantity": 0.1 + 0.2}
    if text.startswith("list"):
        return [{"low": 0.0, "n": 3.0}]
    return VALUES[text.split(" | ")[0]]


def _cell(kind: pa.DataType) -> Any:
    if pa.types.is_list(kind):
        return [_cell(kind.value_type)]
    if pa.types.is_boolean(kind):
        return True
    if pa.types.is_floating(kind):
        return 0.5
    return 7 if pa.types.is_integer(kind) else "text"
