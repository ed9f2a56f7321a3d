"""Train in the foreground with a progress display."""

import argparse

from acft.commands._options import add_config, add_mirror, add_runs_dir


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the settings file, overrides and runs directory."""
    add_config(parser)
    add_runs_dir(parser)
    add_mirror(parser)


def run(args: argparse.Namespace) -> int:
    """Exit code of the run; see ``do_here``."""
    from acft.config import read_own
    from acft.runs.plain import check_plain

    check_plain(read_own(args.config), args.set, str(args.config))
    from acft.commands._display import do_here
    from acft.runs.launcher import create_here
    from acft.runs.spec import load_spec

    spec = load_spec(args.config, args.set, has_files=True)
    return do_here(lambda: create_here(args.runs, spec, args.config.stem, mirror=args.mirror), spec)
