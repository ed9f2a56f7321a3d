"""Reusing an earlier policy's rollouts: read again by the present one, with importance weights."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from acft.backbone.forward import logits
from acft.data import collate, documents_from_rollouts, pad_token
from acft.objective import align, nll
from acft.oracle.training import OracleData
from acft.oracle.windows import response_windows
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
        window, logprobs = read_rollouts(world, policy, some)
        windows.append(window)
        weights += [
            now - sum(rollout.response_logprobs) + rollout.log_weight
            for now, rollout in zip(logprobs, some, strict=True)
        ]
    return OracleData(
        join_windows(windows),
        torch.tensor(list(satisfaction)),
        tuple(rollout.prompt_id for rollout in rollouts),
        torch.tensor(weights),
    )


@torch.no_grad()
def read_rollouts(
    world: World, policy: Policy, rollouts: Sequence[Rollout]
) -> tuple[Window, list[float]]:
    """Windows of given responses with verdicts, and each response's log-probability in nats."""
    documents = documents_from_rollouts(rollouts, "attribute")
    batch = collate(documents, pad_token(policy.backbone.tokenizer), world.horizon).to(
        policy.device
    )
    hidden = policy.hidden(batch)
    starts = torch.tensor([document.response_start for document in documents])
    window = response_windows(batch, hidden, starts, world.horizon)
    window = replace(window.to("cpu"), verdicts=world.rollout_verdicts(rollouts))
    aligned = align(batch, hidden)
    is_response = aligned.mask_response
    next_logprobs = logits(policy.backbone.model, aligned.values[is_response]).log_softmax(dim=-1)
    totals = torch.zeros(len(documents), device=hidden.device)
    rows = is_response.nonzero()[:, 0]
    totals.index_add_(0, rows, -nll(next_logprobs, aligned.targets[is_response]))
    return window, totals.tolist()
