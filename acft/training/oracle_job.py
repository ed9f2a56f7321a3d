"""The Oracle box of the paper's figure 2: draw from a policy, ask the constraint, fit R."""

import itertools
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from acft.assets import cache_folder
from acft.backbone.forward import head_weight, logits
from acft.backbone.loading import Backbone
from acft.backbone.sharded import uneven_passes
from acft.constraints import CONSTRAINTS, Constraint
from acft.data import micro_batches
from acft.decoding.base import DecoderContext
from acft.decoding.guided import GuidedDecoder, GuidedSettings, guided_decoder
from acft.distributed import ranks, settled
from acft.events import Note, Phase, Progress, Scalars
from acft.oracle.base import ORACLES, Oracle, OracleContext, Verdicts
from acft.oracle.calibration import calibrate
from acft.oracle.strength import (
    EFFECTIVE_SHARE_MIN,
    STRENGTHS,
    guided_estimates,
    smallest_strength,
)
from acft.oracle.training import NextLogprobs, OracleData, fit_oracle
from acft.oracle.verdicts import token_verdicts
from acft.policy import Policy
from acft.sampling import Samples
from acft.scorers import Scorer
from acft.scoring import Scores
from acft.seeding import derive_seed
from acft.settings import OracleSettings, RunSettings
from acft.training.outputs import Output
from acft.training.records import rollout_rows, run_scores
from acft.training.replay import replayed
from acft.training.responses import evenly, pieces
from acft.training.sparse import Key, SparseGuidance
from acft.training.world import World
from acft.types import DrawChecks, Prompt, Rollout, Window
from acft.windows import join_windows

RESPONSES_AT_ONCE = 128
"""Responses between two reports of progress, or a batch where that is larger."""


@dataclass(frozen=True)
class Guide:
    """An oracle ready to guide, with the strength it needs."""

    oracle: Oracle
    strength: float
    policy_version: int
    """Of the policy whose responses trained it."""
    precomputed: Mapping[Key, SparseGuidance] = field(default_factory=dict)
    """Guidance of documents, computed once; see ``training/sparse.py``."""


@dataclass(frozen=True)
class OracleRound:
    """What the oracle's job of a round leaves behind."""

    guide: Guide
    rollouts: list[Rollout]
    """This round's training responses, for replay and on-policy prefixes."""
    satisfaction: list[float]
    """Graded, of each of them."""
    is_whole: bool = True
    """False where a stop cut it short: the oracle is untrained and such a round is not sealed."""


def build_oracle(world: World) -> Oracle:
    """An oracle of the run's kind that has seen no response yet."""
    return new_oracle(world.run, world.base.backbone, world.constraint, world.constraint_scorers)


def new_oracle(
    run: RunSettings, base: Backbone, constraint: Constraint, scorers: Sequence[Scorer]
) -> Oracle:
    """An oracle that has seen no response yet; ``scorers`` are those behind the constraint."""
    context = OracleContext(
        run.oracle,
        base,
        run.sampling.horizon,
        vocabulary_verdicts(run, base, constraint, scorers),
        derive_seed(run.seed, "oracle-weights"),
        constraint.score,
    )
    return ORACLES.get(run.oracle.kind).build(context)


def vocabulary_verdicts(
    run: RunSettings, base: Backbone, constraint: Constraint, scorers: Sequence[Scorer]
) -> Float[Tensor, " vocab"] | None:
    """Graded satisfaction of each vocabulary token as a response; None where no oracle asks."""
    if not ORACLES.get(run.oracle.kind).reads_verdicts:
        return None
    # The description leaves out how satisfaction is graded, so the tables count as well.
    tables = json.dumps(run.constraint, sort_keys=True, default=str)
    identity = [constraint.describe(), tables, CONSTRAINTS.code_sha256()]
    identity += [base.sha256, base.texts_sha256]
    identity += [f"{scorer.name}{scorer.sha256}" for scorer in scorers]
    return token_verdicts(
        base.decode,
        len(head_weight(base.model)),
        constraint.score,
        cache_folder() / "token-verdicts",
        "\x1f".join(identity),
    )


