"""Cutting the oracle's view out of whole sequences."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from acft.types import TokenBatch, Window


def response_windows(
    batch: TokenBatch,
    hidden: Float[Tensor, "batch time width"],
    response_start: Int[Tensor, " batch"],
    horizon: int,
) -> Window:
    """Windows of ``horizon`` response tokens, from one forward pass over prompt and response."""
    starts = response_start.to(batch.token_ids.device)
    time = batch.token_ids.shape[1]
    offsets = torch.arange(horizon + 1, device=starts.device)
    index = (starts[:, None] - 1 + offsets).clamp(max=time - 1)
    rows = torch.arange(len(starts), device=starts.device)[:, None]
    is_inside = (starts[:, None] - 1 + offsets) < time
    mask = batch.attention_mask[rows, index] & is_inside
    mask[:, 0] = True
    prompt_length = int(starts.max())
    back = starts[:, None] - prompt_length + torch.arange(prompt_length, device=starts.device)
    return Window(
        hidden=hidden[rows, index] * mask[..., None],
        token_ids=batch.token_ids[rows, index] * mask,
        mask=mask,
        verdicts=torch.full(mask.shape, 0.5, device=starts.device),
        prompt_ids=batch.token_ids[rows, back.clamp(min=0)] * (back >= 0),
        prompt_mask=back >= 0,
    )
