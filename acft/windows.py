"""The oracle's view of a response: cut out of a whole sequence, or kept while it is drawn."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

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


def window_of(
    prompts: Sequence[Sequence[int]],
    response_ids: Int[Tensor, "batch step"],
    mask: Bool[Tensor, "batch step"],
    states: Float[Tensor, "batch window width"],
    horizon: int,
) -> Window:
    """What an oracle reads of drawn responses, ``states`` from their last prompt token on.

    All parts lie on the CPU, padded on the right to the horizon; verdicts are not known yet.
    """
    missing = horizon - response_ids.shape[1]
    token_ids = pad(response_ids.cpu(), (1, missing))
    token_ids[:, 0] = torch.tensor([ids[-1] for ids in prompts])
    whole = pad(pad(mask.cpu(), (1, 0), value=True), (0, missing))
    prompt_ids, prompt_mask = left_padded(prompts)
    hidden = pad(states.to("cpu", torch.float16), (0, 0, 0, missing))
    return Window(hidden, token_ids, whole, torch.full(whole.shape, 0.5), prompt_ids, prompt_mask)


def left_padded(
    sequences: Sequence[Sequence[int]], pad_id: int = 0
) -> tuple[Int[Tensor, "batch time"], Bool[Tensor, "batch time"]]:
    """Token ids padded on the left to the longest, and True where there is a token."""
    longest = max(map(len, sequences))
    ids = [[pad_id] * (longest - len(sequence)) + list(sequence) for sequence in sequences]
    mask = [[False] * (longest - len(sequence)) + [True] * len(sequence) for sequence in sequences]
    return torch.tensor(ids, dtype=torch.long), torch.tensor(mask)


def join_windows(windows: Sequence[Window]) -> Window:
    """All sequences of several windows, in order; prompts are padded to the longest."""
    longest = max(window.prompt_ids.shape[1] for window in windows)

    def padded(tensor: Tensor) -> Tensor:
        return pad(tensor, (longest - tensor.shape[1], 0))

    return Window(
        torch.cat([w.hidden for w in windows]),
        torch.cat([w.token_ids for w in windows]),
        torch.cat([w.mask for w in windows]),
        torch.cat([w.verdicts for w in windows]),
        torch.cat([padded(w.prompt_ids) for w in windows]),
        torch.cat([padded(w.prompt_mask) for w in windows]),
    )
