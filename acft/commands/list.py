"""List the names settings may use: methods, constraints, scorers, oracles, corpora, metrics."""

import argparse
import importlib
import json
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

from acft.registry import Registry, summary_of

REGISTRIES: dict[str, str] = {
    "methods": "acft.methods.base:METHODS",
    "constraints": "acft.constraints.base:CONSTRAINTS",
    "scorers": "acft.scorers.base:SCORERS",
    "oracles": "acft.oracle.base:ORACLES",
    "decoders": "acft.decoding.base:DECODERS",
    "engines": "acft.engines.base:ENGINES",
    "corpora": "acft.corpora.base:CORPORA",
    "prompts": "acft.corpora.base:PROMPT_SETS",
    "metrics": "acft.metrics.base:METRICS",
    "suites": "acft.benchmarks.base:SUITES",
}
"""Where each registry lies; imported only when asked for."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds KIND and ``--json``."""
    parser.add_argument(
        "name", nargs="?", metavar="KIND|NAME",
        help="only names of this kind, or the settings of what is registered under this name: "
        + ", ".join(REGISTRIES),
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(args: argparse.Namespace) -> int:
    """Prints the names, or the settings that belong to one.

    Raises:
        ConfigError: There is no such kind or name.
    """
    if args.name and args.name not in REGISTRIES:
        known = settings_of(args.name)
        print(json.dumps(known, indent=2) if args.json else _settings_text(args.name, known))
        return 0
    kinds = [args.name] if args.name else list(REGISTRIES)
    found = {kind: list(entries(kind)) for kind in kinds}
    print(json.dumps(found, indent=2) if args.json else _as_text(found))
    return 0


def registry(kind: str) -> Registry[Any]:
    """The registry of one kind."""
    module, name = REGISTRIES[kind].split(":")
    return getattr(importlib.import_module(module), name)


def entries(kind: str) -> Iterator[dict[str, str]]:
    """Name, one-line summary and, where there is one, the reason why it cannot be used here."""
    for name, item in registry(kind).items():
        problem = getattr(item, "problem", None)
        yield {
            "name": name,
            "summary": getattr(item, "summary", "") or summary_of(item),
            "problem": problem() if problem else "",
        }


def settings_of(name: str) -> dict[str, list[dict[str, str]]]:
    """Name, type, default and meaning of each setting of what bears the name, by kind.

    Raises:
        ConfigError: Nothing does.
    """
    from acft.errors import ConfigError
    from acft.registry import did_you_mean

    found = {
        kind: registry(kind).get(name) for kind in REGISTRIES if name in registry(kind).names()
    }
    if not found:
        known = [*REGISTRIES, *(n for kind in REGISTRIES for n in registry(kind).names())]
        raise ConfigError(
            f"nothing is registered as {name!r}{did_you_mean(name, known)}; 'acft list' shows "
            f"every name, and the kinds are {', '.join(REGISTRIES)}"
        )
    return {kind: list(_settings(item)) for kind, item in found.items()}


def _settings(item: Any) -> Iterator[dict[str, str]]:
    holder = item if hasattr(item, "model_fields") else getattr(item, "settings_type", None)
    plain = get_type_hints(holder) if holder else {}
    for name, field in getattr(holder, "model_fields", {}).items():
        default = "" if field.is_required() else repr(field.get_default(call_default_factory=True))
        yield {
            "name": name,
            "type": _type_name(plain[name]),
            "default": default,
            "help": " ".join((field.description or "").split()),
        }


def _type_name(annotation: Any) -> str:
    is_class = isinstance(annotation, type) and not get_args(annotation)
    return annotation.__name__ if is_class else str(annotation).replace("typing.", "")


def _settings_text(name: str, known: dict[str, list[dict[str, str]]]) -> str:
    lines: list[str] = []
    for kind, settings in known.items():
        lines.append(f"{name} ({kind})")
        for one in settings:
            default = f" = {one['default']}" if one["default"] else ", must be given"
            short = one["type"].replace("typing.", "")
            lines += [f"  {one['name']}: {short}{default}", f"      {one['help']}"]
        if not settings:
            lines.append("  no settings of its own")
    return "\n".join(lines)


def _as_text(found: dict[str, list[dict[str, str]]]) -> str:
    lines: list[str] = []
    names = [entry["name"] for group in found.values() for entry in group]
    width = max(map(len, names), default=0)
    for kind, group in found.items():
        lines.append(f"\n{kind}" if lines else kind)
        for entry in group:
            missing = f" [not here: {entry['problem']}]" if entry["problem"] else ""
            lines.append(f"  {entry['name']:{width}}  {entry['summary']}{missing}")
    return "\n".join(lines)
