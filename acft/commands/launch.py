"""Queue a run that goes on in the background, with or without the workbench."""

import argparse
import json

from acft.commands._options import add_config, add_json, add_runs_dir


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the settings file, overrides and runs directory."""
    add_config(parser)
    add_runs_dir(parser)
    add_json(parser)
    parser.add_argument(
        "--request-id", default="", metavar="ID", help="the same id never starts two runs"
    )


def run(args: argparse.Namespace) -> None:
    """Prints the run's id."""
    from acft.runs.launcher import launch
    from acft.runs.spec import read_text
    from acft.runs.supervisor import ensure_supervisor

    text = read_text(args.config)
    run_id = launch(args.runs, text, args.set, request_id=args.request_id, where=str(args.config))
    supervisor = ensure_supervisor(args.runs)
    if args.json:
        print(json.dumps({"run_id": run_id, "supervisor": supervisor}))
    else:
        print(f"{run_id} queued; {supervisor} starts it")
