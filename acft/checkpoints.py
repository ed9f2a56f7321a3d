"""Checkpoint folders: sealed in one step, and checked file by file before anybody continues."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from acft.atomic import new_folder, replace_json, sha256, sync_file, sync_folder
from acft.errors import DataError
from acft.schema import MANIFEST


class DamagedCheckpointError(DataError):
    """A checkpoint is not as it was sealed; another one may be."""


def seal(folder: Path, save: Callable[[Path], None]) -> None:
    """Fills ``folder`` by ``save`` and lists every file's size and hash; whole or not at all."""
    with new_folder(folder) as unfinished:
        save(unfinished)
        replace_json(unfinished / MANIFEST, {"files": _files(unfinished)})
        for inner in (path for path in unfinished.rglob("*") if path.is_dir()):
            sync_folder(inner)
        if folder.exists():
            shutil.rmtree(folder)


def is_sealed(folder: Path) -> bool:
    """Whether it was sealed and is still there; its files are not read."""
    return (folder / MANIFEST).is_file()


def verify(folder: Path) -> None:
    """Returns if every file is as it was sealed.

    Raises:
        DamagedCheckpointError: A file is missing, added or changed; names it.
    """
    expected = _listed(folder)
    found = _names(folder)
    different = sorted(set(expected) ^ {name for name in found if name != MANIFEST})
    if different:
        raise DamagedCheckpointError(
            f"checkpoint {str(folder)!r} is incomplete or altered: {different[0]!r}"
        )
    for name, (size, digest) in expected.items():
        path = folder / name
        if path.stat().st_size != size or sha256(path) != digest:
            raise DamagedCheckpointError(
                f"checkpoint file {str(path)!r} differs from its recorded hash; "
                "continue from an earlier round instead"
            )


def _listed(folder: Path) -> dict[str, tuple[int, str]]:
    """Size and hash by name, as the manifest has them."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        return {name: (facts["bytes"], facts["sha256"]) for name, facts in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpointError(
            f"checkpoint {str(folder)!r} has no readable manifest: {error}"
        ) from None


def _files(folder: Path) -> dict[str, dict[str, str | int]]:
    facts: dict[str, dict[str, str | int]] = {}
    for name in _names(folder):
        path = folder / name
        sync_file(path)
        facts[name] = {"sha256": sha256(path), "bytes": path.stat().st_size}
    return facts


def _names(folder: Path) -> list[str]:
    paths = sorted(folder.rglob("*"))
    return [path.relative_to(folder).as_posix() for path in paths if path.is_file()]
