"""Attribute-controlled fine-tuning: cross-entropy plus KL to the nearest satisfying distribution.

Source: arXiv:2410.05559. The Oracle box of its figure 2 is training/oracle_job.py, which trains
with oracle/training.py. The LLM box is, in the order of the calls, training/fit_job.py, which takes
the steps; regularizer.py beside it, which says what q is; chunked.py, which computes losses and
gradients by the equations of objective.py; and optimization.py beside the first two, which adds the
gradients up and applies them.
"""

import math
from collections import defaultdict
from collections.abc import Generator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field, model_validator

from acft.chunked import KlDirection
from acft.config import Config
from acft.data import TokenizedDocument
from acft.distributed import ranks
from acft.events import Note
from acft.methods.base import METHODS, Method
from acft.methods.sft import needs_corpus
from acft.objective import target_ratio
from acft.oracle.training import LOG_WEIGHT_MAX
from acft.policy import Policy
from acft.schedule import Round, rounds
from acft.schema import SATISFIED_ABOVE
from acft.settings import (
    Fraction,
    NonNegative,
    NonNegativeFloat,
    OpenFraction,
    PositiveFloat,
    RunSettings,
)
from acft.training.concurrency import both
from acft.training.fit_job import fit_job
from acft.training.guidance import GuidanceTap
from acft.training.oracle_job import OracleRound, build_oracle, oracle_job
from acft.training.outputs import Output, TrainContext
from acft.training.precompute import precompute_guidance
from acft.training.records import row_id
from acft.training.regularizer import Regularizer
from acft.training.remote import RayOracle, check_executor, remote_oracle_job
from acft.training.rounds import all_rounds, sealed
from acft.training.train_state import TrainState
from acft.training.validation import validate
from acft.training.world import World, facts, load_world

Prefixes = Annotated[
    tuple[Literal["corpus", "on_policy", "guided"], ...], Field(strict=False, min_length=1)
]


class AcftSettings(Config):
    """Settings of attribute-controlled fine-tuning; the paper does not state its own values."""

    kl_weight: NonNegativeFloat = 1.0
    """Weight of the KL term, lambda in the paper; 0 is plain fine-tuning."""
    delta: OpenFraction = 1.0
    """Satisfaction demanded of every prompt's responses; below 1 the soft closed form is used."""
    kl: KlDirection = "guided_policy"
    """KL(guided || policy) or KL(policy || guided)."""
    anchor: Literal["snapshot", "current"] = "snapshot"
    """Which p builds q = p·R: the policy whose rollouts trained R, or the policy being tuned."""
    prefixes: Prefixes = ("corpus",)
    """Where the KL is taken: corpus texts, own rollouts, own rollouts weighted towards q. The last
    needs many rollouts to each prompt: R(x) is estimated from them, and with one to each a prompt
    weighs R(x) instead of 1. With few, take ``on_policy`` and ``reach_weighted``."""
    adaptive: bool = True
    """Only corpora of domain ``attribute`` carry the KL. Source: arXiv:2410.05559."""
    reach_weighted: bool = False
    """Weigh each corpus prefix by how much likelier the guided policy is to reach it than p is."""
    ce_weight: NonNegativeFloat = 1.0
    """Weight of the cross-entropy; 0 trains on the KL alone."""
    kl_weight_target: Fraction = 0.0
    """Validation satisfaction that dual ascent steers ``kl_weight`` to; 0 keeps it fixed."""
    dual_rate: PositiveFloat = 4.0
    """Dual ascent: log kl_weight rises by this times the missing satisfaction after each round."""
    kl_weight_max: PositiveFloat = 100.0
    """Largest weight that dual ascent may choose."""
    guidance_top_k: NonNegative = 0
    """Guidance of corpus texts is computed once, in the oracle's job, and this many tokens of it
    kept with the exact mass of the rest; ``guidance/sparse_error`` says what that loses; 0 = all
    tokens, computed in every step."""
    guidance_sequences: NonNegative = 8
    """Sequences of each round whose per-token guidance is kept."""

    @model_validator(mode="after")
    def _trains_on_something(self) -> "AcftSettings":
        if not self.ce_weight and not self.kl_weight:
            raise ValueError(
                "ce_weight and kl_weight are both 0, so there is nothing to train on; give one of "
                "them a weight"
            )
        return self

    @model_validator(mode="after")
    def _weight_can_rise(self) -> "AcftSettings":
        if self.kl_weight_target and not 0 < self.kl_weight <= self.kl_weight_max:
            raise ValueError(
                f"kl_weight_target {self.kl_weight_target} multiplies kl_weight, where 0 stays 0, "
                f"up to kl_weight_max {self.kl_weight_max}, and kl_weight is {self.kl_weight}; set "
                "kl_weight to where it is to begin, such as 1.0, or kl_weight_target to 0"
            )
        return self

    @model_validator(mode="after")
    def _guidance_can_be_kept(self) -> "AcftSettings":
        if self.guidance_top_k and self.anchor == "current":
            raise ValueError(
                f"guidance_top_k {self.guidance_top_k} keeps what a snapshot says, but anchor is "
                "'current'; set anchor to 'snapshot', or guidance_top_k to 0"
            )
        return self