def oracle_job(
    world: World,
    oracle: Oracle,
    policy: Policy,
    round_index: int,
    earlier: Sequence[OracleRound],
    should_stop: Callable[[], bool] = lambda: False,
    *,
    delta: float = 1.0,
) -> Generator[Output, None, OracleRound]:
    """Rollouts, losses, calibration and strength of one round; returns the ``OracleRound``.

    A stop ends it between two portions of the responses or two epochs of the fit.

    Args:
        oracle: Where the fit starts; a copy is trained, so that the original can guide meanwhile.
        policy: Frozen while the job runs.
        earlier: Rounds whose rollouts are reused with importance weights.
        delta: Satisfaction the guided policy is to have; below 1 it is what an automatic strength
            aims at.
    """
    settings = world.run.oracle
    cut_short = OracleRound(Guide(oracle, 0.0, policy.version), [], [], is_whole=False)
    drawn = yield from drawn_and_held_out(world, policy, round_index, should_stop)
    if drawn is None:
        return cut_short
    train, held_out = drawn
    oracle = oracle.copied()
    oracle.follow(policy.backbone)
    validation = oracle_data(held_out)
    next_logprobs = head_of(policy)

    if ORACLES.get(settings.kind).is_fitted:
        data = _with_replay(world, oracle, policy, oracle_data(train), earlier)
        yield from told_weights(data, round_index)
        is_fitted = yield from fit_oracle(
            oracle, data, validation, settings, world.run.seed, next_logprobs, round_index,
            should_stop,
        )  # fmt: skip
        if not is_fitted:
            return cut_short
    else:
        oracle.version += 1
    ranks().copy_first(oracle)
    yield calibrate(oracle, validation, round_index)
    strength = settings.strength
    if strength == "auto":
        strength = yield from choose_strength(
            oracle, validation, next_logprobs, settings, round_index, delta
        )
    strength = ranks().from_first(float(strength))
    yield Scalars(round_index, 0, {"oracle/strength": strength})
    guide = Guide(oracle, strength, policy.version)
    return OracleRound(guide, train.rollouts, train.satisfaction)


@dataclass(frozen=True)
class ScoredSamples:
    """Drawn responses, what the oracle reads of them and what the constraint says."""

    rollouts: list[Rollout]
    satisfaction: list[float]
    windows: Window
    scores: Scores = field(default_factory=dict)
    """By the scorers of the run, for their rows."""
    checks: DrawChecks = field(default_factory=DrawChecks)

    @classmethod
    def of(cls, world: World, drawn: Samples) -> "ScoredSamples":
        """Responses with all that is asked about them."""
        assert drawn.windows is not None
        satisfaction, windows = with_verdicts(world, drawn.rollouts, drawn.windows)
        scores = run_scores(world, drawn.rollouts)
        return cls(drawn.rollouts, satisfaction, windows, scores, drawn.checks)

    @classmethod
    def joined(cls, parts: "Sequence[ScoredSamples]") -> "ScoredSamples":
        """The responses of all parts, in order."""
        every = itertools.chain.from_iterable
        return cls(
            list(every(part.rollouts for part in parts)),
            list(every(part.satisfaction for part in parts)),
            join_windows([part.windows for part in parts]),
            {name: list(every(part.scores[name] for part in parts)) for name in parts[0].scores},
            sum((part.checks for part in parts), DrawChecks()),
        )


def oracle_data(scored: ScoredSamples) -> OracleData:
    """Scored responses as an oracle learns from them."""
    return OracleData(
        scored.windows,
        torch.tensor(scored.satisfaction),
        tuple(rollout.prompt_id for rollout in scored.rollouts),
        torch.tensor([rollout.log_weight for rollout in scored.rollouts]),
    )


def with_verdicts(
    world: World, rollouts: Sequence[Rollout], windows: Window
) -> tuple[list[float], Window]:
    """Graded satisfaction of whole responses, and windows with that of every prefix.

    The windows stay as they are where the oracle does not read it.
    """
    if not world.reads_verdicts:
        prompts = [rollout.prompt_text for rollout in rollouts]
        return world.constraint.score(prompts, [r.response_text for r in rollouts]), windows
    values = world.rollout_verdicts(rollouts)
    return values[:, -1].tolist(), replace(windows, verdicts=values)


def choose_strength(
    oracle: Oracle,
    validation: OracleData,
    next_logprobs: NextLogprobs,
    settings: OracleSettings,
    round_index: int,
    delta: float,
) -> Generator[Output, None, float]:
    """The smallest strength whose guided policy reaches the target on validation prompts."""
    strengths = [s for s in STRENGTHS if s <= settings.strength_max] or [settings.strength_max]
    estimates = guided_estimates(oracle, validation, next_logprobs, strengths, delta, settings.rare)
    for number, estimate in enumerate(estimates, start=1):
        values = {
            "oracle/tried_strength": estimate.strength,
            "oracle/guided_satisfaction": estimate.satisfaction,
            "oracle/guided_effective_share": estimate.effective_share,
        }
        yield Scalars(round_index, number, values)
    return smallest_strength(estimates, min(delta, settings.satisfaction_target))


def guide_decoder(
    world: World, policy: Policy, oracle: Oracle, strength: float, delta: float = 1.0
) -> GuidedDecoder:
    """The decoder that draws from the guided policy."""
    reads = ORACLES.get(world.run.oracle.kind).reads_verdicts
    verdicts: Verdicts | None = world.constraint.score if reads else None
    context = DecoderContext(policy, oracle, verdicts, world.horizon)
    rare = world.run.oracle.rare
    return guided_decoder(GuidedSettings(strength=strength, delta=delta, rare=rare), context)


