"""List the names settings may use: methods, constraints, scorers, oracles, corpora, metrics."""

import argparse
import importlib
import json
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, get_args, get_type_hints

from acft.commands._options import add_json
from acft.registry import Registry, all_problems, summary_of

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
SECTIONS = "sections"
"""Kind of what is registered nowhere: the tables of a settings file."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds KIND and ``--json``."""
    parser.add_argument(
        "name", nargs="?", metavar="KIND|NAME",
        help="only names of this kind, or the settings of what bears this name, such as optimizer "
        "for a table of settings files; kinds: " + ", ".join([*REGISTRIES, SECTIONS]),
    )  # fmt: skip
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the names, or the settings that belong to one.

    Raises:
        ConfigError: There is no such kind or name.
    """
    kinds = [args.name] if args.name else [*REGISTRIES, SECTIONS]
    found = {kind: list(entries(kind)) for kind in kinds if kind in (*REGISTRIES, SECTIONS)}
    # types of tables of other files load torch, and no kind bears the name of one
    is_table = bool(args.name) and (not found or args.name in _tables_of_runs())
    known = settings_of(args.name) if is_table else {}
    if args.json:
        print(json.dumps(found | known, indent=2))
        return 0
    texts = [_as_text(found)] if found else []
    texts += filter(None, ["\n".join(f"[!] {problem}" for problem in problems(found))])
    print("\n\n".join([*texts, *([_settings_text(args.name, known)] if known else [])]))
    return 0


@cache
def sections() -> dict[str, type[Any]]:
    """Types of the tables of a settings file by the table's name; ``run`` is what stands in none.

    ``subjects`` are those of an evaluation; ``table`` is a ``table.toml`` with its ``rows`` and
    ``variants``.
    """
    from acft.tables.settings import RowSettings, TableSettings, VariantSettings
    from acft.training.subjects import SubjectSettings

    tables = {"table": TableSettings, "rows": RowSettings, "variants": VariantSettings}
    return _tables_of_runs() | {"subjects": SubjectSettings, **tables}


def _tables_of_runs() -> dict[str, type[Any]]:
    """Types of the tables of a run's settings file by the table's name, and ``run``."""
    from acft.config import Config
    from acft.settings import RunSettings

    found: dict[str, type[Any]] = {"run": RunSettings}
    for name, field in RunSettings.model_fields.items():
        for hint in (field.annotation, *get_args(field.annotation)):
            if isinstance(hint, type) and issubclass(hint, Config):
                found[name] = hint
    return found


def registry(kind: str) -> Registry[Any]:
    """The registry of one kind."""
    module, name = REGISTRIES[kind].split(":")
    return getattr(importlib.import_module(module), name)


def entries(kind: str) -> Iterator[dict[str, str]]:
    """Name, one-line summary and, where there is one, the reason why it cannot be used here."""
    if kind == SECTIONS:
        for name, holder in sections().items():
            yield {"name": name, "summary": summary_of(holder), "problem": ""}
        return
    for name, item in registry(kind).items():
        problem = getattr(item, "problem", None)
        yield {
            "name": name,
            "summary": summary_of(item) if isinstance(item, type) else item.summary,
            "problem": problem() if problem else "",
        }


def problems(kinds: Iterable[str]) -> list[str]:
    """One sentence for each file of these kinds that is not there, or that claims a taken name."""
    return all_problems(registry(kind) for kind in kinds if kind in REGISTRIES)


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
    if name in sections():
        found[SECTIONS] = sections()[name]
    if not found:
        names = [n for kind in REGISTRIES for n in registry(kind).names()]
        known = [*REGISTRIES, SECTIONS, *sections(), *names]
        raise ConfigError(
            f"nothing is registered as {name!r}{did_you_mean(name, known)}; 'acft list' shows "
            f"every name, and the kinds are {', '.join([*REGISTRIES, SECTIONS])}"
        )
    return {kind: list(_settings(item)) for kind, item in found.items()}


def _settings(item: Any) -> Iterator[dict[str, str]]:
    holder = item if hasattr(item, "model_fields") else getattr(item, "settings_type", None)
    plain = get_type_hints(holder) if holder else {}
    for name, field in getattr(holder, "model_fields", {}).items():
        if holder is sections()["run"] and name in (*sections(), "constraint", "method"):
            continue
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
        summaries = [entry["summary"] for entry in entries(kind) if entry["name"] == name]
        lines += [f"{name} ({kind})", *(f"  {summary}" for summary in summaries if summary)]
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
