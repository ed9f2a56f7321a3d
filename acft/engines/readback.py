"""Responses that a server drew, read again by the policy: log-probabilities, states, and checks.

A server's word is not taken for anything that a loss depends on. One forward pass over prompt and
response, far cheaper than drawing, gives what the policy itself says of each token.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acft.backbone.forward import logits, response_states
from acft.backbone.loading import Backbone
from acft.data import pad_token
from acft.settings import SamplingSettings
from acft.token_choice import in_nucleus
from acft.types import DrawChecks, Window
from acft.windows import left_padded, window_of


@dataclass(frozen=True)
class Read:
    """What the policy says of some responses."""

    logprobs: list[tuple[float, ...]]
    """Of each token at temperature 1, in nats."""
    drawn_logprobs: list[tuple[float, ...]]
    """The same at the temperature and nucleus that were asked for."""
    window: Window | None
    checks: DrawChecks


@torch.no_grad()
def read_again(
    backbone: Backbone,
    prompts: Sequence[tuple[int, ...]],
    responses: Sequence[tuple[int, ...]],
    sampling: SamplingSettings,
    *,
    keep_hidden: bool,
) -> Read:
    """One batch of responses as the policy sees them."""
    model = backbone.model
    response_ids, mask = right_padded(responses)
    states = states_again(backbone, prompts, responses)
    policy_lps, drawn_lps, surprise, variance = [], [], 0.0, 0.0
    for place in range(response_ids.shape[1]):
        next_logprobs = logits(model, states[:, place]).log_softmax(dim=-1)
        chosen = response_ids[:, place].to(model.device)
        is_there = mask[:, place].to(model.device)
        proposal, drawn = proposed(next_logprobs, chosen, sampling.temperature, sampling.top_p)
        mean, spread = _moments(proposal)
        policy_lps.append(next_logprobs.gather(1, chosen[:, None])[:, 0])
        drawn_lps.append(drawn)
        surprise += float((-drawn - mean)[is_there].cpu().double().sum())
        variance += float(spread[is_there].cpu().double().sum())
    n_tokens = int(mask.sum())
    checks = DrawChecks(len(responses), 0, n_tokens, surprise, variance)
    window = None
    if keep_hidden:
        window = window_of(prompts, response_ids, mask, states, sampling.horizon)
    return Read(_ragged(policy_lps, mask), _ragged(drawn_lps, mask), window, checks)


@torch.no_grad()
def states_again(
    backbone: Backbone,
    prompts: Sequence[tuple[int, ...]],
    responses: Sequence[tuple[int, ...]],
) -> Float[Tensor, "batch window width"]:
    """Last hidden states of the last prompt token and of every response token."""
    model = backbone.model
    parts = [*left_padded(prompts, pad_token(backbone.tokenizer)), *right_padded(responses)]
    return response_states(model, *(part.to(model.device) for part in parts))


def proposed(
    next_logprobs: Float[Tensor, "batch vocab"],
    chosen: Int[Tensor, " batch"],
    temperature: float,
    top_p: float,
) -> tuple[Float[Tensor, "batch vocab"], Float[Tensor, " batch"]]:
    """Log-probabilities at a temperature and nucleus, and those of the chosen tokens.

    A chosen token beyond the nucleus, which rounding may put there, counts as its last one.
    """
    if temperature != 1.0:
        next_logprobs = (next_logprobs / temperature).log_softmax(dim=-1)
    picked = next_logprobs.gather(1, chosen[:, None])[:, 0]
    if top_p >= 1.0:
        return next_logprobs, picked
    kept = next_logprobs.masked_fill(~in_nucleus(next_logprobs, top_p), -torch.inf)
    total = kept.logsumexp(dim=-1, keepdim=True)
    return kept - total, picked - total[:, 0]


def _moments(
    logprobs: Float[Tensor, "batch vocab"],
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Mean and variance of minus log-probability of a token drawn from the distribution."""
    finite = logprobs.masked_fill(logprobs == -torch.inf, 0.0)
    probs = logprobs.exp()
    mean = -(probs * finite).sum(dim=-1)
    return mean, (probs * finite.square()).sum(dim=-1) - mean.square()


def right_padded(
    sequences: Sequence[tuple[int, ...]],
) -> tuple[Int[Tensor, "batch time"], Bool[Tensor, "batch time"]]:
    """Token ids padded on the right to the longest, and True where there is a token."""
    longest = max(map(len, sequences))
    ids = [[*sequence, *[0] * (longest - len(sequence))] for sequence in sequences]
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    return torch.tensor(ids, dtype=torch.long), torch.arange(longest) < lengths[:, None]


def _ragged(columns: list[Tensor], mask: Bool[Tensor, "batch step"]) -> list[tuple[float, ...]]:
    rows = torch.stack(columns, dim=1).tolist()
    lengths = mask.sum(dim=1).tolist()
    return [tuple(row[:length]) for row, length in zip(rows, lengths, strict=True)]
