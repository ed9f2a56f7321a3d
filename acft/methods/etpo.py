"""ETPO: the policy goes towards the soft values of what it draws, one token at a time.

Values are log R of an oracle that learns them by soft Bellman backups (oracle/soft_values.py). The
policy then minimises, after every prefix that it has drawn, KL(policy ‖ guided) in closed form,
where the guided policy is the base times exp of the values; at its best it is q*, as in ACFT.

Source: arXiv:2402.06700. Rewards come at the end of a response, without discount, as q* asks.
"""

import math
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field

from acft.config import Config
from acft.data import TokenizedDocument
from acft.distributed import ranks
from acft.methods.base import METHODS, Method
from acft.oracle.base import ORACLES, Oracle
from acft.oracle.soft_values import Backups, Drawn, fit_soft_values
from acft.oracle.training import LOG_WEIGHT_MAX, require_both
from acft.policy import Policy
from acft.settings import Fraction, NonNegative, Positive, RunSettings
from acft.training.fit_job import fit_job
from acft.training.guidance import GuidanceTap
from acft.training.oracle_job import (
    Guide,
    OracleRound,
    ScoredSamples,
    build_oracle,
    drawn_and_held_out,
    head_of,
    oracle_data,
    told_weights,
)
from acft.training.outputs import Output, TrainContext
from acft.training.records import row_id
from acft.training.regularizer import Regularizer
from acft.training.replay import states_under
from acft.training.rounds import all_rounds
from acft.training.train_state import TrainState
from acft.training.world import World, facts, load_world


class EtpoSettings(Config):
    """The reward, and how values are backed up; the paper's beta is in ``floor``."""

    floor: Annotated[float, Field(gt=0.0, lt=1.0)] = 1e-3
    """C of a response that violates the constraint; a reward of 1 for satisfying it is the same as
    exp(-1 / beta) here."""
    trace: Fraction = 0.9
    """0 backs a token's value up from the next prefix's alone, as the paper does, 1 from what came
    of it in its response; between them the error of the values is traded for noise."""
    backups: Positive = 2
    """So often a round the values are backed up; ``[oracle] max_epochs`` are divided among them."""
    guidance_sequences: NonNegative = 8
    """Sequences of each round whose per-token guidance is kept."""


def train(settings: EtpoSettings, context: TrainContext) -> Generator[Output, None, None]:
    """Own responses, each token towards the base policy times exp of its soft value; no corpus."""
    world = yield from load_world(context)
    state = TrainState(world)
    state.oracle = build_oracle(world)
    should_stop = context.should_stop

    def one_round(index: int) -> Generator[Output, None, None]:
        assert state.oracle is not None
        policy = state.snapshot(index - 1)
        new = yield from critic_job(settings, world, state.oracle, policy, index, should_stop)
        if new.is_whole:
            sampled = own_documents(new, policy.version)
            rule = Regularizer(
                new.guide, world.base, 1.0, "policy_guided", on_corpus=False, sampled=sampled
            )
            version, limit = new.guide.oracle.version, settings.guidance_sequences
            tap = GuidanceTap(world, policy.version, version, limit)
            yield from fit_job(
                world, state.optimizer, rule, index,
                ce_weight=0.0, tap=tap, should_stop=should_stop,
            )  # fmt: skip
        state.finish_oracle(new)

    yield from all_rounds(state, context, one_round)


def critic_job(
    settings: EtpoSettings,
    world: World,
    oracle: Oracle,
    policy: Policy,
    round_index: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[Output, None, OracleRound]:
    """Rollouts and losses of one round; returns the ``OracleRound`` of the base policy's guide.

    A stop ends it between two portions of the responses or two epochs of the fit.
    """
    cut_short = OracleRound(Guide(oracle, 0.0, policy.version), [], [], is_whole=False)
    drawn = yield from drawn_and_held_out(world, policy, round_index, should_stop)
    if drawn is None:
        return cut_short
    train, held_out = (read_by_base(world, scored) for scored in drawn)
    if round_index == 1:
        require_both(torch.cat([train.data.verdict, held_out.data.verdict]))
    oracle = oracle.copied()
    oracle.follow(world.base.backbone)
    if oracle.version == 0:
        oracle.prepare(train.data.window, train.data.verdict)
    yield from told_weights(train.data, round_index)
    backups = Backups(
        head_of(policy), head_of(world.base), settings.floor, settings.trace, settings.backups
    )
    is_fitted = yield from fit_soft_values(
        oracle, train, held_out, backups, world.run.oracle, world.run.seed, round_index, should_stop
    )
    if not is_fitted:
        return cut_short
    ranks().copy_first(oracle)
    guide = Guide(oracle, 1.0, world.base.version)
    return OracleRound(guide, drawn[0].rollouts, drawn[0].satisfaction)


def read_by_base(world: World, scored: ScoredSamples) -> Drawn:
    """Drawn responses with the hidden states of the base policy, which the values are read from."""
    data = oracle_data(scored)
    states = states_under(world, world.base, scored.rollouts)
    return Drawn(replace(data, window=replace(data.window, hidden=states)), data.window.hidden)


def own_documents(new: OracleRound, version: int) -> list[tuple[TokenizedDocument, float]]:
    """A round's responses as documents that carry only the KL, with their importance weights.

    Args:
        new: The round.
        version: Of the policy that drew them.
    """
    subject = "policy" if version else "base"
    result = []
    for rollout in new.rollouts:
        name = row_id(rollout, "oracle", subject, new.guide.oracle.version)
        document = TokenizedDocument.of(rollout, "attribute")
        stored = replace(document, document_id=name, is_rollout=True)
        if rollout.response_ids:
            result.append((stored, math.exp(min(rollout.log_weight, LOG_WEIGHT_MAX))))
    return result


def contradictions(settings: EtpoSettings, run: RunSettings) -> list[str]:  # noqa: ARG001
    """One sentence for each setting of the oracle that leaves nothing to learn or has no effect."""
    oracle, found = run.oracle, []
    if oracle.kind in ORACLES.names() and not ORACLES.get(oracle.kind).is_fitted:
        fitted = ", ".join(name for name in ORACLES.names() if ORACLES.get(name).is_fitted)
        found.append(
            f"[oracle] kind = {oracle.kind!r}: learns nothing, and method 'etpo' needs one that "
            f"learns soft values; set it to one of {fitted}"
        )
    if oracle.consistency_weight or oracle.replay_rounds or oracle.balance != "none":
        found.append(
            "[oracle] consistency_weight, replay_rounds, balance: have no effect on soft values, "
            "which method 'etpo' learns; leave them out"
        )
    return found


METHODS.add("etpo")(
    Method(EtpoSettings, train, facts, contradictions=contradictions, has_oracle=True)
)
