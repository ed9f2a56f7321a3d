"""Queue runs that go on in the background, with or without the workbench."""

import argparse
import json
import time
from pathlib import Path

from acft.commands._options import add_json, add_mirror, add_runs_dir

MINUTE = 60.0
GIBIBYTE = 1024**3


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds what to run, changes to it, and the runs directory."""
    parser.add_argument("config", help="settings file (TOML), or the id of a run to clone")
    parser.add_argument(
        "--set", action="append", default=[], metavar="A.B=C", help="change one setting; repeatable"
    )
    parser.add_argument(
        "--grid", action="append", default=[], metavar="A.B=C|D",
        help="queue one run for each value; several grids are combined",
    )  # fmt: skip
    parser.add_argument(
        "--yes", action="store_true", help="queue a grid; without it the grid is only shown"
    )
    parser.add_argument(
        "--quota", type=float, default=0.0, metavar="GIB", help="most that all runs may take"
    )
    parser.add_argument(
        "--request-id", default="", metavar="ID", help="the same id never starts two runs"
    )
    add_mirror(parser)
    add_runs_dir(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Prints the ids of the queued runs, or what a grid would queue."""
    from acft.runs.supervisor import ensure_supervisor

    queued = _queue_grid(args) if args.grid else [_queue_one(args)]
    supervisor = ensure_supervisor(args.runs) if queued else ""
    if args.json:
        print(json.dumps({"run_ids": queued, "supervisor": supervisor}))
        return
    for run_id in queued:
        print(f"{run_id} queued; {supervisor} starts it")


def _queue_one(args: argparse.Namespace) -> str:
    from acft.runs.directory import RUN_ID
    from acft.runs.launcher import launch
    from acft.runs.lineage import check_room, clone, estimate
    from acft.runs.spec import parse_spec, read_text

    if RUN_ID.fullmatch(args.config):
        return clone(args.runs, args.config, args.set, request_id=args.request_id)
    text = read_text(Path(args.config))
    expected = estimate(args.runs, parse_spec(text, args.set, args.config))
    if expected is not None and not args.json:
        size = f"{expected.bytes / GIBIBYTE:.2f} GiB"
        print(f"like earlier runs: {expected.seconds / MINUTE:.0f} min, {size}")
    quota = int(args.quota * GIBIBYTE)
    check_room(args.runs, expected.bytes if expected else 0, quota)
    return launch(
        args.runs, text, args.set, request_id=args.request_id,
        experiment=Path(args.config).stem, mirror=args.mirror, where=args.config,
    )  # fmt: skip


def _queue_grid(args: argparse.Namespace) -> list[str]:
    from acft.runs.spec import read_text
    from acft.runs.sweep import parse_axis, plan, queue

    axes = [parse_axis(grid) for grid in args.grid]
    sweep = plan(args.runs, read_text(Path(args.config)), axes, args.set, Path(args.config).stem)
    if args.yes:
        return queue(args.runs, sweep, len(sweep.fresh), time.time())
    if not args.json:
        for variant in sweep.variants:
            done = f"  (is run {variant.existing})" if variant.existing else ""
            print(f"{'  '.join(variant.overrides)}{done}")
        print(f"{len(sweep.fresh)} runs would be queued; add --yes to do it")
    return []
