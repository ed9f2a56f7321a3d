"""Trajectory balance: a response becomes as likely as its reward p0·C over the prompt's Z.

Source: arXiv:2310.04363 for the reward, arXiv:2201.13259 for trajectory balance. The first balances
parts of a response, which takes an end token that may follow every prefix; responses that are cut
at a horizon balance as a whole.
"""

import math
from collections.abc import Generator, Mapping, Sequence
from typing import Annotated

from pydantic import Field

from acft.config import Config
from acft.events import Scalars
from acft.likelihood import own_likelihoods
from acft.methods.base import METHODS, Method
from acft.policy import Policy
from acft.settings import Positive
from acft.training.importance import base_logprobs, drawn_logprob, log_ratios, means_by_prompt
from acft.training.outputs import Output, TrainContext
from acft.training.responses import Judged
from acft.training.rounds import rounds_of_own_responses
from acft.training.train_state import TrainState
from acft.training.weighted_fit import Weighted, weighted_fit
from acft.training.world import World, facts, load_world
from acft.types import Rollout


class GflownetSettings(Config):
    """The reward, and how its sum over all responses is estimated."""

    responses_per_prompt: Positive = 8
    """Responses to a prompt at least; their mean importance weight is the prompt's Z."""
    floor: Annotated[float, Field(gt=0.0, lt=1.0)] = 1e-3
    """C of a response that violates the constraint, since the logarithm of 0 is no target."""


def train(settings: GflownetSettings, context: TrainContext) -> Generator[Output, None, None]:
    """Own responses become as likely as base policy and constraint say, violating ones too."""
    world = yield from load_world(context)
    state = TrainState(world)

    def learn(index: int, judged: list[Judged]) -> Generator[Output, None, None]:
        rollouts = {item.rollout.rollout_id: item.rollout for item in judged}
        wanted = dict(zip(rollouts, target_logprobs(world, judged, settings.floor), strict=True))
        missing = [wanted[name] - drawn_logprob(rollout) for name, rollout in rollouts.items()]
        imbalance = math.sqrt(sum(each**2 for each in missing) / len(missing))
        yield Scalars(index, state.optimizer.finished, {"train/imbalance": imbalance})

        def weigh(some: Sequence[Weighted]) -> list[Weighted]:
            chosen = [rollouts[item.document.document_id] for item in some]
            weights = weights_of_square(world.policy, chosen, wanted)
            return [
                Weighted(item.document, weight) for item, weight in zip(some, weights, strict=True)
            ]

        yield from weighted_fit(
            world, state.optimizer, [Weighted(item.document) for item in judged], index,
            weigh=weigh, should_stop=context.should_stop,
        )  # fmt: skip

    each = settings.responses_per_prompt
    yield from rounds_of_own_responses(state, context, learn, each=each)


def target_logprobs(world: World, judged: Sequence[Judged], floor: float) -> list[float]:
    """Log of p0·C / Z of each response, in nats, with Z of a prompt from its responses.

    Source: arXiv:2201.13259, with Z the mean importance weight instead of a trained number.
    """
    base = base_logprobs(world, judged)
    log_c = [0.0 if item.is_satisfied else math.log(floor) for item in judged]
    rewards = [logprob + each for logprob, each in zip(base, log_c, strict=True)]
    z = means_by_prompt(judged, [math.exp(ratio) for ratio in log_ratios(judged, rewards)])
    return [
        reward - math.log(z[item.rollout.prompt_id])
        for item, reward in zip(judged, rewards, strict=True)
    ]


def weights_of_square(
    policy: Policy, rollouts: Sequence[Rollout], wanted: Mapping[str, float]
) -> list[float]:
    """Weight of each response's log-likelihood that has the gradient of the squared imbalance.

    Source: derived; d (log policy - target)² = -2·(target - log policy)·d log policy.
    """
    model = policy.backbone.model
    model.eval()  # without dropout
    found = own_likelihoods(policy, rollouts)
    model.train()
    return [
        2.0 * (wanted[rollout.rollout_id] + row.nll)
        for rollout, row in zip(rollouts, found, strict=True)
    ]


METHODS.add("gflownet")(Method(GflownetSettings, train, facts))
