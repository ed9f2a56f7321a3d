"""Reusing an earlier policy's rollouts: read again by the present one, with importance weights."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from acft.engines.readback import read_again
from acft.oracle.training import OracleData
from acft.policy import Policy
from acft.sampling import join_windows
from acft.training.world import World
from acft.types import Rollout, Window

BATCH = 64


def replayed(
    world: World, policy: Policy, rollouts: Sequence[Rollout], satisfaction: Sequence[float]
) -> OracleData:
    """Old rollouts as oracle data under ``policy``: its hidden states, weights p_now / p_then."""
    windows: list[Window] = []
    weights: list[float] = []
    for start in range(0, len(rollouts), BATCH):
        some = rollouts[start : start + BATCH]
        read = read_again(
            policy.backbone, [r.prompt_ids for r in some], [r.response_ids for r in some],
            world.run.sampling.at(), keep_hidden=True,
        )  # fmt: skip
        window = read.window
        assert window is not None
        if world.reads_verdicts:
            window = replace(window, verdicts=world.rollout_verdicts(some))
        windows.append(window)
        weights += [
            sum(now) - sum(rollout.response_logprobs) + rollout.log_weight
            for now, rollout in zip(read.logprobs, some, strict=True)
        ]
    return OracleData(
        join_windows(windows),
        torch.tensor(list(satisfaction)),
        tuple(rollout.prompt_id for rollout in rollouts),
        torch.tensor(weights),
    )
