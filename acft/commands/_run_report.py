"""Everything about one run that somebody at a terminal needs to decide what to do next."""

import shlex
from pathlib import Path

from acft.commands._options import on
from acft.errors import DataError
from acft.redaction import end_of_log, redacted
from acft.runs.directory import read_labels, read_launch
from acft.runs.launcher import RunInfo
from acft.runs.status import RESUMABLE
from acft.schema import BEGINNING, Labels, Launch, RunPaths
from acft.ui.web.words import ago, duration

LOG_LINES = 5
LOG_BYTES = 4000
"""More of a log's end is not read."""


def describe(info: RunInfo) -> list[str]:
    """Lines ``name  value`` about a run, those without value left out, and the end of its log."""
    paths = info.paths
    facts = {
        "run": info.run_id,
        "state": info.state.label,
        **_reasons(info),
        "next": _way_on(info, on(info.run_id, paths.root.parent)),
        **_position(info),
        **_origin(paths),
        **_labels(read_labels(paths)),
        "folder": str(paths.root),
    }
    width = max(map(len, facts))
    lines = [f"{name:<{width}}  {value}" for name, value in facts.items() if value]
    return [*lines, *_log_of_failure(info)]


def measured(launch: Launch) -> str:
    """An evaluation's subject; its settings are too long for a line."""
    return f"measures {launch.subject}" if launch.kind == "evaluation" and launch.subject else ""


def _reasons(info: RunInfo) -> dict[str, str]:
    return {
        "message": redacted(info.state.message).partition("\n")[0],
        "advice": "" if info.state.is_live else info.status.advice,
    }


def _way_on(info: RunInfo, run: str) -> str:
    """The command that most probably comes next; ``run`` is how one names the run."""
    if info.status.retry_with and info.state.state == "failed":
        changes = " ".join(f"--set {shlex.quote(change)}" for change in info.status.retry_with)
        return f"acft launch {run} {changes}"
    if info.state.state in RESUMABLE:
        return f"acft resume {run}" if info.paths.spec.is_file() else f"acft delete {run}"
    if info.state.is_live or info.state.state == "queued":
        return f"acft stop {run}"
    return ""


def _position(info: RunInfo) -> dict[str, str]:
    status = info.status
    resumed = "the beginning" if status.resumed_from == BEGINNING else status.resumed_from
    end = status.ended or status.heartbeat
    return {
        "round": f"{status.round} of {status.rounds or '?'}",
        "step": f"{status.step} of {status.steps}" if status.steps else "",
        "created": ago(status.created),
        "last attempt": duration(end - status.started) if status.started and end else "",
        "device": status.device,
        "checkpoint": status.checkpoint,
        "best": status.best_checkpoint,
        "resumed": f"from {resumed}" if resumed else "",
    }


def _origin(paths: RunPaths) -> dict[str, str]:
    try:
        launch = read_launch(paths)
    except DataError as error:
        return {"origin": str(error)}
    return {
        "settings": measured(launch) or " ".join([launch.experiment, *launch.overrides]).strip(),
        "cloned from": launch.cloned_from,
        "sweep": launch.sweep,
    }


def _labels(labels: Labels) -> dict[str, str]:
    return {
        "tags": ", ".join(labels.tags),
        "notes": labels.notes,
        "archived": "yes" if labels.archived else "",
    }


def _log_of_failure(info: RunInfo) -> list[str]:
    """Where a failed run's log is, and its last lines."""
    if info.state.state not in ("failed", "lost"):
        return []
    log = info.paths.log
    lines = _end(log)
    return [f"the log ends ({log}):", *(f"  {line}" for line in lines)] if lines else []


def _end(file: Path) -> list[str]:
    try:
        with file.open("rb") as opened:
            return end_of_log(opened, LOG_BYTES).splitlines()[-LOG_LINES:]
    except OSError:
        return []
