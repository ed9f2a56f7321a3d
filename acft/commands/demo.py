"""Record the run that the workbench shows before there is one of your own, or check it."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from acft.commands._options import add_runs_dir
from acft.ui.options import DEMO_RUNS, EXPERIMENTS

if TYPE_CHECKING:
    from acft.schema import RunPaths

SETTINGS = EXPERIMENTS / "demo.toml"


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds ``record`` and ``check``."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    record = actions.add_parser("record", help="do experiments/demo.toml and pack it with hashes")
    record.add_argument("--run", default="", metavar="ID", help="pack this finished run instead")
    record.add_argument("--into", type=Path, default=DEMO_RUNS, metavar="DIR", help="where to")
    add_runs_dir(record)
    check = actions.add_parser("check", help="compare every recorded file with its hash")
    check.add_argument("--into", type=Path, default=DEMO_RUNS, metavar="DIR", help="where it lies")


def run(args: argparse.Namespace) -> int:
    """0 when done; the run's exit code when it failed."""
    return {"record": _record, "check": _check}[args.action](args)


def _record(args: argparse.Namespace) -> int:
    from acft.commands._display import do_here
    from acft.runs.directory import find_run
    from acft.runs.launcher import create_here
    from acft.runs.recording import record
    from acft.runs.spec import load_spec

    if args.run:
        found, code = [find_run(args.runs, args.run)], 0
    else:
        spec, found = load_spec(SETTINGS, []), []

        def begin() -> "RunPaths":
            found.append(create_here(args.runs, spec, SETTINGS.stem))
            return found[0]

        code = do_here(begin, spec)
    if code == 0 and found:  # else another of several processes has the run
        print(f"recorded in {str(record(found[0], args.into))!r}")
    return code


def _check(args: argparse.Namespace) -> int:
    from acft.runs.recording import check

    found = check(args.into)
    print(f"{len(found)} recorded runs, every file as it was recorded")
    return 0 if found else 1
