"""Runs that measure: settings of an evaluation made from a run or a model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from acft.atomic import read_own_text
from acft.checkpoints import verify
from acft.config import toml_value
from acft.corpora.files import looks_like_file
from acft.corpora.hub import PREFIX
from acft.corpora.sources import INLINE
from acft.errors import RunError
from acft.runs.directory import RUN_ID, find_run, read_launch, read_resolved, read_status
from acft.runs.spec import Spec, parse_spec, spec_of
from acft.schema import RunPaths
from acft.scorers import local
from acft.settings import EVALUATE

POLICY, CONTROL, BASE = "policy", "control", "base"
OPENED_BY = (
    "model.name", "model.revision", "model.chat_template", "model.quantization",
    "adapter.kind", "adapter.rank", "adapter.alpha",
)  # fmt: skip
"""Settings by which a checkpoint is opened, the measured run's for all subjects."""
GUIDED_BY = ("kind", "width", "layers", "rank", "rare", "log_r_min")
"""Settings of the oracle by which a decoder's is opened."""
HASH = "base_sha256"
WEIGHTS = ("model.name", "model.revision", "model.quantization")
"""Settings on which the hash of a model's weights depends."""


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
    *,
    is_verified: bool = True,
) -> Measurement:
    """An evaluation of a run's best checkpoint, or of a model, beside its base policy.

    Args:
        runs_dir: Directory of all runs.
        subject: Run id, or a model as in ``[model]``.
        suites: Registered suites.
        overrides: Changes to the settings of the evaluation.
        control: Run whose best checkpoint a change must exceed, if any.
        is_verified: Whether the files of checkpoints are read and compared with their hashes.

    Raises:
        ConfigError: The settings with these changes are wrong.
        DataError: A file of a checkpoint is missing or altered.
        RunError: There is no such run, it is the control as well, it trained nothing, no round of
            it is sealed, or its checkpoint does not open the way the control's does.
    """
    if control == subject:
        raise RunError(f"--control {control} is the run that is measured; name its control")
    subjects: dict[str, dict[str, Any]] = {BASE: {}}
    name = PurePath(subject).name
    text, own, experiment = "", [f"model.name={toml_value(subject)}"], ""
    if RUN_ID.fullmatch(subject):
        paths = find_run(runs_dir, subject)
        launch = read_launch(paths)
        text = read_own_text(paths.spec)
        own, experiment = list(launch.overrides), launch.experiment
        _require_policy(paths, is_verified=is_verified)
        spec = parse_spec(text, own, subject)
        subjects[POLICY] = best_subject(paths, spec)
        name = spec.settings.title or subject
        subjects[BASE] = {key: subjects[POLICY][key] for key in subjects[POLICY].keys() & {HASH}}
        own += _as_found(spec, launch.working_directory)
    known = parse_spec(text, own, subject)
    if control:
        paths = find_run(runs_dir, control)
        _require_policy(paths, is_verified=is_verified)
        spec = spec_of(paths)
        subjects[CONTROL] = best_subject(paths, spec)
        _require_alike(known, spec, subjects)
    title = f"{name}: {', '.join(suites)} measured"
    own.append(f"title={toml_value(title)}")
    asked = parse_spec(text, (*own, *as_evaluation(suites, subjects), *overrides), subject)
    for role, settings in subjects.items():
        if _has_other_weights(known, asked, role):
            settings.pop(HASH, None)
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
        f"method={toml_value(method)}",
        f"schedule.rounds={len(suites) * len(subjects)}",
        "optimizer.warmup_steps=0",
    ]


def best_checkpoint(paths: RunPaths) -> Path:
    """Folder of the best checkpoint of a run, or of its last where none was called best.

    Raises:
        RunError: No round of the run is sealed.
    """
    name = read_status(paths).result
    if not name:
        raise RunError(f"run {paths.root.name} has no sealed checkpoint to measure")
    return (paths.root / name).resolve()


