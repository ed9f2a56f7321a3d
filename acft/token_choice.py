"""Drawing one token from a distribution, by a random number made beforehand."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from acft.seeding import derive_seed

NUCLEUS_CANDIDATES = 512
"""Tokens sorted at first; a row whose nucleus is larger is sorted whole."""


def uniforms(seed: int, prompt_id: str, sample: int, horizon: int) -> Float[np.ndarray, " horizon"]:
    """The random numbers of one rollout, in [0, 1)."""
    generator = np.random.default_rng(derive_seed(seed, "rollout", prompt_id, sample))
    return generator.random(horizon)


def choose(
    next_logprobs: Float[Tensor, "batch vocab"],
    uniform: Float[Tensor, " batch"],
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> tuple[Int[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Token ids drawn by inverting the distribution function, and their log-probability in nats."""
    if temperature != 1.0:
        next_logprobs = (next_logprobs / temperature).log_softmax(dim=-1)
    if top_p < 1.0:
        return _choose_from_nucleus(next_logprobs, uniform, top_p)
    return _invert(next_logprobs, uniform)


def _invert(
    logprobs: Float[Tensor, "batch vocab"], uniform: Float[Tensor, " batch"]
) -> tuple[Int[Tensor, " batch"], Float[Tensor, " batch"]]:
    # float64: a cumulative sum over 100,000 tokens loses rare ones in float32.
    cumulative = logprobs.exp().double().cumsum(dim=-1)
    total = cumulative[:, -1]
    target = (uniform.double() * total)[:, None]
    index = torch.searchsorted(cumulative, target, right=True)[:, 0]
    index = index.clamp(max=logprobs.shape[-1] - 1)
    chosen = logprobs.gather(1, index[:, None])[:, 0]
    return index, chosen - total.log().to(chosen.dtype)


def _choose_from_nucleus(
    logprobs: Float[Tensor, "batch vocab"], uniform: Float[Tensor, " batch"], top_p: float
) -> tuple[Int[Tensor, " batch"], Float[Tensor, " batch"]]:
    vocab = logprobs.shape[-1]
    size = min(NUCLEUS_CANDIDATES, vocab)
    top, ids = logprobs.topk(size, dim=-1)
    if size < vocab and bool((top.exp().sum(dim=-1) < top_p).any()):
        top, ids = logprobs.sort(dim=-1, descending=True)
    mass_before = top.exp().cumsum(dim=-1) - top.exp()
    top = top.masked_fill(mass_before >= top_p, -torch.inf)
    index, chosen = _invert(top, uniform)
    return ids.gather(1, index[:, None])[:, 0], chosen
