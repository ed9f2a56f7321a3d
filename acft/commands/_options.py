"""Options that several commands share."""

import argparse
import shlex
from pathlib import Path

RUNS_DIR = Path("runs")


def add_config(parser: argparse.ArgumentParser) -> None:
    """Adds the settings file and overrides."""
    parser.add_argument("config", type=Path, help="settings file (TOML), as in experiments/")
    add_set(parser)


def add_set(parser: argparse.ArgumentParser) -> None:
    """Adds overrides of settings."""
    parser.add_argument(
        "--set", action="append", default=[], metavar="A.B=C", help="change one setting; repeatable"
    )


def add_mirror(parser: argparse.ArgumentParser) -> None:
    """Adds trackers that get a copy of the metrics."""
    parser.add_argument(
        "--mirror", action="append", default=[], metavar="TRACKER",
        help="also send metrics to trackio, tensorboard or wandb; repeatable",
    )  # fmt: skip


def add_runs_dir(parser: argparse.ArgumentParser) -> None:
    """Adds the directory of all runs."""
    parser.add_argument(
        "--runs", type=Path, default=RUNS_DIR, metavar="DIR", help="runs directory (default: runs)"
    )


def add_run_id(parser: argparse.ArgumentParser) -> None:
    """Adds the run that is meant."""
    parser.add_argument("run_id", metavar="ID", help="run id, as ``acft runs`` lists it")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Adds the switch to machine-readable output."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def on(run_id: str, runs_dir: Path) -> str:
    """The run as the end of a command that can be pasted: with its folder, unless that is usual."""
    return run_id if runs_dir == RUNS_DIR else f"{run_id} --runs {shlex.quote(str(runs_dir))}"
