"""NADO decoding: the policy stays as it is, an oracle guides it while it draws.

Source: arXiv:2205.14219. The oracle comes from the same job as in ACFT; every round adds responses
of the base policy, so that both methods may be given the same budget.
"""

from collections.abc import Generator
from typing import Any

from acft.config import Config
from acft.decoding.base import DecodedPolicy
from acft.events import Note
from acft.methods.base import METHODS, Method
from acft.settings import OpenFraction
from acft.training.final import compare_responses
from acft.training.oracle_job import Guide, build_oracle, guide_decoder, oracle_job
from acft.training.outputs import Output, TrainContext
from acft.training.rounds import all_rounds, sealed
from acft.training.train_state import TrainState
from acft.training.validation import (
    Validation,
    kl_responses,
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
    state = TrainState(world)
    state.is_tuned, state.oracle = False, build_oracle(world)

    def one_round(index: int) -> Generator[Output, None, None]:
        assert state.oracle is not None
        new = yield from oracle_job(
            world, state.oracle, world.base, index, state.recent, context.should_stop,
            delta=settings.delta,
        )  # fmt: skip
        state.finish_oracle(new)

    yield from all_rounds(
        state,
        context,
        one_round,
        close=lambda index: _close_round(state, index, settings.delta),
        report=lambda: _report(state, settings.delta),
    )


def guided(world: World, guide: Guide, delta: float) -> DecodedPolicy:
    """The base policy with the guided decoder bound to it."""
    decoder = guide_decoder(world, world.base, guide.oracle, guide.strength, delta)
    return DecodedPolicy(world.base, decoder)


def _close_round(state: TrainState, index: int, delta: float) -> Generator[Output, None, None]:
    """Validation of the guided policy, and the checkpoint; weights in it are the base's."""
    world = state.world
    sampler = guided(world, state.recent[-1].guide, delta)
    answers = yield from validation_answers(world, sampler, SUBJECT, index)
    result = Validation(
        index, answers.satisfaction, answers.toxic_share, None, kl_guided_base(world, sampler)
    )
    yield validation_scalars(result, answers, 0)
    yield from sealed(state, result)


def _report(state: TrainState, delta: float) -> Generator[Output, None, None]:
    """Measurements of base and guided policy on test data."""
    guide = state.recent[-1].guide
    sampler = guided(state.world, guide, delta)
    yield from compare_responses(state.world, sampler, SUBJECT, len(state.validations))
    yield Note(
        "info",
        f"subject {SUBJECT!r} is the base policy with decoder 'guided' at strength "
        f"{guide.strength:g}; its likelihoods of texts are not measured, since those of the base "
        "are not its own",
    )


def kl_guided_base(world: World, sampler: DecodedPolicy) -> float:
    """KL(guided ‖ base) in nats a token, averaged over the guided policy's own responses."""
    rollouts = kl_responses(world, sampler)
    n_tokens = sum(len(rollout.response_ids) for rollout in rollouts)
    return sum(-rollout.log_weight for rollout in rollouts) / max(1, n_tokens)


def used_with(settings: NadoDecodingSettings) -> dict[str, Any]:
    """The decoder."""
    return {"decoder": "guided", "decoder_options": {"delta": settings.delta}}


METHODS.add("nado_decoding")(Method(NadoDecodingSettings, train, facts, used_with))
