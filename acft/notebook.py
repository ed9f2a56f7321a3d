"""Runs as tables for notebooks, read from the run directories; the live database is not touched."""

from collections.abc import Collection, Iterator
from dataclasses import fields
from functools import cached_property
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from acft.errors import DataError
from acft.eventlog import Entry, effective, read_events
from acft.events import Evaluated, Scalars, ShardSealed
from acft.runs.status import current_state
from acft.schema import TABLES, RunPaths
from acft.store.facts import read_facts, run_directories
from acft.store.shards import Shard, problem

HIDDEN = ("run_key", "settings", "facts")


class Runs:
    """Some runs; each table is read when it is first asked for and then kept."""

    def __init__(self, paths: list[RunPaths]) -> None:
        self._paths = paths

    def __repr__(self) -> str:
        return f"<{len(self._paths)} runs, {self.ids[0]} to {self.ids[-1]}>"

    @property
    def ids(self) -> list[str]:
        """Names of the runs, oldest first."""
        return [paths.root.name for paths in self._paths]

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row for each run: state, times, title, method, tags and more."""
        rows = [read_facts(paths) | _as_seen_now(paths) for paths in self._paths]
        return pd.DataFrame(rows).drop(columns=list(HIDDEN), errors="ignore")

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """Every logged number: run_id, round, step, seconds since the epoch, name, value."""
        rows = [
            (run_id, entry.event.round, entry.event.step, entry.time, name, value)
            for run_id, entries in self._entries.items()
            for entry in entries
            if isinstance(entry.event, Scalars)
            for name, value in entry.event.values.items()
        ]
        return pd.DataFrame(rows, columns=["run_id", "round", "step", "time", "name", "value"])

    @cached_property
    def evaluations(self) -> pd.DataFrame:
        """Every measured value of a suite, with n, standard error and interval."""
        rows = [
            {"run_id": run_id, **vars(entry.event)}
            for run_id, entries in self._entries.items()
            for entry in entries
            if isinstance(entry.event, Evaluated)
        ]
        return pd.DataFrame(rows, columns=["run_id", *(field.name for field in fields(Evaluated))])

    @cached_property
    def rollouts(self) -> pd.DataFrame:
        """Every stored response."""
        return self._table("rollouts")

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Every stored score of a response."""
        return self._table("scores")

    @cached_property
    def guidance(self) -> pd.DataFrame:
        """Every stored token with its guidance; ``alternatives`` is JSON text."""
        return self._table("guidance")

    @cached_property
    def _entries(self) -> dict[str, list[Entry]]:
        return {p.root.name: effective(read_events(p.events)) for p in self._paths}

    def _table(self, name: str) -> pd.DataFrame:
        parts = list(self._parts(name))
        schema = pa.schema([("run_id", pa.string()), *TABLES[name]])
        table = pa.concat_tables(parts, promote_options="default") if parts else None
        return (schema.empty_table() if table is None else table).to_pandas()

    def _parts(self, name: str) -> Iterator[pa.Table]:
        for paths in self._paths:
            for entry in self._entries[paths.root.name]:
                event = entry.event
                if isinstance(event, ShardSealed) and event.table == name:
                    file = paths.shards / Path(event.name).name
                    yield _part(
                        paths.root.name, Shard(entry.seq, name, file, event.rows, event.sha256)
                    )


def open_runs(path: str | Path, only: str | Collection[str] = ()) -> Runs:
    """The runs of a folder, or the one run whose folder this is.

    Args:
        path: Folder of runs, or one run directory.
        only: Name or names of the runs to read; all when empty.

    Raises:
        DataError: There is no run, or none of a name in ``only``.
    """
    folder = Path(path)
    is_run = RunPaths(folder).spec.is_file()
    found = [RunPaths(folder.resolve())] if is_run else run_directories(folder)
    wanted = {only} if isinstance(only, str) else set(only)
    missing = sorted(wanted - {paths.root.name for paths in found})
    if missing or not found:
        what = f"no run {missing[0]!r}" if missing else "no runs"
        raise DataError(f"{what} in {str(folder)!r}; ``acft runs`` lists them")
    return Runs([paths for paths in found if not wanted or paths.root.name in wanted])


def _as_seen_now(paths: RunPaths) -> dict[str, str]:
    """The true state: a run that was killed could not write its end down."""
    _, state = current_state(paths)
    return {"state": state.state, "failure": state.failure, "message": state.message}


def _part(run_id: str, shard: Shard) -> pa.Table:
    reason = problem(shard)
    if reason:
        raise DataError(f"shard {str(shard.path)!r} cannot be used: {reason}")
    known = [name for name in pq.read_schema(shard.path).names if name in TABLES[shard.table].names]
    table = pq.read_table(shard.path, columns=known)
    return table.add_column(0, "run_id", pa.array([run_id] * len(table), pa.string()))
