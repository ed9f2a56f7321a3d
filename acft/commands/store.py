"""Keep the database: make it again, copy it, ask it questions in SQL."""

import argparse
import csv
import dataclasses
import json
import math
import sys
from pathlib import Path

from acft.commands._options import add_json, add_runs_dir
from acft.commands._printable import printable
from acft.ui.options import add_guidance_rounds

LONGEST_SECONDS = 24 * 3600
EXAMPLES = """\
"SHOW TABLES" names the tables, "DESCRIBE metrics" the columns of one. Examples:
  "SELECT run_id, state, round, message FROM runs"
  "SELECT run_id, round, value FROM metrics WHERE name = 'rollout/satisfaction'"
  "SELECT prompt_text, response_text FROM rollouts ORDER BY satisfaction LIMIT 10"
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds ``rebuild``, ``snapshot`` and ``query``."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    rebuild = actions.add_parser("rebuild", help="make the database again from the run directories")
    add_runs_dir(rebuild)
    add_guidance_rounds(rebuild)
    snapshot = actions.add_parser("snapshot", help="write a consistent copy of the database")
    snapshot.add_argument("file", type=Path, help="file to be made")
    add_runs_dir(snapshot)
    query = actions.add_parser(
        "query", help="answer one SELECT over a locked-down copy", epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    query.add_argument("sql", metavar="SQL", help="one SELECT; answered as tab-separated lines")
    query.add_argument(
        "--run", action="append", default=[], metavar="ID", help="load only this run; repeatable"
    )
    query.add_argument("--limit", type=_rows, default=1000, help="most rows (default: 1000)")
    query.add_argument(
        "--seconds", type=_seconds, default=30.0, help="longest time in seconds (default: 30)"
    )
    add_runs_dir(query)
    add_json(query)


def run(args: argparse.Namespace) -> int:
    """0 when done."""
    return {"rebuild": _rebuild, "snapshot": _snapshot, "query": _query}[args.action](args)


def _rows(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of rows, 1 or more")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= LONGEST_SECONDS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of seconds above 0 and up to {LONGEST_SECONDS}, a day"
        )
    return value


def _rebuild(args: argparse.Namespace) -> int:
    from acft.store.ingest import Retention
    from acft.store.rebuild import rebuild

    n_runs = rebuild(_existing(args.runs), retention=Retention(args.guidance_rounds))
    print(f"database of {n_runs} runs made again in {str(args.runs)!r}")
    return 0


def _snapshot(args: argparse.Namespace) -> int:
    from acft.store.connection import StoreLockedError, open_store
    from acft.store.rebuild import bring_up_to_date, rebuild, require_new, snapshot

    runs, target = _existing(args.runs), args.file
    require_new(target)
    try:
        store = open_store(runs)
    except StoreLockedError:
        n_runs = rebuild(runs, target)
        print("the database is in use; the copy was made from the run directories instead")
    else:
        n_runs = bring_up_to_date(store)
        snapshot(store, target)
        store.close()
    print(f"snapshot of {n_runs} runs in {str(target)!r}")
    return 0


def _query(args: argparse.Namespace) -> int:
    from acft.runs.directory import find_run
    from acft.runs.status import record_ends
    from acft.store.sandbox import CapError, Caps, run_query

    caps, runs = Caps(seconds=args.seconds, rows=args.limit), _existing(args.runs)
    record_ends(runs)
    for run_id in args.run:
        find_run(runs, run_id)
    try:
        result = run_query(runs, args.sql, args.run, caps)
    except CapError as error:
        raise CapError(f"{error}, name the run (--run), or allow more (--seconds)") from None
    if args.json:
        print(json.dumps(dataclasses.asdict(result), indent=2))
        return 0
    shown = printable if sys.stdout.isatty() else str  # texts of a model may steer a terminal
    writer = csv.writer(sys.stdout, delimiter="\t")
    writer.writerow(result.columns)
    writer.writerows(
        [shown(cell) if isinstance(cell, str) else cell for cell in row] for row in result.rows
    )
    if result.is_cut:
        print(f"only the first {len(result.rows)} rows; raise --limit for more", file=sys.stderr)
    return 0


def _existing(runs: Path) -> Path:
    from acft.errors import DataError

    if not runs.is_dir():
        raise DataError(f"no runs directory at {str(runs)!r}; name another with --runs DIR")
    return runs
