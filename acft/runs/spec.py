"""A run as the user writes it: TOML and overrides, checked as a whole before anything loads."""

import functools
import hashlib
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from acft import __version__
from acft.atomic import read_own_text
from acft.config import Config, flat, read_own
from acft.constraints import ParsedConstraint
from acft.errors import ConfigError
from acft.events import COUNT_END
from acft.methods.base import Method, parse_method
from acft.registry import extensions
from acft.runs.directory import RUN_ID, read_launch
from acft.runs.plain import collect, constraints_of, names_alone, values_of
from acft.runs.references import missing_files, unknown_names, unreadable_texts
from acft.schema import CHECKPOINTS, RunPaths
from acft.settings import EVALUATE, UNMEASURED, RunSettings

PACKAGES = (
    "torch", "transformers", "peft", "safetensors", "tokenizers", "numpy", "scikit-learn",
    "pyarrow", "pydantic", "datasets", "detoxify", "alt-profanity-check",
)  # fmt: skip
GUARD = ".base_sha256"
"""Ending of settings that refuse a wrong model and change no number either."""
GIT_SECONDS = 5.0
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Spec:
    """Checked settings of one run."""

    text: str
    """The settings file as written."""
    overrides: tuple[str, ...]
    settings: RunSettings
    method_name: str
    method: Method
    method_settings: Config
    constraints: tuple[ParsedConstraint, ...]

    @property
    def title(self) -> str:
        """What lists show: the title, else the method and the model."""
        return self.settings.title or f"{self.method_name} on {self.settings.model.name}"

    @property
    def kind(self) -> str:
        """Whether the run trains or measures."""
        return "evaluation" if self.method_name == EVALUATE else "training"

    @property
    def steps_per_round(self) -> int:
        """Optimiser steps of a round; 0 where nothing is trained."""
        is_trained = self.method.takes_steps(self.method_settings)
        return self.settings.optimizer.steps_per_round if is_trained else 0

    @property
    def judged_per_round(self) -> int:
        """Responses of a round that the oracle learns from or is tested on; 0 without oracle."""
        oracle = self.settings.oracle
        n_judged = oracle.rollouts_per_round + oracle.validation_rollouts
        return n_judged if self.method.has_oracle else 0

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run; 0 where nothing is trained."""
        return self.settings.schedule.rounds * self.steps_per_round

    @property
    def values(self) -> dict[str, Any]:
        """Every setting with its value, by dotted name."""
        settings = self.settings.model_dump(mode="json")
        own = self.method_settings.model_dump(mode="json")
        return flat({**settings, "method": {"name": self.method_name, **own}})

    @property
    def fingerprint(self) -> str:
        """Equal for two specs that ask for the same numbers.

        Title and notes do not count, nor where on the disk the folder of a run's checkpoint lies,
        nor what it is guarded by.
        """
        values = {
            key: _within_run(value) if key.endswith(".checkpoint") else value
            for key, value in self.values.items()
            if key not in UNMEASURED and not key.endswith(GUARD)
        }
        text = json.dumps(values, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _within_run(checkpoint: str) -> str:
    """A sealed round as run and number, so that a runs directory can be moved; others as given."""
    run_id, folder, name = ("", "", "", *PurePath(checkpoint).parts)[-3:]
    is_sealed_round = RUN_ID.fullmatch(run_id) and folder == CHECKPOINTS
    return f"{run_id}/{name}" if is_sealed_round else checkpoint


def load_spec(path: Path, overrides: Sequence[str] = (), *, has_files: bool = False) -> Spec:
    """The checked settings of a user's TOML file; ``has_files`` as in ``parse_spec``.

    Raises:
        ConfigError: The file cannot be read, or any number of problems, one line for each.
    """
    return parse_spec(read_own(path), overrides, str(path), has_files=has_files)


def spec_of(paths: RunPaths) -> Spec:
    """The checked settings of a run, with the changes that it was launched with.

    Raises:
        ConfigError: Its settings file cannot be read, or any number of problems, one line for each.
        DataError: What it was launched with cannot be read.
    """
    try:
        text = read_own_text(paths.spec)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"cannot read settings file {str(paths.spec)!r}: {error}") from None
    return parse_spec(text, read_launch(paths).overrides, str(paths.spec))


def parse_spec(
    text: str,
    overrides: Sequence[str] = (),
    where: str = "",
    *,
    has_files: bool = False,
) -> Spec:
    """The checked settings of a TOML text.

    Args:
        text: The settings.
        overrides: ``section.key=value`` on top of them.
        where: File or run that messages name.
        has_files: Models, texts and scorers on this machine must be where the settings say, and the
            first text of each file that is trained on must read as they say. Not for the settings
            of old runs, which outlive such files, nor for who may only look.

    Raises:
        ConfigError: Any number of problems, one line for each.
    """
    values = values_of(text, overrides, where)
    problems: list[str] = []
    settings = collect(problems, lambda: RunSettings.parse(values))
    method = collect(problems, lambda: parse_method(values.get("method", {"name": "acft"})))
    constraints = collect(problems, lambda: constraints_of(values))
    named = settings or names_alone(values)
    problems += unknown_names(named, method[2] if method else None)
    if has_files:
        problems += missing_files(named, constraints or ())
        if method and method[0] != EVALUATE:
            problems += unreadable_texts(named)
        problems += method[1].missing(method[2], named) if method else ()
    problems += _contradictions(settings) if settings else ()
    if settings and method:
        problems += method[1].contradictions(method[2], settings)
    if problems or settings is None or method is None or constraints is None:
        raise ConfigError("\n".join(problems))
    return Spec(text, tuple(overrides), settings, *method, constraints)


def resolved(spec: Spec) -> dict[str, Any]:
    """Every setting with its default, and what the numbers may depend on beside them."""
    return {
        "settings": spec.settings.model_dump(mode="json"),
        "method": {"name": spec.method_name, **spec.method_settings.model_dump(mode="json")},
        "overrides": list(spec.overrides),
        "seed": spec.settings.seed,
        "seed_rule": "every consumer: seeding.derive_seed(seed, consumer's name, ...)",
        "acft": __version__,
        "git_commit": _git_commit(),
        "packages": {name: _version(name) for name in (*PACKAGES, *_extending())},
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def _contradictions(settings: RunSettings) -> list[str]:
    """Settings that are fine alone and impossible together."""
    optimizer, oracle, sampling = settings.optimizer, settings.oracle, settings.sampling
    steps = settings.schedule.rounds * optimizer.steps_per_round
    found: list[str] = []
    if sampling.horizon >= optimizer.max_tokens:
        found.append(
            f"[sampling] horizon = {sampling.horizon}: must be below optimizer.max_tokens = "
            f"{optimizer.max_tokens}, or no room is left for the prompt"
        )
    if steps >= COUNT_END:
        found.append(
            f"[schedule] rounds = {settings.schedule.rounds}: with [optimizer] steps_per_round = "
            f"{optimizer.steps_per_round} these are {steps} steps, and a run may have "
            f"{COUNT_END - 1}; it can be stopped at any time"
        )
    if optimizer.warmup_steps >= steps:
        found.append(
            f"[optimizer] warmup_steps = {optimizer.warmup_steps}: must be below the run's {steps} "
            "steps (schedule.rounds x optimizer.steps_per_round); set it lower, 0 is allowed"
        )
    if isinstance(oracle.strength, float) and oracle.strength > oracle.strength_max:
        found.append(
            f"[oracle] strength = {oracle.strength}: is above strength_max = {oracle.strength_max}"
        )
    if (sampling.temperature, sampling.top_p) != (1.0, 1.0):
        found.append(
            f"[sampling] temperature = {sampling.temperature}, top_p = {sampling.top_p}: a run "
            "learns from what it draws at 1 and 1; set [oracle] temperature for that, [evaluation] "
            "top_p for what is measured, or leave these out"
        )
    if settings.optimizer.compile and settings.model.quantization != "none":
        found.append(
            "[optimizer] compile = true: products of the few bits that [model] quantization keeps "
            "are not compiled; set compile to false, or quantization to 'none'"
        )
    if settings.engine.kind == "compiled" and settings.model.quantization != "none":
        found.append(
            "[engine] kind = 'compiled': products of the few bits that [model] quantization keeps "
            "are not compiled; set one to 'local' or the other to 'none'"
        )
    if settings.device == "mps" and settings.dtype == "bfloat16":
        found.append("[] dtype = 'bfloat16': is not supported on device = 'mps'; use float32")
    return found + (_undividable(settings) if settings.model.sharding != "none" else [])


def _undividable(settings: RunSettings) -> list[str]:
    """What needs the whole model in one process."""
    found = []
    if settings.optimizer.compile:
        found.append(
            "[optimizer] compile = true: layers of which [model] sharding leaves a part in each "
            "process are gathered by hooks that no compiler sees; set one to 'none' or false"
        )
    if settings.engine.kind != "local":
        found.append(
            f"[engine] kind = {settings.engine.kind!r}: copies or merges whole weights, of which "
            "[model] sharding leaves a part in each process; set one to 'local' or the other to "
            "'none'"
        )
    if settings.oracle.kind == "monte_carlo":
        found.append(
            "[oracle] kind = 'monte_carlo': continues as many prefixes as each text has, but with "
            "[model] sharding all processes must do the same passes; take another kind"
        )
    return found


def _extending() -> list[str]:
    """Installed packages that add names."""
    joined = {
        entry.dist.name
        for entry in extensions()
        if entry.group.startswith("acft.") and entry.dist is not None
    }
    return sorted(joined)


@functools.cache
def _git_commit(root: Path = ROOT) -> str:
    """Commit of the code, with ``+changes`` when files differ from it; empty outside git.

    A new file counts where it may add a name.
    """
    commit = _git(root, "rev-parse", "HEAD")
    changes = commit and (
        _git(root, "status", "--porcelain", "--untracked-files=no") or new_files(root)
    )
    return commit + ("+changes" if changes else "")


def new_files(root: Path) -> list[str]:
    """Files of the package that git does not know, relative to ``root``; none outside git."""
    # -z, or git quotes names beyond ASCII
    told = _git(root, "ls-files", "-z", "--others", "--exclude-standard", "acft")
    return [name for name in told.split("\0") if name]


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="surrogateescape",
            timeout=GIT_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
