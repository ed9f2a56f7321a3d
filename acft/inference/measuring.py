"""Measuring a run anew: which suites there are, what a choice would cost, and its launch."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from acft.benchmarks.base import NOT_OF_DECODERS, SUITES
from acft.config import toml_value
from acft.engines import refuse_places
from acft.errors import AcftError, ConfigError
from acft.inference.server import Session
from acft.methods.evaluate import EvaluateSettings
from acft.runs import launcher
from acft.runs.controls import controls
from acft.runs.directory import find_run
from acft.runs.measure import measurement
from acft.runs.space import check_room
from acft.runs.spec import Spec, spec_of
from acft.scorers import SCORERS
from acft.settings import EVALUATE, RunSettings

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
    control: str | None = None,
    scorers: Sequence[str] | None = None,
    changes: Sequence[str] = (),
    *,
    has_files: bool = False,
) -> dict[str, Any]:
    """What can be had and why not, and the work, problems and overrides of a choice of it.

    Args:
        runs: Runs directory.
        run_id: The run that is measured.
        suites: The chosen suites.
        numbers: Prompts, continuations, documents.
        judge: Model whose likelihood judges responses.
        control: Run that a change must exceed; None takes the only one of the same settings.
        scorers: Who judges toxicity; None for those of the run.
        changes: Further settings of the evaluation, ``section.key=value``.
        has_files: Files are looked up, and so told.
    """
    spec = spec_of(find_run(Path(runs), run_id))
    has_decoder = "decoder" in spec.method.used_with(spec.method_settings)
    found: dict[str, Any] = {
        "suites": _offered(has_decoder=has_decoder), "scorers": _scorers(), "controls": [],
        "control": control or "", "overrides": [], "work": {}, "problems": [],
    }  # fmt: skip
    try:
        found["controls"], only = controls(Path(runs), run_id)
        found["control"] = only if control is None else control
        found["overrides"] = _overrides(suites, numbers, judge, scorers, changes)
        wanted = measurement(
            Path(runs), run_id, suites, found["overrides"], found["control"], is_verified=False
        )
        asked = _allowed(wanted.checked() if has_files else wanted.spec)
    except AcftError as error:
        return found | {"problems": str(error).splitlines()}
    assert isinstance(asked.method_settings, EvaluateSettings)
    work, problems = _work(asked.method_settings, asked.settings)
    return found | {"work": dict(work), "problems": problems}


def measure(
    _: Session,
    runs: str,
    run_id: str,
    suites: Sequence[str],
    numbers: dict[str, int],
    judge: str,
    request_id: str,
    control: str | None = None,
    scorers: Sequence[str] | None = None,
    changes: Sequence[str] = (),
    quota_bytes: int = 0,
) -> str:
    """Id of the queued run that measures the preferred checkpoint of a run beside its base.

    The choice is as in ``weigh``; without a word about a control there is none.

    Raises:
        ConfigError: The settings have problems, or say what a browser may not.
        RunError: There is no such run, no room on the disk or in the quota (0 = none), or the
            control is none.
    """
    check_room(Path(runs), 0, quota_bytes)
    find_run(Path(runs), run_id)  # or else the name would be taken for a model's
    overrides = _overrides(suites, numbers, judge, scorers, changes)
    wanted = measurement(Path(runs), run_id, suites, overrides, control or "")
    _allowed(wanted.spec)
    return launcher.launch(
        Path(runs), wanted.text, wanted.overrides, request_id=request_id,
        experiment=wanted.experiment, subject=wanted.subject, where=run_id,
    )  # fmt: skip


def _overrides(
    suites: Sequence[str],
    numbers: dict[str, int],
    judge: str,
    scorers: Sequence[str] | None,
    changes: Sequence[str],
) -> list[str]:
    """What ``acft evaluate --set`` says for the same.

    Raises:
        ConfigError: There is no such suite.
    """
    options = _options(suites, numbers)
    found = [f"method.options={toml_value(options)}"] if options else []
    found += [f"method.judge={toml_value(judge)}"] if judge else []
    if scorers is not None:
        found.append(f"evaluation.scorers={toml_value(list(scorers))}")
    return [*found, *changes]


def _allowed(asked: Spec) -> Spec:
    """The settings of an evaluation, when a browser may say them.

    Raises:
        ConfigError: They name a place of the server, or train.
    """
    refuse_places(asked.settings)
    if asked.method_name != EVALUATE:
        raise ConfigError(
            f"[method] name = {asked.method_name!r}: a measurement trains nothing; leave it out, "
            "or launch it as a run of its own"
        )
    return asked


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
    """Units of work for all subjects, and why a suite cannot say."""
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
        work[unit] += n * len(chosen.subjects)
    return work, problems


def _scorers() -> list[dict[str, str]]:
    """Every registered scorer, and why it cannot be had."""
    return [
        {"name": name, "summary": entry.summary, "why_not": entry.problem()}
        for name, entry in SCORERS.items()
    ]


def _offered(*, has_decoder: bool) -> list[dict[str, Any]]:
    found = []
    for name, suite in SUITES.items():
        why_not = suite.missing(suite.settings_type())
        notes = ["needs a judge model"] if suite.needs_judge else []
        notes += [f"of base only: {NOT_OF_DECODERS}"] * (suite.reads_with_policy and has_decoder)
        found.append({"name": name, "summary": suite.summary, "note": "; ".join(notes),
                      "why_not": why_not[0] if why_not else ""})  # fmt: skip
    return found
