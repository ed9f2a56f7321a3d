"""Fields of a settings class as plain records: name, kind, help, default, allowed values."""

import types
import typing
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo


@dataclass(frozen=True)
class Field:
    """One setting."""

    name: str
    kind: str
    """bool, flag (a bool by name), int, float, text, list, ints, floats or table."""
    help: str = ""
    default: Any = None
    choices: tuple[str, ...] = ()
    required: bool = False

    @property
    def shown_default(self) -> str:
        """The default in words."""
        if self.required or self.default is None or self.default == "":
            return ""
        if isinstance(self.default, (list, tuple)):
            return ", ".join(map(str, self.default))
        if isinstance(self.default, bool):
            return "on" if self.default else "off"
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)

    @classmethod
    def from_description(cls, values: dict[str, Any]) -> "Field":
        """The record of what another process described."""
        return cls(**{**values, "choices": tuple(values["choices"])})

    def description(self) -> dict[str, Any]:
        """The record as JSON values."""
        default = self.default
        if isinstance(default, (list, tuple)):
            default = [
                item if isinstance(item, (str, int, float)) else str(item) for item in default
            ]
        elif not isinstance(default, (str, int, float, bool, type(None))):
            default = str(default)
        return {**asdict(self), "default": default}


def fields_of(settings: type[BaseModel]) -> list[Field]:
    """Every field of a settings class, in order."""
    return [_field(name, info) for name, info in settings.model_fields.items()]


def kind_of(annotation: Any) -> str:
    """How a form asks for a value of a type."""
    parts = _parts(annotation)
    if any(isinstance(part, type) and issubclass(part, BaseModel) for part in parts):
        return "table"
    if any(part is dict or typing.get_origin(part) is dict for part in parts):
        return "table"
    if annotation is bool:
        return "bool"
    bare = _bare(annotation)
    if bare in (tuple, list) or typing.get_origin(bare) in (tuple, list):
        return next((f"{kind.__name__}s" for kind in (float, int) if kind in parts), "list")
    if typing.get_origin(bare) is typing.Literal:
        parts = {type(value) for value in typing.get_args(bare)}
    if bool in parts:
        return "flag"
    if float in parts:
        return "float"
    return "int" if int in parts else "text"


def choices_of(annotation: Any) -> tuple[str, ...]:
    """Allowed values of a Literal, and of a yes or no that may be left open; else empty."""
    bare = _bare(annotation)
    if typing.get_origin(bare) is typing.Literal:
        return tuple(map(as_text, typing.get_args(bare)))
    return ("true", "false") if bare is bool and annotation is not bool else ()


def as_text(value: Any) -> str:
    """A value as forms show it."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _bare(annotation: Any) -> Any:
    """The type without what annotates it and without None, where one is left."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _bare(arguments[0])
    if origin in (typing.Union, types.UnionType):
        others = [each for each in arguments if each is not types.NoneType]
        return _bare(others[0]) if len(others) == 1 else annotation
    return annotation


def _field(name: str, info: FieldInfo) -> Field:
    is_required = info.is_required()
    return Field(
        name=name,
        kind=kind_of(info.annotation),
        help=info.description or "",
        default=None if is_required else info.get_default(call_default_factory=True),
        choices=choices_of(info.annotation),
        required=is_required,
    )


def _parts(annotation: Any) -> set[Any]:
    found = {annotation}
    for argument in typing.get_args(annotation):
        if isinstance(argument, type) or typing.get_args(argument):
            found |= _parts(argument)
    return found
