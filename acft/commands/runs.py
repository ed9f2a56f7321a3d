"""List runs with their true state."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acft.commands._options import add_json, add_runs_dir

if TYPE_CHECKING:
    from acft.runs.launcher import RunInfo
    from acft.schema import Status

MINUTE = 60
MEBIBYTE = 1024**2


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the runs directory and the form of output."""
    add_runs_dir(parser)
    add_json(parser)
    parser.add_argument("--all", action="store_true", help="also archived runs")
    parser.add_argument(
        "--space", action="store_true", help="also show what each run takes on the disk"
    )


def run(args: argparse.Namespace) -> None:
    """Prints one line for each run, newest first."""
    from acft.runs.launcher import runs
    from acft.runs.supervisor import ensure_supervisor

    found = [info for info in runs(args.runs) if args.all or not _is_archived(args.runs, info)]
    if any(info.state.state == "queued" for info in found):
        ensure_supervisor(args.runs)
    if args.json:
        print(json.dumps([_record(info) for info in found], indent=2))
    elif found:
        for info in found:
            print(_line(args.runs, info) + (_space(args.runs, info) if args.space else ""))
    else:
        print(f"no runs in {str(args.runs)!r}; start one: acft launch experiments/quickstart.toml")


def _record(info: "RunInfo") -> dict[str, Any]:
    return {
        "run_id": info.run_id,
        **dataclasses.asdict(info.status),
        **dataclasses.asdict(info.state),
    }


def _is_archived(runs_dir: Path, info: "RunInfo") -> bool:
    from acft.runs.directory import read_labels
    from acft.schema import RunPaths

    return read_labels(RunPaths(runs_dir / info.run_id)).archived


def _line(runs_dir: Path, info: "RunInfo") -> str:
    status, state = info.status, info.state
    rounds, steps = status.rounds or "?", status.steps or "?"
    parts = [
        info.run_id,
        f"{state.label:<18}",
        f"round {status.round}/{rounds}  step {status.step}/{steps}",
        _pace(status) if state.is_live else "",
        _what(runs_dir, info),
        state.message.partition("\n")[0],
    ]
    return "  ".join(filter(None, parts))


def _pace(status: "Status") -> str:
    """Where a live run is, how fast it goes, and how long it will take."""
    if not status.phase_total:
        return status.phase
    text = f"{status.phase} {status.phase_done}/{status.phase_total} {status.phase_unit}"
    if status.phase_rate is not None:
        text += f" at {status.phase_rate:.3g}/s"
    left = status.phase_seconds_left if status.seconds_left is None else status.seconds_left
    return f"{text}, {left / MINUTE:.1f} min left" if left is not None else text


def _what(runs_dir: Path, info: "RunInfo") -> str:
    """Experiment and changed settings, as far as they are known."""
    from acft.errors import DataError
    from acft.runs.directory import read_launch
    from acft.schema import RunPaths

    try:
        launch = read_launch(RunPaths(runs_dir / info.run_id))
    except DataError:
        return ""
    return " ".join(filter(None, [launch.experiment, *launch.overrides]))


def _space(runs_dir: Path, info: "RunInfo") -> str:
    from acft.runs.lineage import space
    from acft.schema import RunPaths

    size = space(RunPaths(runs_dir / info.run_id))
    return f"  {size.total / MEBIBYTE:.1f} MiB ({size.checkpoints / MEBIBYTE:.1f} in checkpoints)"
