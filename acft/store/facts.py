"""What the small files of a run directory say, as one row of the table ``runs``."""

import hashlib
import json
import re
import tomllib
from pathlib import Path
from typing import Any

from acft.atomic import FileMark, file_mark, read_own_text
from acft.errors import ConfigError
from acft.events import field_checks
from acft.schema import STATES, Labels, Launch, RunPaths, Status, folders
from acft.settings import as_asked, as_used

STATUS_COLUMNS = (
    "kind", "state", "failure", "message", "advice", "device", "created", "started", "ended",
    "heartbeat", "round", "rounds", "step", "steps", "phase", "seconds_left", "pid", "exit_code",
    "checkpoint", "best_checkpoint", "resumed_from", "events",
)  # fmt: skip

FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""Names that a run's folder may have got elsewhere; those made here follow a stricter pattern."""

Signature = tuple[FileMark, ...]


def run_directories(root: Path) -> list[RunPaths]:
    """Every run directory in a folder, oldest first; links are not followed."""
    paths = [RunPaths(root / name) for name in folders(root, FOLDER)]
    return [run for run in paths if run.spec.is_file()]


def signature(paths: RunPaths) -> Signature:
    """Changes whenever one of the small files was replaced."""
    files = (paths.status, paths.labels, paths.launch, paths.resolved, paths.spec)
    return tuple(map(file_mark, files))


def run_key(run_id: str) -> int:
    """A positive 63-bit number made from a run's name."""
    return int.from_bytes(hashlib.sha256(run_id.encode()).digest()[:8], "big") >> 1


def read_facts(paths: RunPaths) -> dict[str, Any]:
    """Column values of one row of ``runs``; ``problem`` names the files that could not be read."""
    unreadable: list[str] = []
    status = _known(Status, _json(paths.status, unreadable))
    labels = _known(Labels, _json(paths.labels, unreadable))
    launch = _known(Launch, _json(paths.launch, unreadable))
    resolved = _json(paths.resolved, unreadable)
    settings = as_used(resolved) or _as_asked(
        _toml(paths.spec, unreadable), launch.get("overrides") or []
    )
    resolved.pop("settings", None)
    return {
        "run_id": paths.root.name,
        "run_key": run_key(paths.root.name),
        **{name: status.get(name) for name in STATUS_COLUMNS},
        "state": status.get("state") if status.get("state") in STATES else None,
        "title": str(settings.get("title") or ""),
        "method": _named(settings.get("method")),
        "model": _named(settings.get("model")),
        "seed": _number(settings.get("seed")),
        **{name: launch.get(name) or "" for name in ("cloned_from", "sweep", "subject")},
        "tags": list(labels.get("tags") or ()),
        "notes": labels.get("notes") or "",
        "archived": bool(labels.get("archived")),
        "settings": json.dumps(settings, sort_keys=True),
        "facts": json.dumps(resolved, sort_keys=True),
        "problem": f"cannot read {', '.join(unreadable)}" if unreadable else "",
    }


def _json(file: Path, unreadable: list[str]) -> dict[str, Any]:
    try:
        values = json.loads(read_own_text(file))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        unreadable.append(file.name)
        return {}
    return values


def _toml(file: Path, unreadable: list[str]) -> dict[str, Any]:
    try:
        return tomllib.loads(read_own_text(file))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        unreadable.append(file.name)
        return {}


def _as_asked(written: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    try:
        return as_asked(written, overrides)
    except ConfigError:
        return written


def _known(record: type, values: dict[str, Any]) -> dict[str, Any]:
    """The values of fields this version knows, where they have the right type."""
    checks = field_checks(record)
    return {name: value for name, value in values.items() if name in checks and checks[name](value)}


def _number(value: Any) -> int | float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _named(section: Any) -> str:
    return str(section.get("name") or "") if isinstance(section, dict) else ""
