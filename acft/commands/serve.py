"""Start the workbench in the browser."""

import argparse

from acft.ui.options import configure as configure_options
from acft.ui.options import from_arguments


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds address, runs directory and mode."""
    configure_options(parser)


def run(args: argparse.Namespace) -> int:
    """Serves until interrupted."""
    from acft.ui.app import serve

    return serve(from_arguments(args))
