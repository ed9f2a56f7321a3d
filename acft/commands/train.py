"""Train in the foreground with a progress display."""

import argparse
import logging

from acft.commands._options import add_config, add_runs_dir

INTERRUPTED = 130


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the settings file, overrides and runs directory."""
    add_config(parser)
    add_runs_dir(parser)


def run(args: argparse.Namespace) -> int:
    """Exit code of the run; Ctrl-C saves and stops, a second one stops at once."""
    from acft.commands._display import Display
    from acft.runs.launcher import create_here
    from acft.runs.spec import load_spec
    from acft.runs.worker import run_worker

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    spec = load_spec(args.config, args.set)
    paths = create_here(args.runs, spec)
    with Display(spec.title, paths, spec.settings.schedule.rounds) as display:
        code = run_worker(paths, display.show)
    return display.report(code)
