"""Runs that measure: settings of an evaluation made from a run or a model."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from acft.errors import RunError
from acft.runs.checkpoints import verify
from acft.runs.directory import RUN_ID, find_run, read_launch, read_status
from acft.runs.spec import EVALUATE, Spec, parse_spec
from acft.schema import RunPaths
from acft.settings import as_asked

POLICY, CONTROL, BASE = "policy", "control", "base"


@dataclass(frozen=True)
class Measurement:
    """What to measure, ready to be launched or done."""

    text: str
    overrides: tuple[str, ...]
    subject: str
    """Run id or model."""
    experiment: str = ""

    @property
    def spec(self) -> Spec:
        """The checked settings."""
        return parse_spec(self.text, self.overrides, self.subject)

    def checked(self) -> Spec:
        """The settings, when all that they name is on this machine.

        Raises:
            ConfigError: A file, model or package is missing.
        """
        return parse_spec(self.text, self.overrides, self.subject, has_files=True)


def measurement(
    runs_dir: Path,
    subject: str,
    suites: Sequence[str],
    overrides: Sequence[str] = (),
    control: str = "",
) -> Measurement:
    """An evaluation of a run's best checkpoint, or of a model, beside its base policy.

    Args:
        runs_dir: Directory of all runs.
        subject: Run id, or a model as in ``[model]``.
        suites: Registered suites.
        overrides: Changes to the settings of the evaluation.
        control: Run whose best checkpoint a change must exceed, if any.

    Raises:
        DataError: A file of a checkpoint is missing or altered.
        RunError: There is no such run, it is the control as well, it trained nothing, or no round
            of it is sealed.
    """
    if control == subject:
        raise RunError(f"--control {control} is the run that is measured; name its control")
    subjects: dict[str, dict[str, Any]] = {BASE: {}}
    name = PurePath(subject).name
    text, own, experiment = "", [f"model.name={json.dumps(subject)}"], ""
    if RUN_ID.fullmatch(subject):
        paths = find_run(runs_dir, subject)
        launch = read_launch(paths)
        text = paths.spec.read_text(encoding="utf-8")
        own, experiment = list(launch.overrides), launch.experiment
        name = as_asked(tomllib.loads(text), own).get("title") or subject
        subjects[POLICY] = _verified_result(paths)
    if control:
        subjects[CONTROL] = _verified_result(find_run(runs_dir, control))
    title = f"{name}: {', '.join(suites)} measured"
    own.append(f"title={json.dumps(title)}")
    own += as_evaluation(suites, subjects)
    return Measurement(text, (*own, *overrides), subject, experiment)


def as_evaluation(
    suites: Sequence[str], subjects: Mapping[str, Mapping[str, Any]], **settings: Any
) -> list[str]:
    """Overrides that turn settings of a run into those of an evaluation.

    Args:
        suites: Registered suites.
        subjects: Settings of each subject by its name.
        settings: More settings of the evaluation.
    """
    method = {"name": EVALUATE, "suites": list(suites), "subjects": subjects, **settings}
    return [
        f"method={inline(method)}",
        f"schedule.rounds={len(suites) * len(subjects)}",
        "optimizer.warmup_steps=0",
    ]


def inline(value: Any) -> str:
    """A value as TOML on one line."""
    if isinstance(value, Mapping):
        pairs = (f"{json.dumps(key)} = {inline(item)}" for key, item in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(inline, value)) + "]"
    return json.dumps(value)


def best_checkpoint(paths: RunPaths) -> Path:
    """Folder of the best checkpoint of a run, or of its last where none was called best.

    Raises:
        RunError: No round of the run is sealed.
    """
    status = read_status(paths)
    name = status.best_checkpoint or status.checkpoint
    if not name:
        raise RunError(f"run {paths.root.name} has no sealed checkpoint to measure")
    return (paths.root / name).resolve()


def result_of(paths: RunPaths) -> dict[str, Any]:
    """The best checkpoint of a run as a subject; its files are not read.

    Raises:
        RunError: No round of the run is sealed.
    """
    folder = best_checkpoint(paths)
    spec = parse_spec(paths.spec.read_text(encoding="utf-8"), read_launch(paths).overrides)
    return {
        "checkpoint": str(folder),
        "version": int(folder.name.rpartition("-")[2]),
        **spec.method.used_with(spec.method_settings),
    }


def _verified_result(paths: RunPaths) -> dict[str, Any]:
    launch = read_launch(paths)
    if launch.subject:
        raise RunError(
            f"{paths.root.name} is an evaluation and has no policy; it measured {launch.subject}, "
            "name that instead"
        )
    verify(best_checkpoint(paths))
    return result_of(paths)
