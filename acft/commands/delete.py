"""Delete a run that is over, after confirmation, or only its spare checkpoints, unasked."""

import argparse

from acft.commands._options import add_run_id, add_runs_dir


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the run, what of it, and the confirmation."""
    add_run_id(parser)
    parser.add_argument(
        "--checkpoints", action="store_true", help="only checkpoints other than the best and last"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    add_runs_dir(parser)


def run(args: argparse.Namespace) -> None:
    """Prints how much space was freed."""
    from acft.runs.directory import find_run
    from acft.runs.sizes import size
    from acft.runs.space import delete, delete_checkpoints, space

    taken = space(find_run(args.runs, args.run_id))
    if args.checkpoints:
        freed = delete_checkpoints(args.runs, args.run_id)
    else:
        question = f"type the id to delete {args.run_id} ({size(taken.total)}): "
        confirmation = args.run_id if args.yes else _ask(question)
        freed = delete(args.runs, args.run_id, confirmation)
    print(f"{size(freed)} freed")


def _ask(question: str) -> str:
    from acft.errors import RunError

    try:
        return input(question).strip()
    except EOFError:
        raise RunError("nobody is there to confirm; --yes deletes without asking") from None
