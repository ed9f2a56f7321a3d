"""Drawing one token from a distribution, by a random number made beforehand."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from acft.seeding import derive_seed

NUCLEUS_CANDIDATES = (512, 4096)
"""Sizes of top-k tried in turn; only rows whose nucleus is larger still are ranked whole."""

BLOCK = 256
"""Tokens whose probabilities are added up before the distribution function is inverted."""


def uniforms(seed: int, prompt_id: str, sample: int, horizon: int) -> Float[np.ndarray, " horizon"]:
    """The random numbers of one rollout, in [0, 1)."""
    generator = np.random.default_rng(derive_seed(seed, "rollout", prompt_id, sample))
    return generator.random(horizon)


def drawing_device(device: torch.device) -> torch.device:
    """Where tokens of a model on that device are drawn: Apple's GPUs have no float64."""
    return torch.device("cpu") if device.type == "mps" else device


def choose_plainly(
    scores: Float[Tensor, "batch vocab"], uniform: Float[Tensor, " batch"]
) -> tuple[Int[Tensor, " batch"], Float[Tensor, " batch"]]:
    """What ``choose`` does with the ``log_softmax`` of these scores, which is never made."""
    probabilities = scores.to(uniform.device).softmax(dim=-1)
    index, total = _invert(probabilities, uniform)
    chosen = probabilities.gather(1, index[:, None])[:, 0]
    logprobs = chosen.log() - total.log().to(chosen.dtype)
    return index.to(scores.device), logprobs.to(scores.device)


def choose(
    next_logprobs: Float[Tensor, "batch vocab"],
    uniform: Float[Tensor, " batch"],
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> tuple[Int[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Token ids drawn by inverting the distribution function, and their log-probability in nats.

    They are drawn where the random numbers are; see ``drawing_device``.
    """
    device = next_logprobs.device
    next_logprobs = next_logprobs.to(uniform.device)
    if temperature != 1.0:
        next_logprobs = (next_logprobs / temperature).log_softmax(dim=-1)
    if top_p < 1.0:
        chosen, logprobs = _choose_from_nucleus(next_logprobs, uniform, top_p)
    else:
        chosen, logprobs = _from_logprobs(next_logprobs, uniform)
    return chosen.to(device), logprobs.to(device)


def _from_logprobs(
    logprobs: Float[Tensor, "batch vocab"], uniform: Float[Tensor, " batch"]
) -> tuple[Int[Tensor, " batch"], Float[Tensor, " batch"]]:
    index, total = _invert(logprobs.exp(), uniform)
    chosen = logprobs.gather(1, index[:, None])[:, 0]
    return index, chosen - total.log().to(chosen.dtype)


def _invert(
    masses: Float[Tensor, "batch vocab"], uniform: Float[Tensor, " batch"]
) -> tuple[Int[Tensor, " batch"], Float[Tensor, " batch"]]:
    """The places where the distribution functions pass the random numbers, and the total masses."""
    # float64: a cumulative sum over 100,000 tokens loses rare ones in float32. It is taken over
    # blocks, and then inside the block that is drawn, since one over all is slow to allocate.
    missing = -masses.shape[-1] % BLOCK
    if missing:  # padding by nothing would copy
        masses = pad(masses, (0, missing))
    blocks = masses.unflatten(-1, (-1, BLOCK))
    upto = blocks.sum(dim=-1, dtype=torch.float64).cumsum(dim=-1)
    total = upto[:, -1]
    target = (uniform.double() * total)[:, None]
    block = _first_above(upto, target)
    before = upto.gather(1, (block - 1).clamp(min=0)) * (block > 0)
    rows = torch.arange(len(blocks), device=blocks.device)
    inside = before + blocks[rows, block[:, 0]].double().cumsum(dim=-1)
    return (block * BLOCK + _first_above(inside, target))[:, 0], total


def _first_above(
    cumulative: Float[Tensor, "batch place"], target: Float[Tensor, "batch 1"]
) -> Int[Tensor, "batch 1"]:
    """The first place above the target, or where rounding left none, the last that has any mass."""
    last = torch.searchsorted(cumulative, cumulative[:, -1:].contiguous())
    return torch.searchsorted(cumulative, target, right=True).minimum(last)


def in_nucleus(
    next_logprobs: Float[Tensor, "batch vocab"], top_p: float
) -> Bool[Tensor, "batch vocab"]:
    """True for the likeliest tokens whose probabilities first reach ``top_p``; at least one."""
    ordered, ids = next_logprobs.sort(dim=-1, descending=True)
    mass_before = ordered.exp().cumsum(dim=-1) - ordered.exp()
    kept = mass_before < top_p if top_p < 1.0 else torch.ones_like(ids, dtype=torch.bool)
    return torch.zeros_like(kept).scatter(1, ids, kept)


def _choose_from_nucleus(
    logprobs: Float[Tensor, "batch vocab"], uniform: Float[Tensor, " batch"], top_p: float
) -> tuple[Int[Tensor, " batch"], Float[Tensor, " batch"]]:
    vocab = logprobs.shape[-1]
    chosen = torch.empty(len(logprobs), dtype=torch.long, device=logprobs.device)
    chosen_lp = torch.empty_like(logprobs[:, 0])
    rows = torch.arange(len(logprobs), device=logprobs.device)
    for size in (*NUCLEUS_CANDIDATES, vocab):
        top, ids = logprobs[rows].topk(min(size, vocab), dim=-1)
        probabilities = top.double().exp()
        done = (probabilities.sum(dim=-1) >= top_p) | (size >= vocab)
        mass_before = probabilities.cumsum(dim=-1) - probabilities
        top = top.masked_fill(mass_before >= top_p, -torch.inf)
        if len(rows) == len(logprobs) and bool(done.all()):  # one wait for a GPU instead of six
            index, lp = _from_logprobs(top, uniform)
            return ids.gather(1, index[:, None])[:, 0], lp
        index, lp = _from_logprobs(top[done], uniform[rows[done]])
        chosen[rows[done]] = ids[done].gather(1, index[:, None])[:, 0]
        chosen_lp[rows[done]] = lp
        rows = rows[~done]
        if len(rows) == 0:
            break
    return chosen, chosen_lp
