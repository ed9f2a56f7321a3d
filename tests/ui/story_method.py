"""A training method with realistic texts and numbers but no model; run as a program, a worker."""

import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from acft.config import Config
from acft.events import Evaluated, Progress, Scalars
from acft.methods.base import METHODS, Method
from acft.runs.worker import main
from acft.training.outputs import Checkpoint, Output, Rows, TrainContext
from tests.light_worker import start_light
from tests.ui import synthetic
from tests.ui.synthetic import Shape

WORKER = (sys.executable, str(Path(__file__).resolve()))


class StorySettings(Config):
    """What a run of the story does."""

    kl_weight: float = 1.0
    """Weight of the KL term."""
    delta: float = 1.0
    """Satisfaction demanded."""
    gate: str = ""
    """The second round waits until this file exists."""


def train(settings: StorySettings, context: TrainContext) -> Iterator[Output]:
    """Rounds of synthetic rollouts, steps and guidance, with the base's answers before."""
    run = context.run
    shape = Shape(rounds=run.schedule.rounds, steps_per_round=run.optimizer.steps_per_round)
    rng = random.Random(run.seed)
    if context.resume_round == 0:
        yield from _answers(rng, shape, "base", 0, 0.45)
    for number in range(context.resume_round + 1, shape.rounds + 1):
        rudeness = 0.45 * 0.62**number
        rollouts = synthetic._rollouts(rng, shape, f"r{number}", "oracle", "policy", number - 1,
                                       rudeness, number)  # fmt: skip
        yield from _rows(rollouts, number)
        yield synthetic._calibration(rng, number)
        for step in range(1, shape.steps_per_round + 1):
            if context.should_stop():
                return
            _wait_for(settings.gate if number == 2 else "", context)
            total = (number - 1) * shape.steps_per_round + step
            yield Progress("fit_policy", step, shape.steps_per_round, number)
            yield Scalars(number, total, synthetic._step_values(rng, total, number))
        yield Rows("guidance", number, synthetic._guidance(rng, shape, number, rollouts))
        satisfied = sum(row["satisfaction"] > 0.5 for row in rollouts) / len(rollouts)
        yield Scalars(number, number * shape.steps_per_round, {"rollout/satisfaction": satisfied})
        yield Checkpoint(number, number, number, _save)
    yield from _answers(rng, shape, "policy", shape.rounds, 0.08)


def _wait_for(gate: str, context: TrainContext) -> None:
    while gate and not Path(gate).exists() and not context.should_stop():
        time.sleep(0.02)


def _answers(
    rng: random.Random, shape: Shape, subject: str, version: int, rudeness: float
) -> Iterator[Output]:
    rows = synthetic._rollouts(rng, shape, f"e{version}", "test", subject, version, rudeness,
                               version)  # fmt: skip
    yield from _rows(rows, version)
    share = sum(row["satisfaction"] < 0.5 for row in rows) / len(rows)
    yield Evaluated("rtp/jigsaw_tcc", "toxic_share", subject, share, len(rows),
                    low=max(0.0, share - 0.1), high=min(1.0, share + 0.1),
                    policy_version=version)  # fmt: skip


def _rows(rows: list, number: int) -> Iterator[Output]:
    yield Rows("rollouts", number, rows)
    yield Rows("scores", number, synthetic._scores(rows, number))


def _save(folder: Path) -> None:
    (folder / "policy").mkdir()
    (folder / "policy" / "adapter_model.safetensors").write_bytes(b"weights")


def register() -> None:
    """Adds this under the real one's name."""
    if "acft" not in METHODS._items:
        METHODS.add("acft")(Method(StorySettings, train))


if __name__ == "__main__":
    start_light()
    register()
    sys.exit(main())
