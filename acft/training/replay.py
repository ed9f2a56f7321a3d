"""Reusing an earlier policy's rollouts: read again by the present one, with importance weights."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from acft.backbone.sharded import uneven_passes
from acft.data import micro_batches
from acft.distributed import ranks
from acft.engines.readback import read_again, states_again
from acft.oracle.training import OracleData
from acft.policy import Policy
from acft.training.world import World
from acft.types import Rollout, Window
from acft.windows import join_windows

BATCH = 64


def replayed(
    world: World, policy: Policy, rollouts: Sequence[Rollout], satisfaction: Sequence[float]
) -> OracleData:
    """Old rollouts as oracle data under ``policy``: its hidden states, weights p_now / p_then."""
    batches = list(micro_batches(rollouts, BATCH))
    with world.asked_in_shares(), uneven_passes(policy.backbone.model):
        read = [_read(world, policy, some) for some in ranks().share(batches)]
    windows, weights = zip(*ranks().joined(read), strict=True)
    return OracleData(
        join_windows(windows),
        torch.tensor(list(satisfaction)),
        tuple(rollout.prompt_id for rollout in rollouts),
        torch.tensor(list(itertools.chain.from_iterable(weights))),
    )


def states_under(
    world: World, policy: Policy, rollouts: Sequence[Rollout]
) -> Float[Tensor, "batch window width"]:
    """What ``policy`` has in mind at each token of responses that another one drew."""
    read = []
    with uneven_passes(policy.backbone.model):
        for some in ranks().share(list(micro_batches(rollouts, BATCH))):
            states = states_again(
                policy.backbone, [r.prompt_ids for r in some], [r.response_ids for r in some]
            )
            missing = world.horizon + 1 - states.shape[1]
            read.append(pad(states.to("cpu", torch.float16), (0, 0, 0, missing)))
    return torch.cat(ranks().joined(read))


def _read(world: World, policy: Policy, rollouts: Sequence[Rollout]) -> tuple[Window, list[float]]:
    """What the oracle reads of some rollouts, and their importance weights in nats."""
    read = read_again(
        policy.backbone, [r.prompt_ids for r in rollouts], [r.response_ids for r in rollouts],
        world.run.sampling.at(), keep_hidden=True,
    )  # fmt: skip
    window = read.window
    assert window is not None
    if world.reads_verdicts:
        window = replace(window, verdicts=world.rollout_verdicts(rollouts))
    return window, [
        sum(now) - sum(rollout.response_logprobs) + rollout.log_weight
        for now, rollout in zip(read.logprobs, rollouts, strict=True)
    ]
