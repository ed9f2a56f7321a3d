"""Distributional policy gradient towards q* ∝ p0·C, the optimum that ACFT and NADO share.

Source: arXiv:1910.07669 for the gradient, arXiv:2012.11635 for pointwise constraints,
arXiv:2112.00791 for prompts, each with a normaliser of its own.
"""

import math
from collections.abc import Generator, Sequence

from acft.config import Config
from acft.errors import DataError
from acft.events import Scalars
from acft.methods.base import METHODS, Method
from acft.settings import Positive
from acft.training.importance import base_logprobs, log_ratios, means_by_prompt
from acft.training.outputs import Output, TrainContext
from acft.training.responses import Judged
from acft.training.rounds import rounds_of_own_responses
from acft.training.train_state import TrainState
from acft.training.weighted_fit import Weighted, weighted_fit
from acft.training.world import World, facts, load_world


class DpgSettings(Config):
    """How the importance weights p0·C / policy are estimated."""

    responses_per_prompt: Positive = 8
    """Responses to a prompt at least; their mean weight is the prompt's normaliser."""


def train(settings: DpgSettings, context: TrainContext) -> Generator[Output, None, None]:
    """Likelihood of own responses, weighted towards the satisfying part of the base policy."""
    world = yield from load_world(context)
    state = TrainState(world)

    def learn(index: int, judged: list[Judged]) -> Generator[Output, None, None]:
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

    each = settings.responses_per_prompt
    yield from rounds_of_own_responses(state, context, learn, each=each)


def target_weights(world: World, judged: Sequence[Judged]) -> list[float]:
    """p0·C / (proposal·Z) of each response, with Z of a prompt the mean over its responses.

    No weight exceeds the number of its prompt's responses. Source: arXiv:2112.00791.
    """
    ratios = log_ratios(judged, base_logprobs(world, judged))
    raw = [math.exp(ratio) * item.is_satisfied for item, ratio in zip(judged, ratios, strict=True)]
    means = means_by_prompt(judged, raw)
    return [
        weight / means[item.rollout.prompt_id] if weight else 0.0
        for item, weight in zip(judged, raw, strict=True)
    ]


METHODS.add("dpg")(Method(DpgSettings, train, facts))
