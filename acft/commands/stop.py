"""Stop a run after the current step, or at once; rounds that are sealed stay."""

import argparse

from acft.commands._options import add_run_id, add_runs_dir


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the run and how to stop it."""
    add_run_id(parser)
    add_runs_dir(parser)
    parser.add_argument(
        "--now", action="store_true", help="do not wait for the current step or a round's last work"
    )


def run(args: argparse.Namespace) -> None:
    """Prints what happens next, with the time limits."""
    from acft.runs.detached import ensure_supervisor
    from acft.runs.directory import find_run, read_status
    from acft.runs.launcher import stop
    from acft.runs.stopping import stop_action

    mode = "now" if args.now else "save"
    state = stop(args.runs, args.run_id, mode)
    if not state.is_live:
        print(f"{args.run_id} is {state.label}")
        return
    ensure_supervisor(args.runs)
    _, seconds = stop_action(mode, 0.0)
    print(f"{args.run_id} is asked to stop; it is terminated after {seconds:.0f} s if it does not")
    sealed = read_status(find_run(args.runs, args.run_id)).round
    where = f"after round {sealed}" if sealed else "from the beginning"
    print(f"resuming goes on {where}; an unfinished round is done again")
