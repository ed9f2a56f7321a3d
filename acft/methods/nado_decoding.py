"""NADO decoding: an oracle guides a policy while it draws, and no KL changes its weights.

Source: arXiv:2205.14219. The oracle comes from the same job as in ACFT; every round adds responses
of the policy, so that both methods may be given the same budget.
"""

from collections.abc import Generator
from typing import Any, Literal

from acft.config import Config
from acft.decoding.base import DecodedJudge
from acft.events import Note
from acft.methods.base import METHODS, Method
from acft.methods.sft import needs_corpus
from acft.policy import Policy
from acft.settings import OpenFraction, RunSettings
from acft.training.final import compare_with_base
from acft.training.fit_job import fit_job
from acft.training.oracle_job import Guide, build_oracle, guide_decoder, oracle_job
from acft.training.outputs import Output, TrainContext
from acft.training.rounds import all_rounds, sealed
from acft.training.train_state import TrainState
from acft.training.validation import (
    Validation,
    kl_to_base,
    validation_answers,
    validation_scalars,
)
from acft.training.world import World, facts, load_world

SUBJECT = "guided"
"""Who is measured: the policy with the decoder of that name."""


class NadoDecodingSettings(Config):
    """Whom the decoder guides, and how far; ``[oracle] strength`` is its exponent."""

    start: Literal["base", "sft"] = "base"
    """The policy that is guided: the base as it is, or after plain fine-tuning on the corpus, as in
    the paper's baseline; its oracle then learns anew from every round's policy."""
    delta: OpenFraction = 1.0
    """Satisfaction demanded of every prompt's responses; below 1 the soft closed form is used."""


def train(settings: NadoDecodingSettings, context: TrainContext) -> Generator[Output, None, None]:
    """No constraint in the weights: an oracle of the policy guides its decoding."""
    world = yield from load_world(context)
    state = TrainState(world)
    state.is_tuned, state.prefers_latest = settings.start == "sft", True
    state.oracle = build_oracle(world)

    def one_round(index: int) -> Generator[Output, None, None]:
        assert state.oracle is not None
        if state.is_tuned:
            yield from fit_job(world, state.optimizer, None, index, should_stop=context.should_stop)
            if not state.can_close(index):
                return
            state.finish_policy(index, keep=index)
        new = yield from oracle_job(
            world, state.oracle, state.snapshot(world.policy.version), index, state.recent,
            context.should_stop, delta=settings.delta,
        )  # fmt: skip
        state.finish_oracle(new)

    yield from all_rounds(
        state,
        context,
        one_round,
        close=lambda index: _close_round(state, index, settings.delta),
        report=lambda: _report(state, settings.delta),
    )


def guided(world: World, policy: Policy, guide: Guide, delta: float) -> DecodedJudge:
    """A policy with the guided decoder bound to it."""
    decoder = guide_decoder(world, policy, guide.oracle, guide.strength, delta)
    return DecodedJudge(policy, decoder)


def _guided(state: TrainState, delta: float) -> DecodedJudge:
    """The newest policy with the newest oracle, which learned from it."""
    guide = state.recent[-1].guide
    return guided(state.world, state.snapshot(guide.policy_version), guide, delta)


def _close_round(state: TrainState, index: int, delta: float) -> Generator[Output, None, None]:
    """Validation of the guided policy, and the checkpoint."""
    world, sampler = state.world, _guided(state, delta)
    answers = yield from validation_answers(world, sampler, SUBJECT, index)
    distance = kl_to_base(world, sampler)
    result = Validation(index, answers.satisfaction, answers.toxic_share, None, distance)
    yield validation_scalars(result, answers, state.optimizer.finished)
    yield from sealed(state, result)


def _report(state: TrainState, delta: float) -> Generator[Output, None, None]:
    """Measurements of base and guided policy on test data."""
    yield from compare_with_base(
        state.world, _guided(state, delta), SUBJECT, len(state.validations)
    )
    yield Note(
        "info",
        f"subject {SUBJECT!r} is the {'tuned' if state.is_tuned else 'base'} policy with decoder "
        f"'guided' at strength {state.recent[-1].guide.strength:g}",
    )


def used_with(settings: NadoDecodingSettings) -> dict[str, Any]:
    """The decoder."""
    return {"decoder": "guided", "decoder_options": {"delta": settings.delta}}


def contradictions(settings: NadoDecodingSettings, run: RunSettings) -> list[str]:
    """That there is nothing to fine-tune on, where the start is to be fine-tuned."""
    return needs_corpus(settings, run) if settings.start == "sft" else []


METHODS.add("nado_decoding")(
    Method(
        NadoDecodingSettings, train, facts, used_with, contradictions,
        takes_steps=lambda settings: settings.start == "sft", has_oracle=True,
    )
)  # fmt: skip
