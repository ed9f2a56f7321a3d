"""Exports that lie in the folder of their run: how they are named, and which there are."""

import re
from dataclasses import dataclass
from pathlib import Path

from acft.schema import RunPaths

NAME = re.compile(r"round-(\d+)-(merged|adapter)(-oracle)?")


@dataclass(frozen=True)
class Export:
    """One form of one round's policy."""

    round: int
    is_merged: bool = True
    """Whole weights; otherwise only the adapter, in peft's form."""
    has_oracle: bool = False

    @property
    def name(self) -> str:
        """Name of its folder."""
        form = "merged" if self.is_merged else "adapter"
        return f"round-{self.round}-{form}{'-oracle' if self.has_oracle else ''}"

    def folder(self, paths: RunPaths) -> Path:
        """Where it lies, or would, in the folder of its run."""
        return paths.exports / self.name


def exports(paths: RunPaths) -> list[Export]:
    """The complete exports in a run's folder, by round; unfinished ones have other names."""
    names = [NAME.fullmatch(folder.name) for folder in paths.exports.glob("*") if folder.is_dir()]
    found = [Export(int(n[1]), n[2] == "merged", bool(n[3])) for n in names if n is not None]
    return sorted(found, key=lambda export: (export.round, export.name))
