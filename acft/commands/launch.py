"""Queue runs that go on in the background, with or without the workbench."""

import argparse
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acft.commands._options import add_json, add_mirror, add_runs_dir, add_set, on
from acft.ui.options import GIBIBYTE, add_quota
from acft.ui.web.words import duration

if TYPE_CHECKING:
    from acft.runs.spec import Spec
    from acft.runs.sweep import Plan


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds what to run, changes to it, and the runs directory."""
    parser.add_argument("config", help="settings file (TOML), or the id of a run to clone")
    add_set(parser)
    parser.add_argument(
        "--grid", action="append", default=[], metavar="A.B=C|D",
        help="queue one run for each value; several grids are combined",
    )  # fmt: skip
    parser.add_argument(
        "--yes", action="store_true", help="queue a grid; without it the grid is only shown"
    )
    add_quota(parser)
    parser.add_argument(
        "--request-id", default="", metavar="ID", help="the same id never starts two runs"
    )
    add_mirror(parser)
    add_runs_dir(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Prints the ids of the queued runs, or what a grid would queue."""
    from acft.runs.detached import ensure_supervisor
    from acft.runs.directory import not_writable

    source = _source(args)
    planned = _planned(args, source) if args.grid else None
    try:
        queued = _queue(args, source, planned)
        supervisor = ensure_supervisor(args.runs) if queued else ""
    except OSError as error:
        raise not_writable(args.runs, error) from error
    if args.json:
        print(json.dumps({"run_ids": queued, "supervisor": supervisor, **_record(planned)}))
        return
    if planned is not None and not queued:
        _show(planned)
    for run_id in queued:
        _tell_of_twins(args.runs, run_id)
        print(f"{run_id} queued; {supervisor} starts it")


def _tell_of_twins(runs_dir: Path, run_id: str) -> None:
    """Says which other runs ask for the same numbers; two terminals may both have launched."""
    from acft.errors import DataError
    from acft.runs.directory import all_runs, read_launch

    fingerprints: dict[str, str] = {}
    for paths in all_runs(runs_dir):
        with suppress(DataError):
            fingerprints[paths.root.name] = read_launch(paths).fingerprint
    wanted = fingerprints.pop(run_id, "")
    twins = [name for name, found in fingerprints.items() if wanted and found == wanted]
    if twins:
        way_out = f"acft stop {on(run_id, runs_dir)}"
        print(f"{run_id} has the settings of {', '.join(twins)}; if not meant: {way_out}")


@dataclass(frozen=True)
class _Source:
    """Settings to launch, and where they are from."""

    text: str
    overrides: tuple[str, ...]
    experiment: str
    cloned_from: str = ""


def _source(args: argparse.Namespace) -> _Source:
    """The settings file or the run that was named, with the changes asked for."""
    from acft.config import read_own, read_text
    from acft.runs.directory import RUN_ID, find_run, read_launch

    if not RUN_ID.fullmatch(args.config):
        path = Path(args.config)
        return _Source(read_own(path), tuple(args.set), path.stem)
    paths = find_run(args.runs, args.config)
    record = read_launch(paths)
    overrides = (*record.overrides, *args.set)
    return _Source(read_text(paths.spec), overrides, record.experiment, args.config)


def _queue(args: argparse.Namespace, source: _Source, planned: "Plan | None") -> list[str]:
    if planned is None:
        return [_queue_one(args, source)]
    return _queue_grid(args, source, planned) if args.yes else []


def _queue_one(args: argparse.Namespace, source: _Source) -> str:
    from acft.runs.plain import check_plain

    check_plain(source.text, source.overrides, args.config)
    from acft.runs.launcher import launch
    from acft.runs.spec import parse_spec

    _check_room(args, [parse_spec(source.text, source.overrides, args.config, has_files=True)])
    return launch(
        args.runs, source.text, source.overrides, request_id=args.request_id,
        cloned_from=source.cloned_from, experiment=source.experiment, mirror=args.mirror,
        where=args.config,
    )  # fmt: skip


def _planned(args: argparse.Namespace, source: _Source) -> "Plan":
    from acft.runs.sweep import parse_axis, plan

    axes = [parse_axis(grid) for grid in args.grid]
    return plan(args.runs, source.text, axes, source.overrides, source.experiment)


def _record(planned: "Plan | None") -> dict[str, Any]:
    """A grid's combinations, and the runs that some of them were before."""
    variants = planned.variants if planned else ()
    combinations = [{"overrides": v.spec.overrides, "run_id": v.existing} for v in variants]
    return {"plan": combinations} if planned else {}


def _show(planned: "Plan") -> None:
    for variant in planned.variants:
        done = f"  (is run {variant.existing})" if variant.existing else ""
        print(f"{'  '.join(variant.spec.overrides)}{done}")
    way_on = "; add --yes to do it" if planned.fresh else ""
    print(f"{len(planned.fresh)} runs would be queued{way_on}")


def _queue_grid(args: argparse.Namespace, source: _Source, planned: "Plan") -> list[str]:
    from acft.runs.sweep import queue

    if planned.fresh:
        _check_room(args, [variant.spec for variant in planned.fresh])
    return queue(
        args.runs, planned, len(planned.fresh), time.time(), request_id=args.request_id,
        cloned_from=source.cloned_from, mirror=args.mirror,
    )  # fmt: skip


def _check_room(args: argparse.Namespace, specs: Sequence["Spec"]) -> None:
    """Tells what the runs will need, and returns if there is room for it."""
    from acft.runs.estimates import estimates
    from acft.runs.sizes import size
    from acft.runs.space import check_room

    known = [expected for expected in estimates(args.runs, specs) if expected is not None]
    needed = sum(expected.bytes for expected in known)
    if known and not args.json:
        time_needed = duration(sum(expected.seconds for expected in known))
        part = f" for {len(known)} of {len(specs)} runs" if len(known) < len(specs) else ""
        print(f"like earlier runs: {time_needed}, {size(needed)}{part}")
    check_room(args.runs, needed, int(args.quota * GIBIBYTE))
