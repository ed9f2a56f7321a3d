"""Base class of all settings, and parsing that reports every problem at once."""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tomlkit
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from acft.errors import ConfigError
from acft.registry import did_you_mean

MANY = 16
"""More names than these are not listed in an error."""
C = TypeVar("C", bound="Config")
Result = TypeVar("Result")


class Config(BaseModel):
    """Frozen, strict settings: unknown keys and wrong types are errors, NaN is refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        validate_default=True,
    )

    @classmethod
    def parse(cls: type[C], values: Mapping[str, Any], where: str = "") -> C:
        """Settings made from plain values.

        Raises:
            ConfigError: Any number of problems; the message has one line for each.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise ConfigError("\n".join(_describe_all(cls, error, where))) from None


def checked(ask: Callable[..., Result], *arguments: Any) -> Result:
    """The result of ``ask(*arguments)``, in a validator: pydantic takes ``ValueError`` alone.

    Raises:
        ValueError: Asking raised a ``ConfigError``.
    """
    try:
        return ask(*arguments)
    except ConfigError as error:
        raise ValueError(str(error)) from None


def read_text(path: Path) -> str:
    """A settings file as it is.

    Raises:
        ConfigError: The file is missing or no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"no settings file at {str(path)!r}; see experiments/ for examples"
        ) from None
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise ConfigError(f"settings file {str(path)!r} is not UTF-8 (byte {byte:#04x})") from None
    except OSError as error:
        why = error.strerror or error
        raise ConfigError(f"cannot read settings file {str(path)!r}: {why}") from None


def read_own(path: Path) -> str:
    """A settings file that a user names as it is; one of a run may hold nothing but defaults.

    Raises:
        ConfigError: The file is missing, empty or no text.
    """
    text = read_text(path)
    if not text.strip():
        raise ConfigError(f"settings file {str(path)!r} is empty; see experiments/ for examples")
    return text


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        ConfigError: The file is missing, not text, or not TOML; says the line.
    """
    try:
        return tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{str(path)!r} is not valid TOML: {error}") from None


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Leaves of nested tables and lists by dotted name, as overrides write them."""
    if isinstance(value, Mapping):
        children = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value):
        children = [(str(index), item) for index, item in enumerate(value)]
    else:
        return {name: value}
    found: dict[str, Any] = {}
    for key, item in children:
        found |= flat(item, f"{name}.{key}" if name else key)
    return found


def apply_overrides(
    values: dict[str, Any], overrides: list[str], option: str = "--set"
) -> dict[str, Any]:
    """A copy of ``values`` with each ``a.b=c`` set; ``c`` is read as TOML, else as a plain string.

    A number in the dotted key selects an entry of a list: ``corpus.0.weight=2``. Errors name the
    ``option`` that the overrides were given by.

    Raises:
        ConfigError: An override has no ``=``, or its key goes through something that is no table.
    """
    result = _copy(values)
    for override in overrides:
        _assign(result, *read_override(override, option), f"{option} {override!r}")
    return result


def read_override(override: str, option: str = "--set") -> tuple[list[str], Any]:
    """The dotted key of ``a.b=c`` in parts, and its value.

    Raises:
        ConfigError: There is no ``=`` or no key.
    """
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        form = "section.key=value" if option == "--set" else "key=value"
        raise ConfigError(f"{option} {override!r} is not of the form {form}")
    return key.strip().split("."), _value(text.strip())


def toml_value(value: Any) -> str:
    """A value as TOML on one line, as ``read_override`` reads it."""
    if isinstance(value, Mapping):
        table = tomlkit.inline_table()
        table.update(value)
        return table.as_string()
    if isinstance(value, (list, tuple)):
        array = tomlkit.array()
        array.extend(value)
        return array.as_string()
    return tomlkit.item(value).as_string()


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value


def _assign(table: Any, path: list[str], value: Any, given: str) -> None:
    *parents, last = path
    for name in parents:
        table = _child(table, name, given)
    if isinstance(table, list) and _is_place(table, last):
        table[int(last)] = value
    elif isinstance(table, dict):
        table[last] = value
    else:
        raise ConfigError(f"{given}: {last!r} is not a setting that can be assigned")


def _child(table: Any, name: str, given: str) -> Any:
    if isinstance(table, dict):
        return table.setdefault(name, {})
    if isinstance(table, list) and _is_place(table, name):
        return table[int(name)]
    raise ConfigError(f"{given}: {name!r} is not a table of settings")


def _is_place(table: list[Any], name: str) -> bool:
    return any(name == str(place) for place in range(len(table)))


def _describe_all(model: type[BaseModel], error: ValidationError, where: str) -> list[str]:
    """One line for each wrong value, however many alternatives of its type it misses."""
    messages: dict[tuple[str, ...], list[str]] = {}
    inputs: dict[tuple[str, ...], Any] = {}
    problems = error.errors()
    for problem in problems:
        if _lacks_its_wrong_items(problem, problems):
            continue
        is_unknown = problem["type"] == "extra_forbidden"
        # pydantic adds the alternative of a union that was tried, such as literal['auto']
        path = tuple(
            str(part)
            for part in problem["loc"]
            if is_unknown or isinstance(part, int) or part.isidentifier()
        )
        messages.setdefault(path, []).append(_message(model, problem, list(path)))
        if problem["type"] not in ("missing", "value_error"):
            inputs[path] = problem["input"]
    return [_line(where, path, inputs, " or ".join(told)) for path, told in messages.items()]


def _lacks_its_wrong_items(problem: ErrorDetails, problems: Sequence[ErrorDetails]) -> bool:
    """Whether a list is said to be too short only since what is wrong in it does not count."""
    place = problem["loc"]
    inside = [other["loc"] for other in problems if other["loc"][: len(place)] == place]
    return problem["type"] == "too_short" and len(inside) > 1


def _line(
    where: str, path: tuple[str, ...], inputs: dict[tuple[str, ...], Any], message: str
) -> str:
    *parents, name = path or ("",)
    section = ".".join(filter(None, [where, *parents]))
    value = f" = {inputs[path]!r}" if path in inputs and name else ""
    place = [f"[{section}]"] if section else []
    return f"{' '.join([*place, *([name + value] if name else [])])}: {message}"


def _message(model: type[BaseModel], problem: ErrorDetails, path: list[str]) -> str:
    if problem["type"] == "extra_forbidden":
        *parents, name = path
        known = _field_names(model, parents)
        nearest = did_you_mean(name, known)
        if nearest or not isinstance(problem["input"], Mapping):
            return f"no such setting{nearest or _all(known)}"
        return f"no such section; there are {', '.join(known)}"
    if problem["type"] == "value_error":
        return str(problem.get("ctx", {}).get("error", problem["msg"]))
    plain = {"tuple_type": "should be a list", "model_type": "should be a table"}
    default = problem["msg"].removeprefix("Input ").removeprefix("Field ")
    default = default.replace("Tuple should", "should").partition(" after validation")[0]
    return plain.get(problem["type"], default[:1].lower() + default[1:])


def _all(names: Sequence[str]) -> str:
    """Where nothing is near, everything is named, unless that is too much to read."""
    return f"; there are {', '.join(names)}" if 0 < len(names) <= MANY else ""


def _field_names(model: Any, parents: list[str]) -> list[str]:
    for parent in parents:
        if parent.isdigit():
            continue
        field = getattr(model, "model_fields", {}).get(parent)
        if field is None:
            return []
        model = _settings_class(field.annotation)
    return sorted(getattr(model, "model_fields", {}))


def _settings_class(annotation: Any) -> Any:
    if isinstance(annotation, type):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _settings_class(argument)
        if isinstance(found, type) and issubclass(found, BaseModel):
            return found
    return annotation
