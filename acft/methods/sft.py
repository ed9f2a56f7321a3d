"""Plain supervised fine-tuning: the control that every effect is measured against."""

from collections.abc import Generator

from acft.config import Config
from acft.methods.base import METHODS, Checkpoint, Method, Output, TrainContext
from acft.methods.final import final_evaluation
from acft.methods.fit_job import fit_job
from acft.methods.progress import TrainState
from acft.methods.validation import best_event, better, validate
from acft.methods.world import facts, load_world
from acft.schedule import rounds


class SftSettings(Config):
    """Plain fine-tuning has no settings of its own."""


def train(settings: SftSettings, context: TrainContext) -> Generator[Output, None, None]:  # noqa: ARG001
    """Cross-entropy on the same corpus and steps, without any constraint."""
    world = yield from load_world(context)
    state = TrainState(world, 0.0)
    if context.resume_from is not None:
        state.restore(context.resume_from, None)
    else:
        state.base_validation = yield from validate(world, world.base, 0, 0, context.should_stop)
    schedule = world.run.schedule
    for plan in rounds("sequential", schedule.rounds, context.resume_round + 1):
        yield from fit_job(
            world, state.optimizer, None, plan.index, should_stop=context.should_stop
        )
        if not state.is_round_complete(plan.index):
            return
        state.finish_policy(plan.index, keep=plan.index)
        result = yield from validate(
            world, state.snapshot(plan.index), plan.index, state.optimizer.finished
        )
        state.validations.append(result)
        assert state.base_validation is not None
        tolerance = world.run.evaluation.tolerance_utility
        is_best = state.best is None or better(result, state.best, state.base_validation, tolerance)
        if is_best:
            state.set_best(result)
        yield Checkpoint(plan.index, plan.index, 0, state.save)
        if is_best:
            yield best_event(result)
    if not context.should_stop():
        yield from final_evaluation(world, state)


METHODS.add("sft")(Method(SftSettings, train, facts))
