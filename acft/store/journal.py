"""Comparisons and votes: appended to a file beside the runs, so that the database stays a cache."""

import json
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from acft.store.connection import Store

FILE = "comparisons.jsonl"
COLUMNS = {
    "comparison": ("comparison_id", "time"),
    "vote": ("comparison_id", "time", "item", "choice"),
}


def record_comparison(store: Store, body: Mapping[str, Any]) -> str:
    """Id of a new comparison; ``body`` is what was compared, under which conditions."""
    comparison_id = uuid.uuid4().hex[:12]
    _append(store, {"kind": "comparison", "comparison_id": comparison_id, **body})
    return comparison_id


def record_vote(
    store: Store, comparison_id: str, item: str, choice: str, body: Mapping[str, Any] | None = None
) -> None:
    """Keeps one judgement about one item of a comparison; the newest for an item counts."""
    vote = {"kind": "vote", "comparison_id": comparison_id, "item": item, "choice": choice}
    _append(store, {**(body or {}), **vote})


def load_journal(store: Store) -> None:
    """Makes the tables ``comparisons`` and ``votes`` equal to the file."""
    entries = _read(store.root / FILE)
    rows: dict[str, list[list[Any]]] = {kind: [] for kind in COLUMNS}
    for entry in entries:
        values = [entry.get(name) for name in COLUMNS[entry["kind"]]]
        rows[entry["kind"]].append([*values, json.dumps(entry, sort_keys=True)])
    with store.write() as connection:
        connection.execute("DELETE FROM comparisons")
        connection.execute("DELETE FROM votes")
        if rows["comparison"]:
            connection.executemany("INSERT INTO comparisons VALUES (?, ?, ?)", rows["comparison"])
        if rows["vote"]:
            connection.executemany("INSERT INTO votes VALUES (?, ?, ?, ?, ?)", rows["vote"])


def _append(store: Store, entry: dict[str, Any]) -> None:
    line = json.dumps({**entry, "time": time.time()}, allow_nan=False) + "\n"
    with (store.root / FILE).open("ab") as file:
        if not _ends_with_newline(store.root / FILE):
            file.write(b"\n")
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())
    load_journal(store)


def _ends_with_newline(path: Path) -> bool:
    """Whether a new line can start here; false after a write that was cut short."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            return True
        file.seek(size - 1)
        return file.read(1) == b"\n"


def _read(path: Path) -> list[dict[str, Any]]:
    """Whole entries of the file; a line cut short or damaged counts as never written."""
    if not path.exists():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        columns = COLUMNS.get(str(entry.get("kind")), ()) if isinstance(entry, dict) else ()
        is_dated = columns and isinstance(entry.get("time"), (int, float))
        if is_dated and all(isinstance(entry.get(name), str) for name in columns if name != "time"):
            entries.append(entry)
    return entries
