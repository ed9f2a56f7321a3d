"""What people write on runs: tags, notes, and that a run is archived."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from acft.runs.directory import find_run, read_labels, write_labels
from acft.runs.locks import FileLock
from acft.schema import Labels

LABELLING = "labels.lock"
"""In a folder of runs: held by whoever reads and writes labels, so that no edit undoes another."""


def label(
    runs_dir: Path,
    run_id: str,
    *,
    tags: Sequence[str] | None = None,
    notes: str | None = None,
    archived: bool | None = None,
) -> Labels:
    """The run's labels after setting those that are given."""
    paths = find_run(runs_dir, run_id)
    given: dict[str, Any] = {"notes": notes, "archived": archived}
    if tags is not None:
        given["tags"] = tuple(sorted({tag.strip() for tag in tags} - {""}))
    changed = {name: value for name, value in given.items() if value is not None}
    # The run's own lock is held by its worker, and labels may be edited while that works.
    with FileLock(runs_dir / LABELLING):
        labels = dataclasses.replace(read_labels(paths), **changed)
        write_labels(paths, labels)
    return labels
