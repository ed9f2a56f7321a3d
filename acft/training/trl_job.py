"""The steps of a round taken by one of TRL's trainers, told in the project's own events."""

import math
from collections.abc import Callable, Generator, Mapping

from acft.backbone.trl_steps import TrlSteps
from acft.distributed import ranks
from acft.errors import ConfigError, NonFiniteError
from acft.events import Note, Phase, Progress, Scalars
from acft.seeding import derive_seed
from acft.training.concurrency import Emit, emitted
from acft.training.optimization import PolicyOptimizer
from acft.training.outputs import Output
from acft.training.world import World


def trl_job(
    world: World,
    optimizer: PolicyOptimizer,
    round_index: int,
    names: Mapping[str, str],
    train: Callable[[TrlSteps], None],
    should_stop: Callable[[], bool],
) -> Generator[Output, None, None]:
    """Losses and progress of one round's steps; the policy is updated in place.

    Args:
        world: Policy, base and settings.
        optimizer: Takes the steps, with its own learning rates.
        round_index: From 1.
        names: Scalars by TRL's name for them.
        train: Calls the trainer with what it is given.
        should_stop: Asked after each step.

    Raises:
        ConfigError: Several processes train the policy.
        NonFiniteError: Loss or gradient is NaN or infinite.
    """
    settings = world.run.optimizer
    yield from _left_out(world, round_index)

    def work(emit: Emit) -> None:
        rates, read = [0.0], [0.0]
        first = optimizer.finished

        def before_step() -> None:
            rates.append(optimizer.lr)
            optimizer.prepare()

        def after_step(logs: Mapping[str, float]) -> bool:
            optimizer.count()
            _check(logs, optimizer.finished)
            values = {names[key]: value for key, value in logs.items() if key in names}
            values |= {f"policy/{name}": logs[name] for name in ("loss", "grad_norm")}
            values |= {"policy/lr": rates[-1], "policy/tokens": logs["num_tokens"] - read[-1]}
            read.append(logs["num_tokens"])
            done = optimizer.finished - first
            emit(Scalars(round_index, optimizer.finished, values))
            emit(Progress(Phase.FIT_POLICY, done, settings.steps_per_round, round_index))
            return should_stop()

        train(
            TrlSteps(
                policy=world.policy.backbone,
                base=world.base.backbone,
                optimizer=optimizer.adam,
                settings=settings,
                n_steps=settings.steps_per_round,
                seed=derive_seed(world.run.seed, "trl", round_index),
                before_step=before_step,
                after_step=after_step,
            )
        )
        world.policy.version = round_index

    yield from emitted(work)


def _left_out(world: World, round_index: int) -> Generator[Note, None, None]:
    if ranks().size > 1:
        raise ConfigError(
            f"method {world.run.method.get('name')!r} trains in one process, not in "
            f"{ranks().size}; start it without torchrun or accelerate"
        )
    if world.run.adapter.dropout:
        text = f"[adapter] dropout = {world.run.adapter.dropout}: TRL trains without dropout"
        yield Note("warning", text, round_index)


def _check(logs: Mapping[str, float], step: int) -> None:
    for name in ("loss", "grad_norm"):
        if not math.isfinite(logs[name]):
            raise NonFiniteError(f"{name} is {logs[name]} in step {step}; lower [optimizer] lr")
