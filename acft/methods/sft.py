"""Plain supervised fine-tuning: the control that every effect is measured against."""

from collections.abc import Generator
from typing import Any

from acft.config import Config
from acft.methods.base import METHODS, Method
from acft.settings import RunSettings
from acft.training.fit_job import fit_job
from acft.training.outputs import Output, TrainContext
from acft.training.rounds import all_rounds
from acft.training.train_state import TrainState
from acft.training.world import World, facts, load_world


class SftSettings(Config):
    """Plain fine-tuning has no settings of its own."""


def train(settings: SftSettings, context: TrainContext) -> Generator[Output, None, None]:  # noqa: ARG001
    """Cross-entropy on the same corpus and steps, without any constraint."""
    world = yield from load_world(context)
    yield from fitted_to_corpus(world, context)


def fitted_to_corpus(world: World, context: TrainContext) -> Generator[Output, None, None]:
    """Outputs of fine-tuning on the world's corpora by cross-entropy alone."""
    state = TrainState(world)

    def one_round(index: int) -> Generator[Output, None, None]:
        yield from fit_job(world, state.optimizer, None, index, should_stop=context.should_stop)

    yield from all_rounds(state, context, one_round)


def needs_corpus(_: Any, run: RunSettings) -> list[str]:
    """One sentence where the run has no corpus to train on."""
    return [] if run.corpus else ["[corpus] there is none to train on; add one: source = 'sotu'"]


METHODS.add("sft")(Method(SftSettings, train, facts, contradictions=needs_corpus, is_counted=True))
