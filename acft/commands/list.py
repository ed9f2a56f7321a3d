"""List the names settings may use: methods, constraints, scorers, oracles, corpora, metrics."""

import argparse
import importlib
import json
from collections.abc import Iterator
from typing import Any

from acft.registry import Registry

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
        "kind", nargs="?", choices=sorted(REGISTRIES), help="only names of this kind"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(args: argparse.Namespace) -> int:
    """Prints the names."""
    kinds = [args.kind] if args.kind else list(REGISTRIES)
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
            "summary": getattr(item, "summary", "") or _first_line(item.__doc__),
            "problem": problem() if problem else "",
        }


def _first_line(docstring: str | None) -> str:
    return (docstring or "").strip().partition("\n")[0]


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