def train(settings: AcftSettings, context: TrainContext) -> Generator[Output, None, None]:
    """Cross-entropy on a corpus plus KL to the guided policy of an oracle trained alongside."""
    check_executor(context.run)
    world = yield from load_world(context)
    state = TrainState(world, settings.kl_weight)
    state.oracle = build_oracle(world)
    schedule = world.run.schedule
    if schedule.executor == "ray":
        state.remote = RayOracle(world.run, max(1, world.threads // 2))
    training = Training(settings, context, world, state)
    plans = {plan.index: plan for plan in rounds(schedule.kind, schedule.rounds)}
    yield from all_rounds(
        state,
        context,
        one_round=lambda index: one_round(training, plans[index]),
        close=lambda index: close_round(training, plans[index]),
    )


@dataclass(frozen=True)
class Training:
    """What all rounds of a run share."""

    settings: AcftSettings
    context: TrainContext
    world: World
    state: TrainState


def one_round(training: Training, plan: Round) -> Generator[Output, None, None]:
    """Both jobs of a round, at once where the schedule allows it."""
    world, state = training.world, training.state
    oracle_part = _run_oracle_job(training, plan)
    if plan.is_concurrent:
        fit_part = _run_fit_job(training, plan, state.recent[-1])
        reason = _why_in_turn(world) if state.remote is None else ""
        if reason and plan.index == 2:  # the first round with two jobs
            text = f"the two jobs of the parallel schedule take turns, since {reason}"
            yield Note("warning", text, plan.index)
        at_once = not reason
        # no stream is shared with a job that computes in another process
        device = world.base.device if state.remote is None else "cpu"
        with world.divided_threads(jobs=2) if at_once else nullcontext():
            new, _ = yield from both(oracle_part, fit_part, at_once=at_once, device=device)
    else:
        new = yield from oracle_part
        if new.is_whole:
            yield from _run_fit_job(training, plan, new)
    state.finish_oracle(new)


def _why_in_turn(world: World) -> str:
    """Why the jobs of the parallel schedule cannot run at once here; empty where they can.

    Source: PyTorch's notes on CUDA graphs; no work of another thread may run during a capture.
    """
    if world.run.engine.kind == "compiled" and world.base.device != "cpu":
        return (
            "nothing else may compute while a GPU's steps are recorded; set [engine] kind = 'local'"
        )
    # torch has one generator for dropout, which two jobs at once would draw from in turns.
    # Likewise, processes that train together would agree with another job than their own.
    if ranks().size > 1:
        return "several processes train together"
    if world.run.adapter.dropout:
        return "dropout draws from one generator; set [adapter] dropout = 0"
    if world.threads <= 1:
        return "there is one thread; give [schedule] threads = 2 or more"
    return ""


def _run_oracle_job(training: Training, plan: Round) -> Generator[Output, None, OracleRound]:
    """The oracle's job and, with ``guidance_top_k``, guidance of the corpus texts it will guide."""
    settings, world, state = training.settings, training.world, training.state
    should_stop = training.context.should_stop
    assert state.oracle is not None
    policy = state.snapshot(plan.sample_from)
    if plan.is_concurrent and state.remote is not None:
        request = state.oracle_request(plan.index, policy.version, settings.delta)
        new = yield from remote_oracle_job(state.remote, request, state.oracle, policy, should_stop)
    else:
        new = yield from oracle_job(
            world, state.oracle, policy, plan.index, state.recent, should_stop,
            delta=settings.delta,
        )  # fmt: skip
    following = plan.index + 1 if plan.is_concurrent else plan.index
    is_wanted = settings.guidance_top_k > 0 and state.kl_weight > 0
    if not (is_wanted and following <= world.run.schedule.rounds and new.is_whole):
        return new
    regularizer = _regularizer(settings, state, new, policy)
    guide = yield from precompute_guidance(
        world, regularizer, following, settings.guidance_top_k, should_stop
    )
    return replace(new, guide=guide)


def close_round(training: Training, plan: Round) -> Generator[Output, None, None]:
    """Validation, dual ascent, and the checkpoint with what both left."""
    settings, world, state = training.settings, training.world, training.state
    state.finish_policy(plan.index, keep=plan.keep)
    policy = state.snapshot(plan.index)
    result = yield from validate(world, policy, plan.index, state.optimizer.finished)
    if settings.kl_weight_target:
        state.ascend(
            settings.kl_weight_target - result.satisfaction,
            settings.dual_rate,
            settings.kl_weight_max,
        )
    yield from sealed(state, result)


def _run_fit_job(
    training: Training, plan: Round, guide_round: OracleRound
) -> Generator[Output, None, None]:
    """The policy's job, towards the guided policy of ``guide_round``."""
    settings, world, state = training.settings, training.world, training.state
    should_stop = training.context.should_stop
    assert guide_round.guide.oracle.version == plan.guide_with
    anchor = state.snapshot(plan.anchor) if settings.anchor == "snapshot" else None
    regularizer = _regularizer(settings, state, guide_round, anchor)
    if settings.guidance_top_k and state.kl_weight > 0:
        # what the oracle's job left is complete, except in round 2 and after a resumed round
        guide = yield from precompute_guidance(
            world, regularizer, plan.index, settings.guidance_top_k, should_stop
        )
        regularizer = replace(regularizer, guide=guide)
    version = guide_round.guide.oracle.version
    tap = GuidanceTap(world, plan.index - 1, version, settings.guidance_sequences)
    yield from fit_job(
        world,
        state.optimizer,
        regularizer if state.kl_weight > 0 else None,
        plan.index,
        ce_weight=settings.ce_weight,
        tap=tap,
        should_stop=should_stop,
    )


def _regularizer(
    settings: AcftSettings, state: TrainState, guide_round: OracleRound, anchor: Policy | None
) -> Regularizer:
    sampled = _sampled_documents(settings, guide_round)
    rule = Regularizer(guide_round.guide, anchor, state.kl_weight, sampled=sampled)
    return as_set(rule, settings)


def as_set(rule: Regularizer, settings: AcftSettings) -> Regularizer:
    """The KL term with all that the settings alone decide; anchor and weight follow the rounds."""
    return replace(
        rule,
        kl=settings.kl,
        delta=settings.delta,
        is_adaptive=settings.adaptive,
        on_corpus="corpus" in settings.prefixes,
        is_reach_weighted=settings.reach_weighted,
    )


def _sampled_documents(
    settings: AcftSettings, guide_round: OracleRound
) -> list[tuple[TokenizedDocument, float]]:
    """The guide's rollouts as KL-only documents; towards q they weigh q/p.

    Weights are scaled to mean 1 over all response tokens, so that ``kl_weight`` means the same
    however many rollouts weigh nothing.

    Source: derived; E_q[f] = E_p[f·q/p], with R(x) estimated by the mean of C over the prompt's
    responses. Where another distribution than p drew them, all weigh p over it as well.
    """
    rollouts = guide_round.rollouts
    log_weights = [min(rollout.log_weight, LOG_WEIGHT_MAX) for rollout in rollouts]
    largest = max(log_weights)
    weights = [math.exp(each - largest) for each in log_weights]
    verdicts = [value > SATISFIED_ABOVE for value in guide_round.satisfaction]
    all_of, satisfied = defaultdict[str, float](float), defaultdict[str, float](float)
    for rollout, weight, verdict in zip(rollouts, weights, verdicts, strict=True):
        all_of[rollout.prompt_id] += weight
        satisfied[rollout.prompt_id] += weight * verdict
    subject = "base" if guide_round.guide.policy_version == 0 else "policy"
    on_policy, guided = [], []
    for rollout, weight, verdict in zip(rollouts, weights, verdicts, strict=True):
        if not rollout.response_ids or not weight:
            continue
        prompt = rollout.prompt_id
        towards_q = target_ratio(satisfied[prompt] / all_of[prompt], settings.delta, verdict)
        # an oracle is fitted once a round
        name = row_id(rollout, "oracle", subject, guide_round.guide.oracle.version)
        document = TokenizedDocument.of(rollout, "attribute")
        stored = replace(document, document_id=name, is_rollout=True)
        on_policy.append((stored, weight))
        if towards_q:
            guided.append((stored, weight * towards_q))
    chosen = settings.prefixes
    found = (on_policy if "on_policy" in chosen else []) + (guided if "guided" in chosen else [])
    lengths = [len(document.token_ids) - document.response_start for document, _ in found]
    total = sum(n * weight for n, (_, weight) in zip(lengths, found, strict=True))
    return [(document, weight * sum(lengths) / total) for document, weight in found]


def contradictions(settings: AcftSettings, run: RunSettings) -> list[str]:
    """One sentence for each setting without effect, or that would be counted twice."""
    found = needs_corpus(settings, run)
    on_corpus = "corpus" in settings.prefixes
    is_bare = settings.adaptive and all(corpus.domain != "attribute" for corpus in run.corpus)
    if set(settings.prefixes) == {"corpus"} and is_bare and settings.kl_weight:
        found.append(
            "[method] adaptive = true: puts the KL on corpora of domain 'attribute' only, and "
            "there is none, so nothing would be penalised; give a [[corpus]] domain = 'attribute', "
            "set adaptive to false, add 'on_policy' to prefixes, or set kl_weight to 0"
        )
    if settings.reach_weighted and "guided" in settings.prefixes:
        found.append(
            "[method] reach_weighted = true: weighs prefixes towards the guided policy, and so "
            "does 'guided' among prefixes; use one of the two"
        )
    if settings.guidance_top_k and not on_corpus:
        found.append(
            f"[method] guidance_top_k = {settings.guidance_top_k}: keeps guidance of corpus texts, "
            "but prefixes leave those out; add 'corpus' to them, or set it to 0"
        )
    return found


METHODS.add("acft")(
    Method(
        AcftSettings, train, facts,
        contradictions=contradictions, has_oracle=True, is_counted=True,
    )
)  # fmt: skip
