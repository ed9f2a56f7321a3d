"""Checking and launching settings, which needs every method and constraint and so the tensors."""

import typing
from pathlib import Path
from typing import Any

from acft.config import Config
from acft.constraints import CONSTRAINTS
from acft.errors import ConfigError
from acft.inference.server import Session
from acft.methods.base import METHODS
from acft.runs import launcher
from acft.runs.spec import parse_spec


def check(session: Session, text: str) -> dict[str, Any]:  # noqa: ARG001
    """Problems of a settings text, one line each; none when it can be launched."""
    try:
        spec = parse_spec(text)
    except ConfigError as error:
        return {"problems": str(error).splitlines()}
    return {"problems": [], "title": spec.title}


def launch(
    session: Session,  # noqa: ARG001
    runs: str,
    text: str,
    request_id: str,
    cloned_from: str = "",
) -> str:
    """Id of the queued run."""
    return launcher.launch(Path(runs), text, request_id=request_id, cloned_from=cloned_from)


def describe(session: Session) -> dict[str, Any]:  # noqa: ARG001
    """Methods and constraints with their settings, for the form."""
    return {
        "method": {
            name: {"summary": method.summary, "fields": fields(method.settings_type)}
            for name, method in METHODS.items()
        },
        "constraint": {name: _constraint(item) for name, item in CONSTRAINTS.items()},
    }


def fields(settings: type[Config]) -> list[dict[str, Any]]:
    """Name, type, default and help of every setting of a class."""
    described = []
    for name, field in settings.model_fields.items():
        has_default = not field.is_required()
        described.append(
            {
                "name": name,
                "help": field.description or "",
                "choices": [str(value) for value in choices(field.annotation)],
                "default": field.get_default(call_default_factory=True) if has_default else None,
                "required": not has_default,
                "kind": kind(field.annotation),
            }
        )
    return described


def choices(annotation: Any) -> tuple[Any, ...]:
    """Allowed values of a Literal; empty for all other types."""
    return typing.get_args(annotation) if typing.get_origin(annotation) is typing.Literal else ()


def kind(annotation: Any) -> str:
    """``bool``, ``int``, ``float``, ``text`` or ``list``: how a form asks for a value."""
    if annotation is bool:
        return "bool"
    parts = {annotation, *typing.get_args(annotation)}
    if typing.get_origin(annotation) in (tuple, list):
        return "list"
    if float in parts:
        return "float"
    return "int" if int in parts else "text"


def _constraint(settings: type[Config]) -> dict[str, Any]:
    text = (settings.__doc__ or "").strip().splitlines()
    return {"summary": text[0] if text else "", "fields": fields(settings)}
