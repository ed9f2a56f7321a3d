"""Distributional policy gradient towards q* ∝ p0·C, the optimum that ACFT and NADO share.

Source: arXiv:1910.07669 for the gradient, arXiv:2012.11635 for pointwise constraints,
arXiv:2112.00791 for prompts, each with a normaliser of its own.
"""

import math
from collections import defaultdict
from collections.abc import Generator, Sequence

from acft.config import Config
from acft.errors import DataError
from acft.events import Scalars
from acft.likelihood import own_likelihoods
from acft.methods.base import METHODS, Method
from acft.settings import Positive
from acft.training.outputs import Output, TrainContext
from acft.training.responses import Judged, own_responses
from acft.training.rounds import all_rounds
from acft.training.train_state import TrainState
from acft.training.weighted_fit import Weighted, weighted_fit
from acft.training.world import World, facts, load_world
from acft.types import Rollout

LOG_RATIO_MAX = 60.0
"""Keeps the ratio of two responses' probabilities finite."""


class DpgSettings(Config):
    """How the importance weights p0·C / policy are estimated."""

    responses_per_prompt: Positive = 8
    """Responses to a prompt at least; their mean weight is the prompt's normaliser."""


def train(settings: DpgSettings, context: TrainContext) -> Generator[Output, None, None]:
    """Likelihood of own responses, weighted towards the satisfying part of the base policy."""
    world = yield from load_world(context)
    state = TrainState(world)

    def one_round(index: int) -> Generator[Output, None, None]:
        judged = yield from own_responses(
            world, state.snapshot(index - 1), index,
            each=settings.responses_per_prompt, should_stop=context.should_stop,
        )  # fmt: skip
        if context.should_stop():
            return
        weights = target_weights(world, judged)
        if not any(weights):
            raise DataError(
                f"none of {len(judged)} responses of round {index} satisfies the constraint; raise "
                "[oracle] rollouts_per_round or use another [[constraint]]"
            )
        share = sum(weights) ** 2 / sum(weight**2 for weight in weights) / len(weights)
        yield Scalars(index, state.optimizer.finished, {"train/effective_share": share})
        responses = [
            Weighted(item.document, weight)
            for item, weight in zip(judged, weights, strict=True)
            if weight > 0
        ]
        yield from weighted_fit(
            world, state.optimizer, responses, index, should_stop=context.should_stop
        )

    yield from all_rounds(state, context, one_round)


def target_weights(world: World, judged: Sequence[Judged]) -> list[float]:
    """p0·C / (proposal·Z) of each response, with Z of a prompt the mean over its responses.

    The proposal is what drew it: the policy, unless its engine rounds or a server differs. No
    weight exceeds the number of its prompt's responses. Source: arXiv:2112.00791.
    """
    base = own_likelihoods(world.base, [item.rollout for item in judged])
    raw = [
        math.exp(min(-there.nll - drawn_logprob(item.rollout), LOG_RATIO_MAX)) * item.is_satisfied
        for item, there in zip(judged, base, strict=True)
    ]
    by_prompt: dict[str, list[float]] = defaultdict(list)
    for item, weight in zip(judged, raw, strict=True):
        by_prompt[item.rollout.prompt_id].append(weight)
    means = {prompt: sum(weights) / len(weights) for prompt, weights in by_prompt.items()}
    return [
        weight / means[item.rollout.prompt_id] if weight else 0.0
        for item, weight in zip(judged, raw, strict=True)
    ]


def drawn_logprob(rollout: Rollout) -> float:
    """Log-probability of a response under what drew it, in nats."""
    return sum(rollout.response_logprobs) - rollout.log_weight


METHODS.add("dpg")(Method(DpgSettings, train, facts))
