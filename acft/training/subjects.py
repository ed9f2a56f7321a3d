"""Opening the policies that an evaluation measures: a model or checkpoint, and its decoder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from acft.backbone.loading import check_model
from acft.config import Config
from acft.constraints import Constraint
from acft.decoding.base import DECODERS, DecoderContext, Sampler, build_sampler
from acft.errors import ConfigError, DataError, ModelError
from acft.oracle.base import ORACLES, Oracle
from acft.policy import Policy, base_policy
from acft.scoring import ScorerPool
from acft.settings import ModelSettings, NonNegative, RunSettings
from acft.training.controlled import ControlledPolicy
from acft.training.oracle_job import Guide
from acft.training.train_state import POLICY_FOLDER, has_oracle, open_guide, tuned_policy

PLAIN = "plain"


class SubjectSettings(Config):
    """One policy to be measured."""

    model: str = ""
    """Model, as in ``[model]``; empty takes the run's own."""
    checkpoint: str = ""
    """Folder of a sealed checkpoint of that model; empty measures the model as it is."""
    version: NonNegative = 0
    """Finished policy updates, for the record."""
    base_sha256: str = ""
    """SHA-256 of the weights that the checkpoint was trained from, or the model has; empty takes
    any."""
    decoder: str = PLAIN
    """Registered decoder that draws (see ``acft list``); with one, suites that ask the policy
    itself are left out, and perplexities too unless the decoder says how likely texts are."""
    decoder_options: dict[str, Any] = Field(default_factory=dict)
    """Settings of the decoder; a guided one takes its strength from the checkpoint."""
    control: str = ""
    """Text before every prompt and document, for policies that were taught to answer behind it."""


def open_policy(run: RunSettings, subject: SubjectSettings) -> Policy:
    """The policy with its adapter merged.

    Raises:
        DataError: The checkpoint is not there.
        ModelError: Model or weights do not open, or the model's are not those that are named.
    """
    if subject.model:
        model = run.model.model_copy(update={"name": subject.model, "revision": ""})
        run = run.model_copy(update={"model": model})
    base = base_policy(run)
    if subject.base_sha256:
        require_weights(base, subject.base_sha256, subject.checkpoint or "the run")
    folder = Path(subject.checkpoint)
    if subject.checkpoint and not folder.is_dir():
        raise DataError(f"no checkpoint at {subject.checkpoint!r}; name a sealed round's folder")
    if (
        subject.checkpoint and (folder / POLICY_FOLDER).is_dir()
    ):  # methods without tuning save no weights
        base = tuned_policy(base, run.adapter, folder, subject.version)
    base.version = subject.version
    return ControlledPolicy.of(base, subject.control)


def decoder_problems(where: str, subject: SubjectSettings) -> list[str]:
    """One sentence for each wrong setting of the decoder; none where no decoder is called that."""
    if subject.decoder not in DECODERS.names():
        return []
    kind = DECODERS.get(subject.decoder)
    try:
        kind.settings_type.parse(subject.decoder_options, f"{where}.decoder_options")
    except ConfigError as error:
        return str(error).splitlines()
    return []


def drawn_as(drawing: Config, subjects: Mapping[str, SubjectSettings]) -> dict[str, Any]:
    """How responses are drawn, with the nucleus that the subjects' decoders really have.

    Where they differ, ``top_p`` is what was asked for, and ``top_p_of`` has those of the others.
    """
    told = drawing.model_dump(mode="json")
    used = {name: DECODERS.get(s.decoder).top_p(told["top_p"]) for name, s in subjects.items()}
    if len({*used.values()}) == 1:
        return told | {"top_p": next(iter(used.values()))}
    others = {name: top_p for name, top_p in used.items() if top_p != told["top_p"]}
    return told | ({"top_p_of": others} if others else {})


def missing_parts(where: str, subject: SubjectSettings) -> list[str]:
    """One sentence for each of model and checkpoint that is not here; nothing is opened."""
    found = [model_problem(f"[{where}] model", subject.model)]
    if subject.checkpoint and not Path(subject.checkpoint).is_dir():
        found.append(
            f"[{where}] checkpoint = {subject.checkpoint!r}: no such folder; name a sealed round's"
        )
    return found


def model_problem(where: str, name: str) -> str:
    """Why a model cannot be had here; empty where it can, or none is named."""
    try:
        if name:
            check_model(ModelSettings(name=name))
    except ModelError as error:
        return f"{where} = {name!r}: {error}"
    return ""


def require_weights(base: Policy, recorded: str, whose: str) -> None:
    """Returns if a base policy has the weights of that SHA-256.

    Raises:
        ModelError: It has others.
    """
    found = base.backbone.sha256
    if found != recorded:
        raise ModelError(
            f"the weights of {base.backbone.name!r} are not those {whose} started from (SHA-256 "
            f"{found[:12]}, recorded {recorded[:12]}); restore the original model"
        )


def open_sampler(
    run: RunSettings,
    subject: SubjectSettings,
    policy: Policy,
    constraint: Constraint,
    pool: ScorerPool,
) -> Sampler:
    """The policy bound to the subject's decoder.

    Raises:
        ConfigError: The decoder needs an oracle and the subject has no checkpoint.
        ModelError: The checkpoint has no oracle that opens.
    """
    if subject.decoder == PLAIN:
        return policy
    kind = DECODERS.get(subject.decoder)
    options = dict(subject.decoder_options)
    oracle: Oracle | None = None
    if kind.needs_oracle:
        if not subject.checkpoint:
            raise ConfigError(
                f"decoder {subject.decoder!r} needs an oracle; give the subject a checkpoint"
            )
        guide = _guide(run, Path(subject.checkpoint), policy, constraint, pool)
        oracle = guide.oracle
        options = {"strength": guide.strength, "rare": run.oracle.rare} | options
    asks = kind.asks_verdicts(run.oracle.kind)
    context = DecoderContext(
        policy, oracle, constraint.score if asks else None, run.sampling.horizon
    )
    settings = kind.settings_type.parse(options, "method.subjects.decoder_options")
    return build_sampler(subject.decoder, settings, context)


def _guide(
    run: RunSettings, folder: Path, policy: Policy, constraint: Constraint, pool: ScorerPool
) -> Guide:
    """A checkpoint's oracle, judging the policy, and the strength it was given."""
    if not has_oracle(folder):
        raise ConfigError(f"checkpoint {str(folder)!r} has no oracle; its method trains none")
    is_base_read = ORACLES.get(run.oracle.kind).runs_backbone or run.adapter.kind == "full"
    base = base_policy(run) if is_base_read else policy
    guide = open_guide(run, base.backbone, constraint, pool, folder)
    guide.oracle.follow(policy.backbone)
    return guide
