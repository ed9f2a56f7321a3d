"""Direct preference optimisation on pairs of own responses, by TRL's trainer.

Source: arXiv:2305.18290; pairs are drawn anew from the policy in every round.
"""

from collections import defaultdict
from collections.abc import Generator, Sequence
from typing import Annotated

from pydantic import Field

from acft.backbone.trl_steps import Pair, TrlSteps
from acft.config import Config
from acft.errors import DataError
from acft.events import Note
from acft.methods.base import METHODS, Method
from acft.settings import PositiveFloat
from acft.training.outputs import Output, TrainContext
from acft.training.responses import Judged
from acft.training.rounds import rounds_of_own_responses
from acft.training.train_state import TrainState
from acft.training.trl_job import trl_job
from acft.training.world import World, facts, load_world

NAMES = {
    "rewards/margins": "dpo/margin",
    "rewards/accuracies": "dpo/accuracy",
    "logps/chosen": "dpo/logprob_chosen",
    "logps/rejected": "dpo/logprob_rejected",
    "entropy": "policy/entropy",
}


class DpoSettings(Config):
    """Pairs and how far the policy may go from the base."""

    beta: PositiveFloat = 0.1
    """Weight of the KL to the base in the objective. Source: arXiv:2305.18290, 0.1."""
    responses_per_prompt: Annotated[int, Field(ge=2)] = 8
    """Responses to a prompt at least, of which pairs are made."""


def train(settings: DpoSettings, context: TrainContext) -> Generator[Output, None, None]:
    """Satisfying own responses are preferred to violating ones, without an oracle."""
    world = yield from load_world(context)
    state = TrainState(world)

    def learn(index: int, judged: list[Judged]) -> Generator[Output, None, None]:
        pairs = pairs_of(judged)
        yield Note("info", f"{len(pairs)} pairs from {len(judged)} responses", index)
        if not pairs:
            yield from _without_pairs(world, state, index)
            return

        def train_pairs(steps: TrlSteps) -> None:
            from acft.backbone.trl_trainers import dpo_steps  # noqa: PLC0415 - takes seconds

            dpo_steps(steps, pairs, settings.beta)

        yield from trl_job(world, state.optimizer, index, NAMES, train_pairs, context.should_stop)

    each = settings.responses_per_prompt
    yield from rounds_of_own_responses(state, context, learn, each=each)


def _without_pairs(world: World, state: TrainState, index: int) -> Generator[Output, None, None]:
    """A round that leaves the policy as it is.

    Raises:
        DataError: It is the first.
    """
    if index == 1:
        raise DataError(
            "no prompt has a satisfying and a violating response of the base policy, so there is "
            "nothing to prefer; raise [method] responses_per_prompt or [oracle] rollouts_per_round"
        )
    yield Note("warning", "nothing to prefer; the policy stays as it is in this round", index)
    state.optimizer.count(world.run.optimizer.steps_per_round)
    world.policy.version = index


def pairs_of(judged: Sequence[Judged]) -> list[Pair]:
    """Each violating response beside a satisfying one to its prompt, these taken in turn."""
    by_prompt: dict[str, list[Judged]] = defaultdict(list)
    for item in judged:
        by_prompt[item.rollout.prompt_id].append(item)
    pairs = []
    for items in by_prompt.values():
        chosen = [item.rollout for item in items if item.is_satisfied]
        rejected = [item.rollout for item in items if not item.is_satisfied]
        for number, bad in enumerate(rejected if chosen else []):
            good = chosen[number % len(chosen)]
            pairs.append(Pair(good.prompt_ids, good.response_ids, bad.response_ids))
    return pairs


METHODS.add("dpo")(Method(DpoSettings, train, facts))
