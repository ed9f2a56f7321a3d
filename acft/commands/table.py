"""Print a paper-style table from the finished runs of an experiment."""

import argparse
import dataclasses
import json

from acft.commands._options import add_json, add_runs_dir


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the experiment and its columns."""
    parser.add_argument(
        "experiment", help="name of the settings file (without .toml), of a sweep or of a tag"
    )
    parser.add_argument(
        "--metric", action="append", default=[], metavar="PATTERN",
        help="columns to show, such as 'rtp/* toxicity_probability'; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--against", default="", metavar="NAME",
        help="show relative changes from this subject (base) or variant, with a verdict",
    )  # fmt: skip
    parser.add_argument(
        "--margin", type=float, default=0.1, help="equivalent below this change (default: 0.1)"
    )
    parser.add_argument("--latex", action="store_true", help="print LaTeX instead of Markdown")
    add_runs_dir(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Prints Markdown, LaTeX or JSON."""
    from acft.runs.table import result_table

    patterns = args.metric or ["*"]
    table = result_table(args.runs, args.experiment, patterns, args.against, args.margin)
    if args.json:
        print(json.dumps(dataclasses.asdict(table), indent=2))
    else:
        print(table.latex if args.latex else table.markdown)
