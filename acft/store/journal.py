"""Comparisons and votes: appended to a file beside the runs, so that the database stays a cache."""

# ruff: noqa: S608 - only names from constants are formatted into SQL

import json
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from acft.store.connection import Store

FILE = "comparisons.jsonl"
COLUMNS = {
    "comparison": ("comparison_id", "time"),
    "vote": ("comparison_id", "time", "item", "choice"),
}
TABLES = {"comparison": "comparisons", "vote": "votes"}


def record_comparison(store: Store, body: Mapping[str, Any]) -> str:
    """Id of a new comparison; ``body`` is what was compared, under which conditions."""
    comparison_id = uuid.uuid4().hex[:12]
    _append(store, {"kind": "comparison", "comparison_id": comparison_id, **body})
    return comparison_id


def record_vote(store: Store, comparison_id: str, item: str, choice: str) -> None:
    """Keeps one judgement about one item of a comparison; the newest for an item counts."""
    vote = {"kind": "vote", "comparison_id": comparison_id, "item": item, "choice": choice}
    _append(store, vote)


def load_journal(store: Store) -> None:
    """Makes the tables ``comparisons`` and ``votes`` equal to the file."""
    with store.write() as connection:  # what is being appended is in the file or waits for this
        entries = _read(store.root / FILE)
        for kind, table in TABLES.items():
            connection.execute(f"DELETE FROM {table}")
            _insert(connection, kind, [entry for entry in entries if entry["kind"] == kind])


def _append(store: Store, entry: dict[str, Any]) -> None:
    entry = {**entry, "time": time.time()}
    line = json.dumps(entry, allow_nan=False) + "\n"
    with store.write() as connection:
        with (store.root / FILE).open("ab") as file:
            if not _ends_with_newline(store.root / FILE):
                file.write(b"\n")
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        _insert(connection, entry["kind"], [entry])


def _insert(connection: Any, kind: str, entries: list[dict[str, Any]]) -> None:
    """Adds entries of one kind to their table, whatever their number in one go."""
    columns = {
        name: pa.array([e[name] for e in entries], pa.float64() if name == "time" else pa.string())
        for name in COLUMNS[kind]
    }
    body = pa.array([json.dumps(entry, sort_keys=True) for entry in entries], pa.string())
    connection.register("added", pa.table({**columns, "body": body}))
    connection.execute(f"INSERT INTO {TABLES[kind]} BY NAME SELECT * FROM added")
    connection.unregister("added")


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