def best_subject(paths: RunPaths, spec: Spec) -> dict[str, Any]:
    """The best checkpoint of a run of these settings as a subject; its files are not read.

    Raises:
        RunError: No round of the run is sealed.
    """
    folder, sha256 = best_checkpoint(paths), _base_sha256(paths)
    return {
        "checkpoint": str(folder),
        "version": int(folder.name.rpartition("-")[2]),
        **({HASH: sha256} if sha256 else {}),
        **spec.method.used_with(spec.method_settings),
    }


def _require_policy(paths: RunPaths, *, is_verified: bool) -> None:
    """Returns if a run has a policy that can be measured.

    Raises:
        DataError: A file of its best checkpoint is missing or altered.
        RunError: It is an evaluation, or no round of it is sealed.
    """
    launch = read_launch(paths)
    if launch.subject:
        raise RunError(
            f"{paths.root.name} is an evaluation and has no policy; it measured {launch.subject}, "
            "name that instead"
        )
    best = best_checkpoint(paths)
    if is_verified:
        verify(best)


def _base_sha256(paths: RunPaths) -> str:
    """Hash of the weights that a run started from; empty where it recorded none."""
    try:
        return str(read_resolved(paths)["facts"]["model_sha256"])
    except (KeyError, TypeError):
        return ""


def _as_found(spec: Spec, home: str) -> Iterator[str]:
    """Overrides by which relative names mean here what they meant where the run was launched."""
    if not home or Path(home) == Path.cwd():
        return
    for key, value in spec.values.items():
        section, found = key.partition(".")[0], value
        if key == "model.name":
            found = _placed(value, home)
        elif section in ("prompts", "corpus") and key.endswith(".source"):
            is_file = looks_like_file(value) and not value.startswith((PREFIX, INLINE))
            found = _placed(value, home) if is_file else value
        elif key == "evaluation.scorers":
            found = [_placed_scorer(name, home) for name in value]
        elif section == "constraint" and key.endswith(".scorer"):
            found = _placed_scorer(value, home)
        if found != value:
            yield f"{key}={toml_value(found)}"


def _placed(name: str, home: str) -> str:
    """A relative path from the root, where something is at it; other names as they are."""
    place = Path(home, name)
    return str(place) if place.exists() and not Path(name).is_absolute() else name


def _placed_scorer(name: str, home: str) -> str:
    if not local.is_local(name):
        return name
    folder, *label = name.removeprefix(local.PREFIX).split("#", 1)
    return local.PREFIX + "#".join([_placed(folder, home), *label])


def _has_other_weights(known: Spec, asked: Spec, role: str) -> bool:
    """Whether a subject is to be opened on other weights than the run's, on purpose."""
    has_model = bool(asked.values.get(f"method.subjects.{role}.model"))
    return has_model or any(known.values[name] != asked.values[name] for name in WEIGHTS)


def _require_alike(
    measured: Spec, control: Spec, subjects: Mapping[str, Mapping[str, Any]]
) -> None:
    """Returns if the control's checkpoint opens with the settings of what is measured.

    Raises:
        RunError: It would be opened with settings that it was not trained with.
    """
    sides = [spec.values for spec in (control, measured)]
    differing = [
        f"{name} {sides[0][name]!r} and {sides[1][name]!r}"
        for name in unlike(measured, control, subjects)
    ]
    if differing:
        raise RunError(
            "the control was trained with other settings than what is measured, so what it shows "
            f"says nothing of that: {'; '.join(differing)}; name a control that shares them"
        )


def unlike(measured: Spec, control: Spec, subjects: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Settings by which the control's checkpoint would be opened and was not trained with.

    Args:
        measured: Settings of what is measured.
        control: Those of the control.
        subjects: Both results, and the base policy if its weights are known, by their roles.
    """
    names = list(OPENED_BY)
    if "decoder" in subjects[CONTROL]:
        names += [f"oracle.{name}" for name in GUIDED_BY]
    hashes = {subject.get(HASH, "") for subject in subjects.values()}
    if len(hashes) == 1 and "" not in hashes:  # the same weights under another name
        names = [name for name in names if name not in ("model.name", "model.revision")]
    return [name for name in names if control.values[name] != measured.values[name]]
