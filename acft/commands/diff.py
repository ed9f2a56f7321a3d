"""Show the settings in which two runs differ."""

import argparse
import dataclasses
import json

from acft.commands._options import add_json, add_runs_dir


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the two runs."""
    for name in ("first", "second"):
        parser.add_argument(name, metavar="ID", help="run id, as ``acft runs`` lists it")
    add_runs_dir(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Prints one line for each setting: name, first value, second value."""
    from acft.runs.comparison import differences

    found = differences(args.runs, args.first, args.second)
    if args.json:
        print(json.dumps([dataclasses.asdict(one) for one in found], indent=2))
    elif not found:
        print("the settings are the same")
    width = max((len(one.name) for one in found), default=0)
    for one in [] if args.json else found:
        print(f"{one.name:<{width}}  {_shown(one.first)} -> {_shown(one.second)}")


def _shown(value: object) -> str:
    return "not set" if value is None else json.dumps(value, default=str)
