"""List runs with their true state, or tell everything about one; what is queued is started."""

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING, Any

from acft.commands._options import add_json, add_runs_dir
from acft.commands._printable import printable

if TYPE_CHECKING:
    from acft.runs.launcher import RunInfo
    from acft.schema import Status

MINUTE = 60


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds which runs, the runs directory and the form of output."""
    from acft.schema import STATES

    parser.add_argument(
        "run_id", nargs="?", metavar="ID", help="tell of this run alone: advice, labels, log"
    )
    parser.add_argument(
        "--state", action="append", default=[], choices=STATES, metavar="STATE",
        help=f"only runs in this state; repeatable ({', '.join(STATES)})",
    )  # fmt: skip
    parser.add_argument(
        "--tag", action="append", default=[], metavar="TAG",
        help="only runs with this tag; repeatable, all must be there",
    )  # fmt: skip
    add_runs_dir(parser)
    add_json(parser)
    parser.add_argument("--all", action="store_true", help="also archived runs")
    parser.add_argument(
        "--space", action="store_true", help="also show what each run takes on the disk"
    )


def run(args: argparse.Namespace) -> None:
    """Prints one line for each run, newest first, or all about the one that is named."""
    from acft.errors import DataError
    from acft.runs.detached import ensure_supervisor
    from acft.runs.directory import find_run
    from acft.runs.launcher import runs

    if args.runs.exists() and not args.runs.is_dir():
        raise DataError(f"{str(args.runs)!r} is no folder; name the folder of runs with --runs")
    if args.run_id is not None:
        _refuse_filters(args)
        find_run(args.runs, args.run_id)
    everything = runs(args.runs)
    found = [info for info in everything if _is_wanted(args, info)]
    if args.run_id and not args.json:
        _tell(found[0])
        if args.space:
            print(f"on the disk{_space(found[0])}")
    elif args.json:
        print(json.dumps([_record(info) for info in found], indent=2))
    elif found:
        for info in found:
            print(printable(_line(info)) + (_space(info) if args.space else ""))
    elif everything:
        print(f"no runs to show of {len(everything)}; --all adds archived ones")
    else:
        print(f"no runs in {str(args.runs)!r}; start one: acft launch experiments/quickstart.toml")
    if any(info.state.state == "queued" for info in everything):
        ensure_supervisor(args.runs)


def _refuse_filters(args: argparse.Namespace) -> None:
    from acft.errors import ConfigError

    filters = {"--state": args.state, "--tag": args.tag}
    if given := [name for name, value in filters.items() if value]:
        raise ConfigError(
            f"{', '.join(given)}: chooses among all runs, and {args.run_id!r} names one; leave out "
            "either"
        )


def _tell(info: "RunInfo") -> None:
    from acft.commands._run_report import describe

    print("\n".join(map(printable, describe(info))))


def _record(info: "RunInfo") -> dict[str, Any]:
    return {
        "run_id": info.run_id,
        **dataclasses.asdict(info.status),
        **dataclasses.asdict(info.state),
    }


def _is_wanted(args: argparse.Namespace, info: "RunInfo") -> bool:
    from acft.runs.directory import read_labels

    if args.run_id:
        return info.run_id == args.run_id
    labels = read_labels(info.paths)
    is_shown = args.all or not labels.archived
    is_in_state = not args.state or info.state.state in args.state
    return is_shown and is_in_state and set(args.tag) <= set(labels.tags)


def _line(info: "RunInfo") -> str:
    status, state = info.status, info.state
    parts = [
        info.run_id,
        f"{state.label:<18}",
        f"round {status.round}/{status.rounds or '?'}",
        f"step {status.step}/{status.steps}" if status.steps else "",
        _pace(status) if state.is_live else "",
        _what(info),
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


def _what(info: "RunInfo") -> str:
    """Experiment and changed settings, or what is measured, as far as they are known."""
    from acft.commands._run_report import measured
    from acft.errors import DataError
    from acft.runs.directory import read_launch

    try:
        launch = read_launch(info.paths)
    except DataError:
        return ""
    return measured(launch) or " ".join(filter(None, [launch.experiment, *launch.overrides]))


def _space(info: "RunInfo") -> str:
    from acft.runs.sizes import size
    from acft.runs.space import space

    taken = space(info.paths)
    return f"  {size(taken.total)} ({size(taken.checkpoints)} in checkpoints)"
