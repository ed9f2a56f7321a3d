"""Continue a stopped, failed or lost run from its last sealed round."""

import argparse

from acft.commands._options import add_run_id, add_runs_dir


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the run and the round."""
    add_run_id(parser)
    add_runs_dir(parser)
    parser.add_argument(
        "--round",
        type=int,
        metavar="N",
        help="continue after round N; 0 is the beginning",
    )


def run(args: argparse.Namespace) -> None:
    """Prints where the run goes on."""
    from acft.errors import DataError
    from acft.runs.detached import ensure_supervisor
    from acft.runs.launcher import resume

    try:
        finished = resume(args.runs, args.run_id, args.round)
    except DataError as error:
        raise DataError(f"{error}; choose one with --round") from None
    ensure_supervisor(args.runs)
    where = f"after round {finished}" if finished else "from the beginning"
    print(f"{args.run_id} is queued to go on {where}")
