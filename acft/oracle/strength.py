"""How strongly an oracle must guide: estimated on rollouts that are there anyway."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from acft.chunked import positions_at_once
from acft.objective import cautious_log_r, prompt_log_r, soft_log_w
from acft.oracle.base import Oracle
from acft.oracle.training import NextLogprobs, OracleData

STRENGTHS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
"""What ``strength = "auto"`` chooses from, up to ``strength_max``."""
EFFECTIVE_SHARE_MIN = 0.1
"""Estimates that rest on a smaller share of the rollouts are not trusted."""
BATCH = 16
"""Rollouts that the oracle reads together."""


@dataclass(frozen=True)
class GuidedEstimate:
    """What guiding at one strength would do to the policy that drew the rollouts."""

    strength: float
    satisfaction: float
    """Share of guided responses that satisfy the constraint."""
    effective_share: float
    """Effective number of rollouts behind the estimate, over their number."""


def guided_estimates(
    oracle: Oracle,
    data: OracleData,
    next_logprobs: NextLogprobs,
    strengths: Sequence[float] = STRENGTHS,
    delta: float = 1.0,
    rare: float = 0.0,
) -> list[GuidedEstimate]:
    """Satisfaction of the guided policy at each strength, without drawing from it.

    Source: self-normalised importance sampling of q ∝ p·R^strength, or p·w^strength for delta < 1.
    """
    verdict = data.verdict.double()
    result = []
    columns = guided_log_weights(oracle, data, next_logprobs, strengths, delta, rare)
    for strength, column in zip(strengths, columns, strict=True):
        weights = (column + data.log_weights - (column + data.log_weights).max()).double().exp()
        result.append(
            GuidedEstimate(
                strength,
                float((weights * verdict).sum() / weights.sum()),
                float(weights.sum() ** 2 / weights.square().sum() / len(data)),
            )
        )
    return result


@torch.no_grad()
def guided_log_weights(
    oracle: Oracle,
    data: OracleData,
    next_logprobs: NextLogprobs,
    strengths: Sequence[float],
    delta: float = 1.0,
    rare: float = 0.0,
) -> Float[Tensor, "strength rollout"]:
    """Nats by which guidance prefers each rollout of p: log q(response) - log p(response).

    A sum over its tokens of strength · log R - log Z, so one pass over the vocabulary serves all
    strengths.
    """
    oracle.eval()
    return torch.cat(
        [
            _log_weights(oracle, data.rows(rows), next_logprobs, strengths, delta, rare)
            for rows in torch.arange(len(data)).split(BATCH)
        ],
        dim=1,
    )


def smallest_strength(estimates: Sequence[GuidedEstimate], target: float) -> float:
    """The smallest trusted strength that reaches the target; where none does, the best of them."""
    trusted = [e for e in estimates if e.effective_share >= EFFECTIVE_SHARE_MIN] or estimates[:1]
    for estimate in sorted(trusted, key=lambda e: e.strength):
        if estimate.satisfaction >= target:
            return estimate.strength
    return max(trusted, key=lambda e: e.satisfaction).strength


def _log_weights(
    oracle: Oracle,
    data: OracleData,
    next_logprobs: NextLogprobs,
    strengths: Sequence[float],
    delta: float,
    rare: float,
) -> Float[Tensor, "strength batch"]:
    weights = next(oracle.parameters(), None)
    window = data.window if weights is None else data.window.to(str(weights.device))
    states = oracle.states(window)
    at_prompt = next_logprobs(window.hidden[:, 0])
    device, log_r_prompt = at_prompt.device, None
    if delta < 1.0:
        log_r_prompt = prompt_log_r(at_prompt, oracle.next_log_r(states[:, 0]).to(device))
    result = torch.zeros(len(strengths), len(data), device=device)
    for where in window.mask[:, 1:].nonzero().split(positions_at_once(at_prompt.shape[1], device)):
        at, rows = tuple(where.T), where[:, 0].to(device)
        logprobs = next_logprobs(window.hidden[at])
        tilt = cautious_log_r(logprobs, oracle.next_log_r(states[at]).to(device), rare)
        if log_r_prompt is not None:
            tilt = soft_log_w(tilt, delta, log_r_prompt[rows, None])
        token_ids = window.token_ids[:, 1:][at].to(device)
        taken = tilt.gather(-1, token_ids[:, None])[:, 0]
        for row, strength in zip(result, strengths, strict=True):
            log_z = (logprobs + strength * tilt).logsumexp(dim=-1)
            row.index_add_(0, rows, strength * taken - log_z)
    return result.cpu()