def head_of(policy: Policy) -> NextLogprobs:
    """Log-probabilities of a policy from its hidden states."""
    model = policy.backbone.model

    def next_logprobs(hidden: Float[Tensor, "position width"]) -> Float[Tensor, "position vocab"]:
        return logits(model, hidden.to(model.device, model.dtype)).log_softmax(dim=-1)

    return next_logprobs


def drawn_and_held_out(
    world: World, policy: Policy, round_index: int, should_stop: Callable[[], bool]
) -> Generator[Output, None, tuple[ScoredSamples, ScoredSamples] | None]:
    """Responses to learn from and responses held out; None where a stop cut the drawing short."""
    settings = world.run.oracle
    with policy.prepared():
        train = yield from _scored_draw(
            world, policy, world.prompts["train"], settings.rollouts_per_round,
            round_index, "oracle", should_stop,
        )  # fmt: skip
        if train is None:
            return None
        held_out = yield from _scored_draw(
            world, policy, world.prompts["validation"], settings.validation_rollouts,
            round_index, "validation", should_stop,
        )  # fmt: skip
    return None if held_out is None else (train, held_out)


def _scored_draw(
    world: World,
    policy: Policy,
    prompts: Sequence[Prompt],
    wanted: int,
    round_index: int,
    purpose: str,
    should_stop: Callable[[], bool],
) -> Generator[Output, None, ScoredSamples | None]:
    """Progress while ``wanted`` responses are drawn and judged, spread evenly over the prompts.

    Returns None where a stop cut the drawing short; what was drawn has its rows nevertheless.
    """
    phase = Phase(f"sample_{purpose}")
    seed = derive_seed(world.run.seed, "rollouts", purpose, round_index)
    at_once = max(RESPONSES_AT_ONCE, world.run.sampling.batch_size)
    drawn: list[ScoredSamples] = []
    # what is held out measures the policy itself
    temperature = world.run.oracle.temperature if purpose == "oracle" else 1.0
    sampling = world.run.sampling.at(temperature)
    done = 0
    with world.asked_in_shares():
        # processes draw and judge one portion each, then all of them settle whether to go on
        for turn in micro_batches(_portions(prompts, wanted, seed, at_once), ranks().size):
            yield Progress(phase, done, wanted, round_index, "responses")
            if settled(should_stop):
                break
            with uneven_passes(policy.backbone.model):
                new = [
                    policy.sample(some, each, sampling, seed, keep_hidden=True)
                    for some, each in ranks().share(turn)
                ]
            drawn += [ScoredSamples.of(world, samples) for samples in new]
            done += sum(len(some) * each for some, each in turn)
    drawn = ranks().joined(drawn)
    if not drawn:
        return None
    found = ScoredSamples.joined(drawn)
    if checks := found.checks.scalars():
        yield Scalars(round_index, 0, {f"{name}_{purpose}": v for name, v in checks.items()})
    yield Progress(phase, done, wanted, round_index, "responses")
    yield from rollout_rows(
        world, found.rollouts, found.satisfaction, round_index,
        purpose=purpose, subject="base" if policy.version == 0 else "policy", scores=found.scores,
    )  # fmt: skip
    return found if done == wanted else None


def _portions(
    prompts: Sequence[Prompt], wanted: int, seed: int, at_once: int
) -> list[tuple[Sequence[Prompt], int]]:
    """Pieces of work of about ``at_once`` responses: prompts and how many responses to each."""
    # a different part of the prompts gets the odd responses in each round
    first = seed % len(prompts)
    return pieces(evenly([*prompts[first:], *prompts[:first]], wanted), at_once)


def _with_replay(
    world: World, oracle: Oracle, policy: Policy, data: OracleData, earlier: Sequence[OracleRound]
) -> OracleData:
    """The round's responses and those of earlier rounds; a new oracle is prepared on the former."""
    settings = world.run.oracle
    if oracle.version == 0:
        oracle.prepare(data.window, data.labels(settings))
    for old in list(earlier)[-settings.replay_rounds :] if settings.replay_rounds else []:
        data = _joined(data, replayed(world, policy, old.rollouts, old.satisfaction))
    return data


def told_weights(data: OracleData, round_index: int) -> Iterator[Output]:
    """How much the responses count, where they weigh differently, and a warning where it is little.

    Those of earlier rounds and those of an engine that rounds weigh differently as well.
    """
    if bool((data.log_weights == 0).all()):
        return
    share = data.effective_share
    yield Scalars(round_index, 0, {"oracle/effective_share": share})
    if share < EFFECTIVE_SHARE_MIN:
        yield Note(
            "warning",
            f"the {len(data)} responses that the oracle learns from weigh like "
            f"{share * len(data):.0f} drawn from the policy itself; set [oracle] temperature "
            "nearer to 1, shorten [sampling] horizon, or lower [oracle] replay_rounds",
            round_index,
        )


def _joined(first: OracleData, second: OracleData) -> OracleData:
    return OracleData(
        join_windows([first.window, second.window]),
        torch.cat([first.satisfaction, second.satisfaction]),
        first.prompts + second.prompts,
        torch.cat([first.log_weights, second.log_weights]),
    )
