"""Opening what a run left behind: base and tuned policy, oracle, constraint, judges.

Every file of the checkpoint is compared with its recorded hash first. What is asked for is then
loaded when it is first used, so that an export needs no scorer and a plain text no oracle.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from acft.atomic import read_own_text
from acft.backbone.loading import resolve_device
from acft.checkpoints import verify
from acft.constraints import Constraint, build_constraint
from acft.decoding.base import DECODERS, DecoderContext, Sampler, build_sampler
from acft.decoding.guided import GuidedSettings
from acft.decoding.portable import PortableOracle, portable_oracle
from acft.errors import ConfigError, DataError, ModelError, RunError
from acft.eventlog import effective, read_events
from acft.events import BestCheckpoint, RoundFinished
from acft.methods.base import parse_method
from acft.oracle.base import Oracle
from acft.policy import Policy, base_policy
from acft.runs.directory import RUN_ID, find_run, read_launch
from acft.schema import RunPaths
from acft.scorers import Scorer
from acft.scoring import ScorerPool
from acft.settings import EVALUATE, RunSettings
from acft.training.controlled import ControlledPolicy
from acft.training.oracle_job import Guide, vocabulary_verdicts
from acft.training.subjects import PLAIN, require_weights
from acft.training.train_state import POLICY_FOLDER, has_oracle, open_guide, tuned_policy

Subject = Literal["base", "tuned"]


@dataclass(frozen=True)
class Origin:
    """Where a run found its parts, and what they were when it started."""

    run_id: str
    facts: Mapping[str, Any]
    """Hashes recorded when the run started."""
    home: Path
    """Where relative paths in the settings start."""

    def base(self, settings: RunSettings) -> Policy:
        """The frozen policy the run started from.

        Raises:
            ModelError: It cannot be opened, or its weights are not those the run started from.
        """
        with chdir(self.home):
            base = base_policy(settings)
        if recorded := self.facts.get("model_sha256"):
            require_weights(base, recorded, f"run {self.run_id}")
        return base

    def constraint(self, settings: RunSettings, scorers: ScorerPool) -> Constraint:
        """What responses should satisfy.

        Raises:
            ModelError: A scorer cannot be loaded, or is not the one that trained the run.
        """
        with chdir(self.home):
            constraint = build_constraint(settings.constraint, scorers)
            for name in constraint.scorers:
                self._check(scorers(name))
        return constraint

    def _check(self, scorer: Scorer) -> None:
        known = {item["name"]: item["sha256"] for item in self.facts.get("scorers", [])}
        recorded = known.get(scorer.name, scorer.sha256)
        if recorded != scorer.sha256:
            raise ModelError(
                f"scorer {scorer.name!r} is not the one that trained run {self.run_id} (SHA-256 "
                f"{scorer.sha256[:12]}, recorded {recorded[:12]}); install the version it names"
            )


@dataclass(frozen=True)
class RestoredRun:
    """A run at one of its sealed rounds; every part is opened when first asked for."""

    paths: RunPaths
    sealed: RoundFinished
    """Which round."""
    settings: RunSettings
    method: Mapping[str, Any]
    """``name`` of the method and its settings."""
    origin: Origin

    @property
    def facts(self) -> Mapping[str, Any]:
        """Hashes recorded when the run started."""
        return self.origin.facts

    @property
    def run_id(self) -> str:
        """The run's name."""
        return self.paths.root.name

    @property
    def folder(self) -> Path:
        """The checkpoint."""
        return self.paths.root / self.sealed.checkpoint

    @property
    def policy_folder(self) -> Path:
        """Trained weights inside the checkpoint."""
        return self.folder / POLICY_FOLDER

    @cached_property
    def base(self) -> Policy:
        """The frozen policy the run started from.

        Raises:
            ModelError: It cannot be opened, or its weights are not those the run started from.
        """
        return self.origin.base(self.settings)

    @cached_property
    def tuned(self) -> Policy:
        """The trained policy, adapter merged, behind its control text where it has one."""
        version = self.sealed.policy_version
        tuned = tuned_policy(self.base, self.settings.adapter, self.folder, version)
        return ControlledPolicy.of(tuned, self.control)

    @property
    def control(self) -> str:
        """Text that the tuned policy was taught to answer behind; empty for most methods."""
        return used_control(self.method)

    @property
    def decoder(self) -> str:
        """Decoder with which the method means its policy to be used; ``plain`` for most."""
        return used_decoder(self.method)

    @cached_property
    def constraint(self) -> Constraint:
        """What responses should satisfy.

        Raises:
            ModelError: A scorer cannot be loaded, or is not the one that trained the run.
        """
        return self.origin.constraint(self.settings, self._scorers)

    @cached_property
    def judges(self) -> list[Scorer]:
        """The scorers that evaluate the run."""
        with chdir(self.origin.home):
            return [self._scorers(name) for name in self.settings.evaluation.scorers]

    @cached_property
    def guide(self) -> Guide:
        """The oracle as it was at the end of the round, and the strength it was used with.

        Raises:
            ModelError: The run trained no oracle, or its file does not open.
        """
        if not has_oracle(self.folder):
            raise ModelError(
                f"run {self.run_id} has no oracle: method {self.method['name']!r} trains none; "
                "use the plain decoder or another run"
            )
        parts = (self.settings, self.base.backbone, self.constraint, self._scorers)
        return open_guide(*parts, self.folder)

    def _oracle_of(self, policy: Policy) -> Oracle:
        """The oracle, judging what this policy would go on to say."""
        oracle = self.guide.oracle.copied()
        oracle.follow(policy.backbone)
        return oracle

    @property
    def _guidance(self) -> GuidedSettings:
        rare = self.settings.oracle.rare
        return GuidedSettings(strength=self.guide.strength, delta=self.delta, rare=rare)

    @cached_property
    def portable_oracle(self) -> PortableOracle:
        """The oracle ready to be taken away, as strong as in the run."""
        settings, backbone = self.settings, self.base.backbone
        scorers = [self._scorers(name) for name in self.constraint.scorers]
        return portable_oracle(
            self.guide.oracle,
            settings.oracle,
            backbone,
            guidance=self._guidance,
            horizon=settings.sampling.horizon,
            constraint=settings.constraint,
            token_verdicts=vocabulary_verdicts(settings, backbone, self.constraint, scorers),
        )

    @property
    def delta(self) -> float:
        """Satisfaction the run demands of every prompt's responses."""
        return float(self.method.get("delta", 1.0))

    def policy(self, subject: Subject) -> Policy:
        """The base or the tuned policy.

        Raises:
            ConfigError: Another is asked for.
        """
        return self.base if checked_subject(subject) == "base" else self.tuned

    def sampler(
        self,
        subject: Subject | None = None,
        decoder: str = "plain",
        options: Mapping[str, Any] | None = None,
    ) -> Sampler:
        """A policy with a decoder bound to it; by default tuned, guided as strongly as in the run.

        Raises:
            ConfigError: No such policy or decoder, or an option is wrong.
            ModelError: The decoder needs an oracle and the run has none.
        """
        subject = checked_subject(subject or "tuned")
        kind = DECODERS.get(decoder)
        own = self._guidance.model_dump() if kind.needs_oracle else {}
        settings = kind.settings_type.parse({**own, **(options or {})}, f"decoder {decoder}")
        policy = self.policy(subject)
        context = DecoderContext(
            policy,
            self._oracle_of(policy) if kind.needs_oracle else None,
            self.verdicts if kind.asks_verdicts(self.settings.oracle.kind) else None,
            self.settings.sampling.horizon,
        )
        # files that its settings name are named by who asks, not by the run
        return build_sampler(decoder, settings, context)

    def verdicts(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
        """Graded satisfaction of responses; the scorers are loaded when first asked."""
        return self.constraint.score(prompts, responses)

    @cached_property
    def _scorers(self) -> ScorerPool:
        return ScorerPool(resolve_device(self.settings.device))


@dataclass(frozen=True)
class PlainModel:
    """A model that no run has touched, with the interface of a run as far as it has one."""

    settings: RunSettings
    constraint: None = None
    decoder: str = PLAIN

    @cached_property
    def base(self) -> Policy:
        """The model."""
        return base_policy(self.settings)

    @cached_property
    def judges(self) -> list[Scorer]:
        """The scorers that evaluate by default."""
        pool = ScorerPool(resolve_device(self.settings.device))
        return [pool(name) for name in self.settings.evaluation.scorers]

    def sampler(
        self,
        subject: Subject | None = None,
        decoder: str = "plain",
        options: Mapping[str, Any] | None = None,
    ) -> Sampler:
        """The model with a decoder bound to it.

        Raises:
            ConfigError: It was asked for what only a run has, or an option is wrong.
        """
        if checked_subject(subject or "base") == "tuned":
            raise ConfigError(
                f"{self.settings.model.name!r} is a model and has no tuned policy; name a run"
            )
        kind = DECODERS.get(decoder)
        settings = kind.settings_type.parse(options or {}, f"decoder {decoder}")
        return build_sampler(decoder, settings, DecoderContext(self.base))


def checked_subject(subject: Subject) -> Subject:
    """The policy that is asked for.

    Raises:
        ConfigError: There is no such one.
    """
    known = get_args(Subject)
    if subject not in known:
        raise ConfigError(
            f"subject = {subject!r}: no such policy; it is one of {', '.join(map(repr, known))}, "
            "and what draws from it is named as decoder"
        )
    return subject


def open_source(
    runs_dir: Path | str, name: str, checkpoint: int | None = None, device: str = ""
) -> RestoredRun | PlainModel:
    """A run by its id, or a model as in ``[model]``.

    Raises:
        RunError: No such run, or no such round of it.
        DataError: A file of the run is missing or altered.
    """
    if RUN_ID.fullmatch(name):
        return open_run(find_run(Path(runs_dir), name).root, checkpoint, device)
    chosen = {"device": device} if device else {}
    return PlainModel(RunSettings.parse({"model": {"name": name}, **chosen}))


def open_run(
    run_dir: Path, checkpoint: int | None = None, device: str = "", dtype: str = ""
) -> RestoredRun:
    """A finished or running run at a sealed round, with every file of that round verified.

    Args:
        run_dir: The run's directory.
        checkpoint: Round; None takes the one validation prefers, else the last.
        device: Instead of the run's own.
        dtype: Instead of the run's own.

    Raises:
        RunError: The run has no such round, or trains nothing.
        DataError: A file is missing or altered.
    """
    paths = RunPaths(Path(run_dir).resolve())
    resolved = _resolved(paths)
    if resolved["method"]["name"] == EVALUATE:
        raise RunError(f"run {paths.root.name} trained nothing; name the run that it measures")
    chosen = {key: value for key, value in {"device": device, "dtype": dtype}.items() if value}
    settings = RunSettings.parse({**resolved["settings"], **chosen})
    sealed = sealed_round(paths, checkpoint)
    verify(paths.root / sealed.checkpoint)
    return RestoredRun(paths, sealed, settings, resolved["method"], origin_of(paths))


def origin_of(paths: RunPaths) -> Origin:
    """Where a run that has started found its parts.

    Raises:
        RunError: It has not started.
        DataError: What was recorded then cannot be read.
    """
    home = Path(read_launch(paths).working_directory)
    facts = _resolved(paths).get("facts", {})
    return Origin(paths.root.name, facts, home if home.is_dir() else Path.cwd())


def _resolved(paths: RunPaths) -> dict[str, Any]:
    if not paths.root.is_dir():
        raise RunError(f"no run directory at {str(paths.root)!r}; ``acft runs`` lists them")
    try:
        resolved = json.loads(read_own_text(paths.resolved))
        return {"settings": resolved["settings"], "method": resolved["method"], **resolved}
    except FileNotFoundError:
        raise RunError(f"run {paths.root.name} has not started; it has no checkpoint yet") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"cannot read {str(paths.resolved)!r}: {error}") from None


