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
    add_runs_dir(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Prints Markdown or JSON."""
    from acft.runs.table import result_table

    table = result_table(args.runs, args.experiment, args.metric or ["*"])
    print(json.dumps(dataclasses.asdict(table), indent=2) if args.json else table.markdown)
