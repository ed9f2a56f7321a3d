"""Reinforcement learning with the constraint as reward and a KL to the base, by TRL's trainer.

Source: arXiv:2402.14740, REINFORCE with a leave-one-out baseline. The objective is
E[reward] - kl_weight·KL(policy || base), whose optimum is base·exp(reward / kl_weight).
"""

import random
from collections import Counter
from collections.abc import Generator
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from acft.backbone.trl_steps import Generated, TrlSteps
from acft.config import Config
from acft.errors import ConfigError
from acft.methods.base import METHODS, Method
from acft.seeding import derive_seed
from acft.settings import NonNegativeFloat, RunSettings
from acft.training.outputs import Output, TrainContext
from acft.training.responses import Judged, recorded
from acft.training.rounds import all_rounds
from acft.training.train_state import TrainState
from acft.training.trl_job import trl_job
from acft.training.world import World, facts, load_world
from acft.types import Rollout

NAMES = {
    "reward": "rl/reward",
    "reward_std": "rl/reward_stdev",
    "kl": "rl/kl_policy_base",
    "entropy": "policy/entropy",
}


class RlSettings(Config):
    """Reward, group and how far the policy may go from the base."""

    kl_weight: NonNegativeFloat = 0.05
    """Weight of KL(policy || base), which is subtracted from the reward; TRL's default."""
    group: Annotated[int, Field(ge=2)] = 4
    """Responses to a prompt in one step; each is compared with the mean of the others."""
    reward: Literal["graded", "verdict"] = "graded"
    """The constraint's graded value, or 1 where it is satisfied and 0 where it is not."""


def train(settings: RlSettings, context: TrainContext) -> Generator[Output, None, None]:
    """REINFORCE with the constraint as reward, a leave-one-out baseline and a KL to the base.

    Raises:
        ConfigError: A round's responses are too few for one group in each step.
    """
    per_step = responses_per_step(settings, context.run)
    world = yield from load_world(context)
    state = TrainState(world)

    def one_round(index: int) -> Generator[Output, None, None]:
        game = _Game(world, settings, index)

        def play(steps: TrlSteps) -> None:
            from acft.backbone.trl_trainers import rloo_steps  # noqa: PLC0415 - takes seconds

            rloo_steps(
                steps, game.order(per_step), game.generate, game.reward,
                beta=settings.kl_weight, group=settings.group, responses_per_step=per_step,
            )  # fmt: skip

        yield from trl_job(world, state.optimizer, index, NAMES, play, context.should_stop)
        yield from recorded(world, game.judged, index)

    yield from all_rounds(state, context, one_round)


def responses_per_step(settings: RlSettings, run: RunSettings) -> int:
    """Whole groups of each step, such that a round draws no more than an oracle would get.

    Raises:
        ConfigError: That is less than one group.
    """
    rollouts, steps = run.oracle.rollouts_per_round, run.optimizer.steps_per_round
    groups = rollouts // (steps * settings.group)
    if not groups:
        raise ConfigError(
            f"[oracle] rollouts_per_round = {rollouts}: method 'rl' needs at least "
            f"{steps * settings.group}, one group of {settings.group} in each of "
            f"{steps} optimizer.steps_per_round"
        )
    return groups * settings.group


class _Game:
    """One round's responses: drawn when TRL asks, from the policy as it is then."""

    def __init__(self, world: World, settings: RlSettings, round_index: int) -> None:
        self._world = world
        self._settings = settings
        self._round_index = round_index
        self._seed = derive_seed(world.run.seed, "rl", round_index)
        self._prompts = {prompt.prompt_id: prompt for prompt in world.prompts["train"]}
        self._drawn: list[Rollout] = []
        self._calls = 0
        self.judged: list[Judged] = []

    def order(self, per_step: int) -> list[str]:
        """Names of all prompts, often enough for a step."""
        names = list(self._prompts)
        random.Random(self._seed).shuffle(names)  # noqa: S311 - nothing secret
        return names * -(-per_step // (self._settings.group * len(names)))

    def generate(self, names: list[str]) -> Generated:
        """A response to each name of a prompt."""
        self._calls += 1
        counts = Counter(names)
        policy = self._world.snapshot()
        if self._calls > 1:  # on its way to the version that the round ends with
            policy.version = self._round_index
        sampling = self._world.run.sampling.at()
        seed = derive_seed(self._seed, self._calls)
        prompts = [self._prompts[name] for name in counts]
        rollouts = policy.sample(prompts, max(counts.values()), sampling, seed).rollouts
        waiting = {
            name: iter([rollout for rollout in rollouts if rollout.prompt_id == name])
            for name in counts
        }
        # the same prompt comes again in other steps of the round
        self._drawn = [
            replace(rollout, rollout_id=f"{self._calls}-{rollout.rollout_id}")
            for rollout in (next(waiting[name]) for name in names)
        ]
        return Generated(
            [list(rollout.prompt_ids) for rollout in self._drawn],
            [list(rollout.response_ids) for rollout in self._drawn],
            [rollout.response_text for rollout in self._drawn],
        )

    def reward(self, names: list[str], responses: list[str]) -> list[float]:
        """What the constraint says of the responses that were just drawn."""
        texts = [self._prompts[name].text for name in names]
        grades = self._world.constraint.score(texts, responses)
        new = [Judged(*pair) for pair in zip(self._drawn, grades, strict=True)]
        self.judged += new
        if self._settings.reward == "graded":
            return grades
        return [float(item.is_satisfied) for item in new]


def contradictions(settings: RlSettings, run: RunSettings) -> list[str]:
    """That a round has too few responses for one group in each step."""
    try:
        responses_per_step(settings, run)
    except ConfigError as error:
        return [str(error)]
    return []


METHODS.add("rl")(Method(RlSettings, train, facts, contradictions=contradictions))
