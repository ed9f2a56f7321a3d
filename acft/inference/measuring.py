"""Measuring a run anew: which suites there are, what a choice would cost, and its launch."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from acft.atomic import read_own_text
from acft.benchmarks.base import NOT_OF_DECODERS, SUITES
from acft.config import toml_value
from acft.errors import AcftError, ConfigError
from acft.inference.server import Session
from acft.methods.evaluate import EvaluateSettings, contradictions, missing
from acft.runs import launcher
from acft.runs.directory import find_run, read_launch
from acft.runs.measure import measurement
from acft.runs.space import check_room
from acft.runs.spec import parse_spec
from acft.settings import RunSettings

COUNTED = {"prompts", "continuations", "documents"}
"""Settings of suites that a reader chooses for all suites that have them."""
PUBLISHED = {"toxigen", "collateral"}
"""Suites whose prompts and continuations are those of a published protocol."""


def weigh(
    _: Session,
    runs: str,
    run_id: str,
    suites: Sequence[str],
    numbers: dict[str, int],
    judge: str,
    *,
    has_files: bool = False,
) -> dict[str, Any]:
    """Every suite with why it cannot be had, and the work and problems of a choice of them.

    Whether the judge's files are there is looked up, and so told, only with ``has_files``.
    """
    paths = find_run(Path(runs), run_id)
    text, overrides = read_own_text(paths.spec), read_launch(paths).overrides
    spec = parse_spec(text, overrides)
    run, has_decoder = spec.settings, "decoder" in spec.method.used_with(spec.method_settings)
    offered, choice = _offered(has_decoder=has_decoder), {"suites": suites, "judge": judge}
    try:
        options = _options(suites, numbers)
        chosen = EvaluateSettings.parse(choice | {"options": options})
    except ConfigError as error:
        return {"suites": offered, "work": {}, "problems": str(error).splitlines()}
    work, problems = _work(chosen, run)
    problems = [
        *contradictions(chosen, run),
        *(missing(chosen, run) if has_files else ()),
        *problems,
    ]
    return {"suites": offered, "work": dict(work), "problems": problems}


def measure(
    _: Session,
    runs: str,
    run_id: str,
    suites: Sequence[str],
    numbers: dict[str, int],
    judge: str,
    request_id: str,
    quota_bytes: int = 0,
) -> str:
    """Id of the queued run that measures the preferred checkpoint of a run beside its base.

    Raises:
        RunError: There is no room on the disk or in the quota (0 = none).
    """
    check_room(Path(runs), 0, quota_bytes)
    changes = [f"method.options={toml_value(_options(suites, numbers))}"]
    changes += [f"method.judge={toml_value(judge)}"] if judge else []
    wanted = measurement(Path(runs), run_id, suites, changes)
    return launcher.launch(
        Path(runs), wanted.text, wanted.overrides, request_id=request_id,
        experiment=wanted.experiment, subject=wanted.subject, where=run_id,
    )  # fmt: skip


def _options(suites: Sequence[str], numbers: dict[str, int]) -> dict[str, dict[str, int]]:
    """The numbers, for those of the suites that have a setting of that name.

    Raises:
        ConfigError: There is no such suite.
    """
    options = {}
    for name in sorted(set(suites) - PUBLISHED):
        known = SUITES.get(name).settings_type.model_fields.keys() & COUNTED
        options[name] = {key: number for key, number in numbers.items() if key in known}
    return {name: chosen for name, chosen in options.items() if chosen}


def _work(chosen: EvaluateSettings, run: RunSettings) -> tuple[Counter[str], list[str]]:
    """Units of work for one policy, and why a suite cannot say."""
    parts: dict[tuple[str, str], int] = {}
    problems = []
    for name in chosen.suites:
        suite = SUITES.get(name)
        try:
            parts |= suite.work(suite.settings_type.parse(chosen.options.get(name, {})), run)
        except AcftError as error:
            problems.append(f"{name}: {error}")
    work = Counter[str]()
    for (unit, _), n in parts.items():
        work[unit] += n
    return work, problems


def _offered(*, has_decoder: bool) -> list[dict[str, Any]]:
    found = []
    for name, suite in SUITES.items():
        why_not = suite.missing(suite.settings_type())
        notes = ["needs a judge model"] if suite.needs_judge else []
        notes += [f"of base only: {NOT_OF_DECODERS}"] * (suite.reads_with_policy and has_decoder)
        found.append({"name": name, "summary": suite.summary, "note": "; ".join(notes),
                      "why_not": why_not[0] if why_not else ""})  # fmt: skip
    return found
