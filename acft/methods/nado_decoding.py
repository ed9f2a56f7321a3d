"""NADO decoding: the policy stays as it is, an oracle guides it while it draws.

Source: arXiv:2205.14219. The oracle comes from the same job as in ACFT; every round adds responses
of the base policy, so that both methods may be given the same budget.
"""

from collections.abc import Generator
from typing import Any

from acft.config import Config
from acft.decoding.base import DecodedPolicy
from acft.distributed import settled
from acft.events import Note
from acft.methods.base import METHODS, Method
from acft.settings import OpenFraction
from acft.training.final import compare_responses, is_wanted
from acft.training.oracle_job import Guide, build_oracle, guide_decoder, oracle_job
from acft.training.outputs import Checkpoint, Output, TrainContext
from acft.training.train_state import TrainState
from acft.training.validation import (
    Validation,
    best_event,
    kl_responses,
    validate,
    validation_answers,
    validation_scalars,
)
from acft.training.world import World, facts, load_world

SUBJECT = "guided"
"""Who is measured: the base policy with the decoder of that name."""


class NadoDecodingSettings(Config):
    """How far the decoder pulls; its strength is chosen as ``[oracle] strength`` says."""

    delta: OpenFraction = 1.0
    """Satisfaction demanded of every prompt's responses; below 1 the soft closed form is used."""


def train(settings: NadoDecodingSettings, context: TrainContext) -> Generator[Output, None, None]:
    """No tuning: an oracle of the base policy guides its decoding."""
    world = yield from load_world(context)
    state = TrainState(world, 0.0)
    state.oracle = build_oracle(world)
    if context.resume_from is not None:
        state.restore(context.resume_from, state.oracle)
        yield from state.best_again()
    else:
        state.base_validation = yield from validate(world, world.base, 0, 0)
    for index in range(context.resume_round + 1, world.run.schedule.rounds + 1):
        if settled(context.should_stop):
            return
        new = yield from oracle_job(
            world, state.oracle, world.base, index, state.recent, context.should_stop,
            delta=settings.delta,
        )  # fmt: skip
        if context.should_stop():
            return
        state.finish_oracle(new)
        yield from _close_round(world, state, index, settings.delta)
    if is_wanted(world) and not context.should_stop():
        sampler = guided(world, state.recent[-1].guide, settings.delta)
        yield from compare_responses(world, sampler, SUBJECT, len(state.validations))
        yield Note(
            "info",
            f"subject {SUBJECT!r} is the base policy with decoder 'guided' at strength "
            f"{state.recent[-1].guide.strength:g}; its likelihoods of texts are not measured, "
            "since those of the base are not its own",
        )


def guided(world: World, guide: Guide, delta: float) -> DecodedPolicy:
    """The base policy with the guided decoder bound to it."""
    decoder = guide_decoder(world, world.base, guide.oracle, guide.strength, delta)
    return DecodedPolicy(world.base, decoder)


def _close_round(
    world: World, state: TrainState, index: int, delta: float
) -> Generator[Output, None, None]:
    """Validation of the guided policy, and the checkpoint; weights in it are the base's."""
    sampler = guided(world, state.recent[-1].guide, delta)
    answers = yield from validation_answers(world, sampler, SUBJECT, index)
    result = Validation(
        index, answers.satisfaction, answers.toxic_share, None, kl_guided_base(world, sampler)
    )
    yield validation_scalars(result, answers, 0)
    state.validations.append(result)
    state.best = result  # the latest oracle has learned from all responses so far
    yield Checkpoint(index, 0, index, state.save)
    yield best_event(result)


def kl_guided_base(world: World, sampler: DecodedPolicy) -> float:
    """KL(guided ‖ base) in nats a token, averaged over the guided policy's own responses."""
    rollouts = kl_responses(world, sampler)
    n_tokens = sum(len(rollout.response_ids) for rollout in rollouts)
    return sum(-rollout.log_weight for rollout in rollouts) / max(1, n_tokens)


def used_with(settings: NadoDecodingSettings) -> dict[str, Any]:
    """The decoder."""
    return {"decoder": "guided", "decoder_options": {"delta": settings.delta}}


METHODS.add("nado_decoding")(Method(NadoDecodingSettings, train, facts, used_with))
