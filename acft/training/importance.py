"""Importance weights of drawn responses: how much likelier the base policy makes them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from acft.likelihood import own_likelihoods
from acft.training.responses import Judged
from acft.training.world import World
from acft.types import Rollout

LOG_RATIO_MAX = 60.0
"""Keeps the ratio of two responses' probabilities finite."""


def base_logprobs(world: World, judged: Sequence[Judged]) -> list[float]:
    """Log-probability of each response under the base policy, in nats."""
    return [-row.nll for row in own_likelihoods(world.base, [item.rollout for item in judged])]


def log_ratios(judged: Sequence[Judged], logprobs: Sequence[float]) -> list[float]:
    """How much likelier ``logprobs`` make each response than what drew it, log of the ratio.

    That is the policy, unless its engine rounds or a server differs.
    """
    return [
        min(logprob - drawn_logprob(item.rollout), LOG_RATIO_MAX)
        for item, logprob in zip(judged, logprobs, strict=True)
    ]


def drawn_logprob(rollout: Rollout) -> float:
    """Log-probability of a response under what drew it, in nats."""
    return sum(rollout.response_logprobs) - rollout.log_weight


def means_by_prompt(judged: Sequence[Judged], values: Sequence[float]) -> Mapping[str, float]:
    """Mean over the responses to each prompt, by its id."""
    by_prompt: dict[str, list[float]] = defaultdict(list)
    for item, value in zip(judged, values, strict=True):
        by_prompt[item.rollout.prompt_id].append(value)
    return {prompt: sum(some) / len(some) for prompt, some in by_prompt.items()}
