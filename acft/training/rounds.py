"""The rounds of a method, from start or checkpoint to the final report."""

from collections.abc import Callable, Generator
from functools import partial

from acft.distributed import settled
from acft.events import Note
from acft.training.final import final_evaluation, is_wanted
from acft.training.outputs import Checkpoint, Output, TrainContext
from acft.training.responses import Judged, own_responses
from acft.training.train_state import TrainState
from acft.training.validation import Validation, best_event, validate

Outputs = Generator[Output, None, None]


def all_rounds(
    state: TrainState,
    context: TrainContext,
    one_round: Callable[[int], Outputs],
    close: Callable[[int], Outputs] | None = None,
    report: Callable[[], Outputs] | None = None,
) -> Outputs:
    """Outputs of all rounds and of the final report.

    Args:
        one_round: Trains through the round of that index; one that a stop cuts short leaves steps
            or its oracle out, which the state tells, and is not closed.
        close: Validates and seals that round; where none is given, by ``close_round``.
        report: Measures what has become of it all; where none is given, the preferred policy.
    """
    close = close or partial(close_round, state)
    report = report or partial(final_evaluation, state)
    if context.resume_from is not None:
        state.restore(context.resume_from)
        yield from state.best_again()
    else:
        if settled(context.should_stop):
            return
        state.base_validation = yield from validate(state.world, state.world.base, 0, 0)
    for index in range(context.resume_round + 1, state.world.run.schedule.rounds + 1):
        if settled(context.should_stop):
            return
        if state.is_over_budget():
            text = "KL(policy || base) passed limits.kl_base_budget; the run ends here"
            yield Note("warning", text, state.validations[-1].round, state.optimizer.finished)
            break
        yield from one_round(index)
        if not state.can_close(index):
            return
        yield from close(index)
    if is_wanted(state.world) and not context.should_stop():
        yield from report()


def rounds_of_own_responses(
    state: TrainState,
    context: TrainContext,
    learn: Callable[[int, list[Judged]], Outputs],
    *,
    each: int = 1,
) -> Outputs:
    """Outputs of all rounds, each of which begins with responses that the policy draws for it.

    Args:
        state: Its policy draws as it is used.
        context: Whose stop leaves out the rest of the round.
        learn: Trains through the round of that index on these responses.
        each: So many responses to a prompt at least.
    """

    def one_round(index: int) -> Outputs:
        policy = state.view(state.snapshot(index - 1))
        judged = yield from own_responses(
            state.world, policy, index, each=each, should_stop=context.should_stop
        )
        if not context.should_stop():
            yield from learn(index, judged)

    yield from all_rounds(state, context, one_round)


def close_round(state: TrainState, index: int) -> Outputs:
    """Validation of the policy as it is now, and the round's checkpoint."""
    state.finish_policy(index, keep=index)
    policy = state.view(state.snapshot(index))
    result = yield from validate(state.world, policy, index, state.optimizer.finished)
    yield from sealed(state, result)


def sealed(state: TrainState, result: Validation) -> Outputs:
    """The checkpoint of a validated round, and the news where it is the best so far."""
    is_best = state.record(result)
    oracle_version = state.oracle.version if state.oracle is not None else 0
    yield Checkpoint(result.round, state.world.policy.version, oracle_version, state.save)
    if is_best:
        yield best_event(result)
