"""Code beyond the project's own behind the names in a run's settings."""

import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from acft.atomic import sha256
from acft.registry import modules_of
from acft.runs.spec import ROOT, Spec, new_files


def added_code(spec: Spec) -> list[dict[str, str]]:
    """Name and SHA-256 of each module that somebody added and that registers what the run uses.

    Those are modules of other packages, and files in the project's folders that git does not know.
    """
    names = set(_texts(spec.values))
    new = set(new_files(ROOT))
    found = []
    for name in modules_of(names):
        file = getattr(sys.modules.get(name), "__file__", None)
        if file and _is_added(Path(file).resolve(), new):
            found.append({"name": name, "version": "", "sha256": sha256(Path(file))})
    return found


def _is_added(file: Path, new: Collection[str]) -> bool:
    return not file.is_relative_to(ROOT / "acft") or str(file.relative_to(ROOT)) in new


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
