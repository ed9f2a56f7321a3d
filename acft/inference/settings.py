"""Checking and launching settings, which needs every method and constraint and so the tensors."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from acft.benchmarks.base import SUITES
from acft.config import Config
from acft.constraints import CONSTRAINTS
from acft.corpora.base import CORPORA
from acft.decoding.base import DECODERS
from acft.engines import ENGINES, refuse_places
from acft.errors import ConfigError
from acft.inference.fields import fields_of
from acft.inference.server import Session
from acft.methods.base import METHODS
from acft.metrics.base import METRICS
from acft.oracle.base import ORACLES
from acft.registry import Registry, all_problems, summary_of
from acft.runs import launcher
from acft.runs.estimates import estimate, estimates
from acft.runs.space import check_room
from acft.runs.spec import parse_spec
from acft.runs.sweep import Plan, parse_axis, plan, queue
from acft.scorers import SCORERS

REGISTRIES: tuple[Registry[Any], ...] = (
    METHODS, CONSTRAINTS, SCORERS, ORACLES, DECODERS, ENGINES, CORPORA, METRICS, SUITES,
)  # fmt: skip
"""What settings may name."""


def check(
    _: Session,
    text: str,
    *,
    has_files: bool = False,
) -> list[str]:
    """Problems of a settings text, one line each; none when it can be launched.

    Whether files are there is looked up, and so told, only with ``has_files``.
    """
    try:
        refuse_places(parse_spec(text, has_files=has_files).settings)
    except ConfigError as error:
        return str(error).splitlines()
    return []


def outline(_: Session, text: str) -> dict[str, Any]:
    """Number of rounds; of each, judged responses and steps; whether these are the method's all.

    Raises:
        ConfigError: The settings have problems.
    """
    spec = parse_spec(text)
    return {
        "rounds": spec.settings.schedule.rounds,
        "judged": spec.judged_per_round,
        "steps": spec.steps_per_round,
        "is_counted": spec.method.is_counted,
    }


def launch(
    _: Session,
    runs: str,
    text: str,
    request_id: str,
    cloned_from: str = "",
    experiment: str = "",
    quota_bytes: int = 0,
) -> str:
    """Id of the queued run.

    Raises:
        ConfigError: The settings have problems, or say what a browser may not.
        RunError: It would not fit on the disk, or not into the quota (0 = none).
    """
    spec = parse_spec(text, has_files=True)
    refuse_places(spec.settings)
    expected = estimate(Path(runs), spec)
    check_room(Path(runs), expected.bytes if expected else 0, quota_bytes)
    return launcher.launch(
        Path(runs), text, request_id=request_id, cloned_from=cloned_from, experiment=experiment
    )


def plan_grid(
    _: Session,
    runs: str,
    text: str,
    grid: Sequence[str],
) -> list[dict[str, Any]]:
    """Every combination of a grid, and the run that has its settings already, if any.

    Raises:
        ConfigError: A line of the grid or any combination has problems, or says what a browser
            may not.
    """
    planned = _planned(Path(runs), text, grid)
    return [{"changes": v.spec.overrides, "run_id": v.existing} for v in planned.variants]


def launch_grid(
    _: Session,
    runs: str,
    text: str,
    grid: Sequence[str],
    n_confirmed: int,
    request_id: str,
    cloned_from: str = "",
    experiment: str = "",
    quota_bytes: int = 0,
) -> list[str]:
    """Ids of the queued runs, one for each combination that no run has yet.

    Raises:
        ConfigError: As ``plan_grid``.
        RunError: Others would be queued than were confirmed, or they would not fit on the disk.
    """
    planned = _planned(Path(runs), text, grid, experiment)
    expected = estimates(Path(runs), [variant.spec for variant in planned.fresh])
    check_room(Path(runs), sum(each.bytes for each in expected if each is not None), quota_bytes)
    return queue(
        Path(runs), planned, n_confirmed, time.time(),
        request_id=request_id, cloned_from=cloned_from,
    )  # fmt: skip


def _planned(runs: Path, text: str, grid: Sequence[str], experiment: str = "") -> Plan:
    planned = plan(runs, text, [parse_axis(line) for line in grid], experiment=experiment)
    for variant in planned.variants:
        refuse_places(variant.spec.settings)
    return planned


def describe(_: Session) -> dict[str, Any]:
    """Methods and constraints with their settings, for the form, and which files are not there."""
    return {
        "not_loaded": all_problems(REGISTRIES),
        "method": {
            name: _described(method.settings_type, method.summary)
            for name, method in METHODS.items()
        },
        "constraint": {
            name: _described(settings, summary_of(settings))
            for name, settings in CONSTRAINTS.items()
        },
    }


def _described(settings: type[Config], summary: str) -> dict[str, Any]:
    described = [field.description() for field in fields_of(settings)]
    return {"summary": summary, "fields": described}
