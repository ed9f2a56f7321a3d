"""The rounds of a method that tunes the policy, from start or checkpoint to the final report."""

from collections.abc import Callable, Generator
from pathlib import Path

from acft.distributed import settled
from acft.events import Note
from acft.policy import Policy
from acft.training.final import final_evaluation
from acft.training.outputs import Checkpoint, Output, TrainContext
from acft.training.train_state import TrainState
from acft.training.validation import best_event, validate
from acft.training.world import World

OneRound = Callable[[TrainState, int], Generator[Output, None, None]]
"""Trains the policy of the state through the round of that index."""


def tuned(
    world: World,
    context: TrainContext,
    one_round: OneRound,
    view: Callable[[Policy], Policy] = lambda policy: policy,
    save_more: Callable[[Path], None] = lambda folder: None,  # noqa: ARG005
) -> Generator[Output, None, TrainState]:
    """Outputs of all rounds and of the final evaluation; returns where the state ended.

    Args:
        one_round: A round that stops early leaves optimiser steps out and gets no checkpoint.
        view: How a frozen policy is used when it is measured.
        save_more: Adds what the method itself carries from round to round to a checkpoint.
    """
    state = TrainState(world, 0.0)
    if context.resume_from is not None:
        state.restore(context.resume_from, None)
        yield from state.best_again()
    else:
        state.base_validation = yield from validate(world, world.base, 0, 0)
    for index in range(context.resume_round + 1, world.run.schedule.rounds + 1):
        if settled(context.should_stop):
            return state
        if state.is_over_budget():
            yield over_budget(state)
            break
        yield from one_round(state, index)
        if not state.can_close(index):
            return state
        yield from close_round(world, state, index, view, save_more)
    if not context.should_stop():
        yield from final_evaluation(world, state, view(state.best_policy()))
    return state


def close_round(
    world: World,
    state: TrainState,
    index: int,
    view: Callable[[Policy], Policy],
    save_more: Callable[[Path], None],
) -> Generator[Output, None, None]:
    """Validation, choice of the best checkpoint, and the checkpoint itself."""
    state.finish_policy(index, keep=index)
    result = yield from validate(
        world, view(state.snapshot(index)), index, state.optimizer.finished
    )
    is_best = state.record(result)

    def save(folder: Path) -> None:
        state.save(folder)
        save_more(folder)

    yield Checkpoint(index, policy_version=index, oracle_version=0, save=save)
    if is_best:
        yield best_event(result)


def over_budget(state: TrainState) -> Note:
    """The event that says why the run ends before its last round."""
    text = "KL(policy || base) passed limits.kl_base_budget; the run ends here"
    return Note("warning", text, state.validations[-1].round, state.optimizer.finished)
