"""Finished runs made small enough to travel: packed with a manifest of hashes, checked, copied out.

A recording is an ordinary run directory, so every page and query works on it; it keeps every sealed
checkpoint, without what only resuming needs.
"""

import dataclasses
import json
import re
import shutil
from functools import partial
from pathlib import Path

from acft.atomic import new_folder, replace_bytes, replace_json, sha256, temporary
from acft.checkpoints import seal, verify
from acft.errors import DataError, RunError
from acft.eventlog import read_events
from acft.events import Started, to_json
from acft.runs.directory import (
    all_runs,
    read_launch,
    read_status,
    sealed_rounds,
    write_labels,
    write_status,
)
from acft.runs.sizes import size
from acft.schema import CHECKPOINTS, EXPORTS, MANIFEST, Labels, RunPaths

TAG = "recorded"
"""Marks these runs in lists."""
MAX_BYTES = 20_000_000
"""Of all recordings together; they are part of the repository."""
ONLY_FOR_RESUMING = re.compile(r"optimizer\.safetensors|previous\.safetensors|\d+-replay\.json")
NOT_TAKEN = re.compile(r"stdout\.log|lock|stop|\..*")
"""What a process left behind, by name."""


def record(run: RunPaths, folder: Path) -> Path:
    """The packed run, alone in ``folder`` with a fresh manifest; an earlier recording goes.

    Raises:
        RunError: The run has not finished, is too large, or ``folder`` holds runs that are no
            recordings.
        DataError: A checkpoint is damaged.
    """
    status = read_status(run)
    if status.state != "finished":
        raise RunError(f"run {run.root.name} is {status.state}; only finished runs are recorded")
    _refuse_other_runs(folder)
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / run.root.name
    with new_folder(final) as packed:
        _pack(run, RunPaths(packed))
        _check_size(packed)
        earlier = [paths.root for paths in all_runs(folder)]
        if final in earlier:
            earlier[earlier.index(final)] = final.rename(temporary(final))
    # names old and new ones, so that a recording cut short here can be repeated
    replace_json(folder / MANIFEST, {"files": _files(folder)})
    for path in earlier:
        shutil.rmtree(path)
    replace_json(folder / MANIFEST, {"files": _files(folder)})
    return final


def check(folder: Path) -> list[RunPaths]:
    """The recorded runs, every file as it was recorded; none where nothing was recorded.

    Raises:
        DataError: A file is missing, added or changed; names it.
    """
    if not (folder / MANIFEST).exists() and not all_runs(folder):
        return []
    expected = _manifest(folder)
    found = _files(folder)
    unlike = sorted(name for name in expected | found if expected.get(name) != found.get(name))
    if unlike:
        raise DataError(
            f"recorded file {str(folder / unlike[0])!r} is missing, added or changed; restore it, "
            "or record anew with ``acft demo record``"
        )
    return all_runs(folder)


def copy_out(folder: Path, runs_dir: Path) -> list[str]:
    """Ids of the recorded runs copied into an empty runs directory, so there is one to explore.

    Raises:
        DataError: A recorded file is not as it was recorded.
    """
    if all_runs(runs_dir):
        return []
    recorded = check(folder)
    for paths in recorded:
        runs_dir.mkdir(parents=True, exist_ok=True)
        with new_folder(runs_dir / paths.root.name) as copy:
            shutil.copytree(paths.root, copy, dirs_exist_ok=True)
    return [paths.root.name for paths in recorded]


def _manifest(folder: Path) -> dict[str, dict[str, str | int]]:
    try:
        return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"recorded runs in {str(folder)!r} have no manifest: {error}") from None


def _refuse_other_runs(folder: Path) -> None:
    """A recording replaces recordings, never a run that somebody may need."""
    present = {paths.root.name for paths in all_runs(folder)}
    if not present:
        return
    named = _manifest(folder) if (folder / MANIFEST).exists() else {}
    others = sorted(present - {name.split("/")[0] for name in named})
    if others:
        raise RunError(
            f"{str(folder)!r} holds run {others[0]}, which its manifest does not name as a "
            "recording; choose an empty folder, or move that run away"
        )


def _pack(run: RunPaths, packed: RunPaths) -> None:
    def left_out(directory: str, names: list[str]) -> set[str]:
        inside = Path(directory)
        if inside == run.root:
            return {CHECKPOINTS, EXPORTS, *(name for name in names if NOT_TAKEN.fullmatch(name))}
        return {name for name in names if NOT_TAKEN.fullmatch(name)}

    shutil.copytree(run.root, packed.root, ignore=left_out, dirs_exist_ok=True)
    packed.checkpoints.mkdir()
    for event in sealed_rounds(run).values():
        sealed = run.root / event.checkpoint
        verify(sealed)
        seal(packed.root / event.checkpoint, partial(_copy_checkpoint, sealed))
    _forget_machine(packed)


def _copy_checkpoint(source: Path, target: Path) -> None:
    """Copies a checkpoint's files that tell what the policies and the oracle were."""
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source)
        is_spare = ONLY_FOR_RESUMING.fullmatch(path.name) or path.name == MANIFEST
        if path.is_file() and not is_spare:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / name)


def _forget_machine(packed: RunPaths) -> None:
    """Removes what tells of the machine: its paths, processes and boots."""
    nobody = {"pid": 0, "pid_started": 0.0, "boot_id": ""}
    write_status(packed, dataclasses.replace(read_status(packed), **nobody))
    write_labels(packed, Labels(tags=(TAG,)))
    launch = dataclasses.replace(read_launch(packed), working_directory="")
    replace_json(packed.launch, dataclasses.asdict(launch))
    lines = []
    for entry in read_events(packed.events):
        event = entry.event
        if isinstance(event, Started):
            event = dataclasses.replace(event, pid=0, facts={})
        lines.append(to_json(event, entry.seq, entry.time) + "\n")
    replace_bytes(packed.events, "".join(lines).encode())


def _check_size(folder: Path) -> None:
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if total > MAX_BYTES:
        raise RunError(
            f"the packed run has {size(total)}, at most {size(MAX_BYTES)} are recorded; lower "
            "[adapter] rank or the number of rollouts"
        )


def _files(folder: Path) -> dict[str, dict[str, str | int]]:
    paths = sorted(path for run in all_runs(folder) for path in run.root.rglob("*"))
    return {
        path.relative_to(folder).as_posix(): {"sha256": sha256(path), "bytes": path.stat().st_size}
        for path in paths
        if path.is_file()
    }