def used_control(method: Mapping[str, Any]) -> str:
    """Control text of a method as its run recorded it; empty for most."""
    _, kind, settings = parse_method(method)
    return kind.control(settings)


def used_decoder(method: Mapping[str, Any]) -> str:
    """Decoder with which a method, as its run recorded it, means its policy to be used."""
    _, kind, settings = parse_method(method)
    return kind.decoder(settings) or PLAIN


def sealed_round(paths: RunPaths, checkpoint: int | None = None) -> RoundFinished:
    """A sealed round of a run; None takes the one validation prefers, else the last.

    Raises:
        RunError: The run has no such round, or none yet.
    """
    events = [entry.event for entry in effective(read_events(paths.events))]
    rounds = {event.round: event for event in events if isinstance(event, RoundFinished)}
    best = [e.round for e in events if isinstance(e, BestCheckpoint) and e.round in rounds]
    if not rounds:
        raise RunError(f"run {paths.root.name} has no sealed round yet; wait for its first")
    if checkpoint is None:
        return rounds[best[-1] if best else max(rounds)]
    if checkpoint not in rounds:
        there = ", ".join(map(str, sorted(rounds)))
        raise RunError(f"run {paths.root.name} has no round {checkpoint} (sealed rounds: {there})")
    return rounds[checkpoint]
