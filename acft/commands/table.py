"""Print a paper-style table from finished runs, or do the runs of a table that are missing."""

import argparse
import dataclasses
import json
import math
import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from acft.commands._options import add_json, add_runs_dir

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from acft.schema import RunPaths
    from acft.tables.experiment import Experiment, Task
    from acft.tables.table import ResultTable


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the experiment, its columns, and what to do about missing runs."""
    parser.add_argument(
        "experiment",
        help="folder with a table.toml, such as experiments/table_a; else the name of a settings "
        "file (without .toml), of a sweep or of a tag",
    )
    parser.add_argument(
        "--metric", action="append", default=[], metavar="PATTERN",
        help="columns to show, such as 'rtp/* toxicity_probability'; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--against", default="", metavar="NAME",
        help="show relative changes from this row (such as Base) or subject (such as base), with a "
        "verdict; both must have been measured by acft evaluate or a table",
    )  # fmt: skip
    parser.add_argument(
        "--margin", type=_margin, metavar="SHARE",
        help="equivalent where neither is above the other by this share (default: 0.1); of AUCs, "
        "where they differ by less than this share of what the reference has beyond chance",
    )  # fmt: skip
    parser.add_argument(
        "--variant", default="", metavar="NAME",
        help="size of a table, by its name under [variants] (default: the first)",
    )  # fmt: skip
    missing = parser.add_mutually_exclusive_group()
    missing.add_argument(
        "--plan", action="store_true", help="list the runs of a table with their states"
    )
    missing.add_argument(
        "--queue", action="store_true",
        help="queue the missing runs, and resume those that ended early; call again for the "
        "evaluations when they are finished",
    )  # fmt: skip
    missing.add_argument(
        "--run", action="store_true",
        help="do the missing runs here, one after the other; those that ended early go on",
    )  # fmt: skip
    parser.add_argument(
        "--figures",
        type=Path,
        metavar="DIR",
        help="also write the figures of a table, as SVG and PDF",
    )
    parser.add_argument(
        "--pack", type=Path, metavar="FILE",
        help="also write what the table was made from, without weights and texts, as one file "
        "(.tar.xz)",
    )  # fmt: skip
    parser.add_argument(
        "--unpack", type=Path, metavar="FILE", action="append", default=[],
        help="first add the runs of a packed table to the folder of runs; repeatable, to join "
        "parts made on several machines",
    )  # fmt: skip
    parser.add_argument("--latex", action="store_true", help="print LaTeX instead of Markdown")
    add_runs_dir(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Prints Markdown, LaTeX or JSON; the exit code is that of the first run that failed."""
    from acft.tables.experiment import is_experiment, load_experiment
    from acft.tables.table import MARGIN, result_table

    margin = args.margin or MARGIN
    if not is_experiment(Path(args.experiment)):
        _refuse_table_options(args)
        patterns = args.metric or ["*"]
        _print(result_table(args.runs, args.experiment, patterns, args.against, margin), args)
        return 0
    if args.plan or args.queue:
        _refuse_what_no_plan_has(args)
    experiment = load_experiment(Path(args.experiment), args.variant)
    for file in args.unpack:
        _unpack(file, args.runs)
    if args.plan or args.queue:
        _plan(experiment, args)
        return 0
    code = _run_missing(experiment, args.runs.resolve()) if args.run else 0
    if not code:
        table = experiment.table(args.runs, args.against, margin, args.metric)
        _print(table, args)
        if args.figures:
            _write_figures(experiment.figures(args.runs, table), args.figures)
        if args.pack:
            _pack(experiment, args)
    return code


def _pack(experiment: "Experiment", args: argparse.Namespace) -> None:
    from acft.tables.packed import pack

    runs = experiment.measured(args.runs)
    pack(runs, args.pack)
    print(f"packed {len(runs)} runs into {args.pack}", file=sys.stderr)


def _unpack(file: Path, runs_dir: Path) -> None:
    from acft.tables.packed import unpack

    runs = unpack(file, runs_dir)
    print(f"added {len(runs)} runs of {file} to {runs_dir}", file=sys.stderr)


def _write_figures(figures: dict[str, "Figure"], folder: Path) -> None:
    from acft.tables.figures import save

    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        for file in save(figure, folder / re.sub(r"[^\w.-]+", "-", name).strip("-")):
            print(f"wrote {file}", file=sys.stderr)


