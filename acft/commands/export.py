"""Write a run's tuned policy as a folder that plain transformers opens."""

import argparse
from pathlib import Path

from acft.commands._options import add_run_id, add_runs_dir


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the run, the folder and what of the run is wanted."""
    add_run_id(parser)
    parser.add_argument(
        "destination", type=Path, metavar="DIR", nargs="?",
        help="new or empty folder (default: one in the folder of the run)",
    )  # fmt: skip
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--merge", action="store_true", help="whole weights (default)")
    form.add_argument("--adapter", action="store_true", help="only the adapter, for peft")
    parser.add_argument(
        "--oracle", action="store_true", help="also the oracle, for guided decoding elsewhere"
    )
    parser.add_argument("--checkpoint", type=int, metavar="ROUND", help="default: the best one")
    add_runs_dir(parser)


def run(args: argparse.Namespace) -> None:
    """Prints where the folder is."""
    from acft.export import export_run, export_within, hints
    from acft.runs.directory import find_run
    from acft.runs.exports import Export
    from acft.runs.restore import sealed_round

    paths = find_run(args.runs, args.run_id)
    if args.destination is None:
        chosen = sealed_round(paths, args.checkpoint).round
        folder = export_within(paths.root, Export(chosen, not args.adapter, args.oracle))
    else:
        folder = export_run(
            paths.root, args.destination, args.checkpoint,
            merge=not args.adapter, with_oracle=args.oracle,
        )  # fmt: skip
    print(f"{args.run_id} exported to {folder}")
    for hint in hints(paths.root, with_oracle=args.oracle):
        print(hint)
