"""Continue a stopped, failed or lost run from its last sealed round."""

import argparse
from collections.abc import Iterator
from contextlib import chdir, contextmanager

from acft.commands._options import add_run_id, add_runs_dir, on


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the run, the round and where to do it."""
    add_run_id(parser)
    add_runs_dir(parser)
    parser.add_argument(
        "--round",
        type=int,
        metavar="N",
        help="continue after round N; 0 is the beginning",
    )
    parser.add_argument(
        "--here",
        action="store_true",
        help="in this terminal instead of the background; in several processes under torchrun",
    )


def run(args: argparse.Namespace) -> int:
    """Exit code of the rest of the run; 0 when it is only queued, with a line where it goes on."""
    if args.here:
        return _here(args)
    from acft.runs.detached import ensure_supervisor
    from acft.runs.directory import find_run, read_resolved
    from acft.runs.launcher import resume

    with _advice():
        finished = resume(args.runs, args.run_id, args.round)
    processes = read_resolved(find_run(args.runs, args.run_id)).get("facts", {}).get("processes", 1)
    ensure_supervisor(args.runs)
    where = f"after round {finished}" if finished else "from the beginning"
    print(f"{args.run_id} is queued to go on {where}")
    if processes > 1:
        print(
            f"one process goes on; for {processes} as before: stop it, then torchrun --standalone "
            f"--nproc-per-node {processes} -m acft resume {on(args.run_id, args.runs)} --here"
        )
    return 0


def _here(args: argparse.Namespace) -> int:
    from acft.commands._display import do_here
    from acft.runs.directory import find_run, home_of
    from acft.runs.launcher import resume_here
    from acft.runs.spec import spec_of

    runs_dir = args.runs.resolve()
    paths = find_run(runs_dir, args.run_id)
    with chdir(home_of(paths)), _advice():
        spec = spec_of(paths)
        return do_here(lambda: resume_here(runs_dir, args.run_id, args.round), spec)


@contextmanager
def _advice() -> Iterator[None]:
    """Says of a damaged checkpoint how to choose another."""
    from acft.checkpoints import DamagedCheckpointError

    try:
        yield
    except DamagedCheckpointError as error:
        raise DamagedCheckpointError(f"{error}; choose one with --round") from None
