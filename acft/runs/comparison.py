"""Settings of runs beside each other: where two differ, and which ask for the same numbers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acft.checkpoints import is_sealed
from acft.config import flat
from acft.errors import ConfigError, DataError
from acft.runs.directory import all_runs, find_run, read_resolved
from acft.runs.status import RESUMABLE, current_state
from acft.schema import RunPaths, Status
from acft.settings import as_used


@dataclass(frozen=True)
class Difference:
    """One setting in which two runs differ; None where a run does not have it."""

    name: str
    first: Any
    second: Any


def differences(runs_dir: Path, first: str, second: str) -> list[Difference]:
    """Settings in which two runs differ, by dotted name."""
    left, right = (values_of(find_run(runs_dir, name)) for name in (first, second))
    names = sorted(left.keys() | right.keys())
    pairs = [Difference(name, left.get(name), right.get(name)) for name in names]
    return [pair for pair in pairs if pair.first != pair.second]


def by_fingerprint(
    runs_dir: Path, *, with_resumable: bool = False, with_weights: bool = False
) -> dict[str, tuple[str, str]]:
    """Id and state by fingerprint, of all runs that are or may yet be done; finished ones win.

    Args:
        runs_dir: Directory of all runs.
        with_weights: Of finished ones those win that have their best checkpoint, which packed runs
            come without.
        with_resumable: Also runs that ended early after a sealed round, where no other run is or
            may yet be done; of several the one that came furthest.
    """
    found: dict[str, tuple[int, str, str]] = {}
    ended: dict[str, tuple[int, str, str]] = {}
    for paths in all_runs(runs_dir):
        fingerprint = _fingerprint(paths)
        status, seen = current_state(paths)
        if not fingerprint:
            continue
        if seen.state in RESUMABLE:
            if with_resumable and status.checkpoint:
                this = (status.round, paths.root.name, seen.state)
                ended[fingerprint] = max(this, ended.get(fingerprint, this))
        else:
            is_finished = seen.state == "finished"
            is_whole = is_finished and with_weights and _has_result(paths, status)
            this = (is_finished + is_whole, paths.root.name, seen.state)
            earlier = found.get(fingerprint)
            if earlier is None or this[0] > earlier[0]:
                found[fingerprint] = this
    return {name: (run_id, state) for name, (_, run_id, state) in (ended | found).items()}


def values_of(paths: RunPaths) -> dict[str, Any]:
    """Every setting of a run by dotted name, from its record or, before it started, its spec.

    Raises:
        DataError: Neither can be read.
    """
    if used := as_used(read_resolved(paths)):
        return flat(used)
    from acft.runs.spec import spec_of  # noqa: PLC0415 - imports torch

    try:
        return spec_of(paths).values
    except ConfigError as error:
        raise DataError(f"the settings of run {paths.root.name} cannot be read: {error}") from None


def _has_result(paths: RunPaths, status: Status) -> bool:
    return bool(status.result) and is_sealed(paths.root / status.result)


def _fingerprint(paths: RunPaths) -> str:
    """Of the run's settings as they are understood now; empty where they are unknown.

    The recorded one would change with every setting that a later version adds.
    """
    from acft.runs.spec import spec_of  # noqa: PLC0415 - imports torch

    try:
        return spec_of(paths).fingerprint
    except (ConfigError, DataError):
        return ""