def _plan(experiment: "Experiment", args: argparse.Namespace) -> None:
    progress = experiment.progress(args.runs)
    if args.queue:
        experiment.check(args.runs)
    queued = [_queue(experiment, task, args.runs) for task in progress.ready if args.queue]
    if queued:
        from acft.runs.detached import ensure_supervisor

        ensure_supervisor(args.runs)
    n_done = len({task.run_id for task in progress.done})  # rows may share a run
    if args.json:
        counts = {"done": n_done, "running": len(progress.running)}
        print(json.dumps({**counts, "ready": len(progress.ready), "queued": queued}))
        return
    for task in (*progress.done, *progress.running, *progress.ready):
        what = "evaluation" if task.is_evaluation else "training"
        print(f"{task.state or 'missing':<9} {what:<10} {task.row}  {_seed(task)}  {task.run_id}")
    print(
        f"{n_done} done, {len(progress.running)} queued or running, "
        f"{len(progress.ready)} missing{' (now queued)' if queued else ''}, "
        f"{progress.waiting} evaluations wait for their runs"
    )


def _run_missing(experiment: "Experiment", runs_dir: Path) -> int:
    """Exit code of the first run that failed, else 0.

    Raises:
        RunError: Others do some of the runs and have not finished them.
    """
    from acft.commands._display import do_here
    from acft.errors import RunError

    experiment.check(runs_dir)
    while (progress := experiment.progress(runs_dir)).ready:
        task = progress.ready[0]
        print(f"{task.row} {_seed(task)}".rstrip(), file=sys.stderr)
        code = do_here(partial(_begin_here, experiment, task, runs_dir), task.spec)
        if code:
            return code
    if progress.running:
        raise RunError(
            f"{len(progress.running)} runs of {experiment.name!r} are queued or running elsewhere "
            f"and {progress.waiting} evaluations wait, so its table is not complete; call again "
            "when they have finished"
        )
    return 0


def _begin_here(experiment: "Experiment", task: "Task", runs_dir: Path) -> "RunPaths":
    """Directory of the run that does a task: one that ended early and goes on, or a new one."""
    from acft.runs.launcher import create_here, resume_here

    if task.run_id:
        return resume_here(runs_dir, task.run_id)
    return create_here(runs_dir, task.spec, experiment=experiment.name, subject=task.subject)


def _queue(experiment: "Experiment", task: "Task", runs_dir: Path) -> str:
    from acft.runs.launcher import launch, resume

    if task.run_id:
        resume(runs_dir, task.run_id)
        return task.run_id
    return launch(
        runs_dir, task.text, task.overrides,
        experiment=experiment.name, subject=task.subject, where=task.row,
    )  # fmt: skip


def _margin(text: str) -> float:
    """The change below which two rows are equivalent.

    Raises:
        argparse.ArgumentTypeError: It is not above 0.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number above 0; with 0.1 two rows of which neither is 10 % above "
            "the other count as equivalent"
        )
    return value


def _seed(task: "Task") -> str:
    return next((change for change in task.overrides if change.startswith("seed=")), "")


def _refuse_table_options(args: argparse.Namespace) -> None:
    from acft.errors import ConfigError

    options = (args.plan, args.queue, args.run, args.variant, args.figures, args.pack, args.unpack)
    if any(options):
        raise ConfigError(
            f"{args.experiment!r} is no folder with a table.toml, so its runs are not known; "
            "--plan, --queue, --run, --figures, --pack, --unpack and --variant need one, such as "
            "experiments/table_a"
        )


def _refuse_what_no_plan_has(args: argparse.Namespace) -> None:
    from acft.errors import ConfigError

    asked = {
        "--metric": args.metric, "--against": args.against, "--margin": args.margin,
        "--figures": args.figures, "--pack": args.pack, "--latex": args.latex,
    }  # fmt: skip
    if names := [name for name, given in asked.items() if given]:
        raise ConfigError(
            f"--plan and --queue make no table, so {', '.join(names)} would have no effect; leave "
            "that out, or ask for the table without --plan and --queue"
        )


def _print(table: "ResultTable", args: argparse.Namespace) -> None:
    if args.json:
        print(json.dumps(dataclasses.asdict(table), indent=2))
    else:
        print(table.latex if args.latex else table.markdown)
