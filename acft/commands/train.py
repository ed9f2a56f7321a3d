"""Train in the foreground with a progress display."""

import argparse

from acft.commands._options import add_config, add_mirror, add_runs_dir


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the settings file, overrides and runs directory."""
    add_config(parser)
    add_runs_dir(parser)
    add_mirror(parser)


def run(args: argparse.Namespace) -> int:
    """Exit code of the run; Ctrl-C saves and stops, a second one stops at once.

    Started several times over by ``torchrun`` or ``accelerate launch``, the first process is the
    run and the others do their part of its work.
    """
    from acft.config import read_toml

    read_toml(args.config)  # its faults are told before torch is imported, which takes seconds
    from acft.commands._display import do_here
    from acft.distributed import leave, ranks
    from acft.runs.follower import follow
    from acft.runs.launcher import create_here
    from acft.runs.spec import load_spec

    spec = load_spec(args.config, args.set, has_files=True)
    if ranks().rank > 0:
        follow(spec)
        code = 0
    else:
        code = do_here(create_here(args.runs, spec, args.config.stem, mirror=args.mirror), spec)
    if code == 0:  # after a failure the launcher ends the others
        leave()
    return code
