"""Token losses from hidden states, a few positions at a time.

The logits of all positions never exist at once: the gradient for the hidden states is taken while a
chunk's logits are there, and only that, one number per hidden unit, is kept for the backward pass.
Values and gradients are those of ``nll`` and ``kl_divergence`` on the whole ``[position, vocab]``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from acft.objective import expectation, nll, upcast

Target = Callable[[Int[Tensor, " row"]], Float[Tensor, "row vocab"]]
"""Log-probabilities of the guided policy at the given positions; called without gradients."""

KlDirection = Literal["guided_policy", "policy_guided"]

CHUNK_ELEMENTS = 2**25
"""Logits alive at once by default: 128 MiB in float32, and a handful of tensors of that size."""


@dataclass(frozen=True)
class Penalty:
    """The KL term: where it counts, how much, towards what and in which direction."""

    weights: Float[Tensor, " position"]
    """``kl_weight`` where the KL is in the loss, else 0; no target is computed there."""
    target: Target
    kl: KlDirection = "guided_policy"
    """The KL's first argument first."""


@dataclass(frozen=True)
class TokenLosses:
    """Losses of every position in nats; 0 where a position has no weight."""

    total: Float[Tensor, " position"]
    """nll_weights·nll + penalty.weights·KL; the only part with a gradient."""
    nll: Float[Tensor, " position"]
    kl_guided_policy: Float[Tensor, " position"]
    kl_policy_guided: Float[Tensor, " position"]


def token_losses(
    hidden: Float[Tensor, "position width"],
    head_weight: Float[Tensor, "vocab width"],
    targets: Int[Tensor, " position"],
    nll_weights: Float[Tensor, " position"],
    penalty: Penalty | None = None,
    head_bias: Float[Tensor, " vocab"] | None = None,
    chunk_positions: int | None = None,
) -> TokenLosses:
    """Weighted sum of nll and KL at every position, in nats, with its parts.

    Positions with neither weight are skipped. A frozen head needs no second pass over the
    vocabulary; for a trained one the backward pass computes logits and targets again.

    Raises:
        ValueError: ``chunk_positions`` is not positive.

    Source: derived; for logits and a fixed q, d nll = p - onehot, d KL(q ‖ p) = p - q and
    d KL(p ‖ q) = p·(log p - log q - KL).
    """
    if chunk_positions is None:
        chunk_positions = max(1, CHUNK_ELEMENTS // head_weight.shape[0])
    if chunk_positions < 1:
        raise ValueError(f"chunk_positions must be at least 1, got {chunk_positions}")
    terms = _Terms(targets, nll_weights, penalty, chunk_positions, torch.is_grad_enabled())
    return TokenLosses(*_TokenLosses.apply(hidden, head_weight, head_bias, terms))


@dataclass(frozen=True)
class _Terms:
    targets: Int[Tensor, " position"]
    nll_weights: Float[Tensor, " position"]
    penalty: Penalty | None
    chunk_positions: int
    is_training: bool

    def chunks(self) -> Iterator[tuple[Int[Tensor, " row"], Penalty | None]]:
        """Positions of one chunk after the other; a chunk is penalised as a whole or not at all."""
        is_unpenalised = self.nll_weights != 0
        if self.penalty is not None:
            is_penalised = self.penalty.weights != 0
            is_unpenalised = is_unpenalised & ~is_penalised
            yield from ((rows, self.penalty) for rows in self._split(is_penalised))
        yield from ((rows, None) for rows in self._split(is_unpenalised))

    def _split(self, mask: Tensor) -> Iterator[Tensor]:
        rows = mask.nonzero().squeeze(-1)
        return iter(rows.split(self.chunk_positions) if len(rows) else ())


class _TokenLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, terms: _Terms
    ) -> tuple[Tensor, ...]:
        ctx.is_head_frozen = not any(ctx.needs_input_grad[1:3])
        keeps_gradient = terms.is_training and ctx.is_head_frozen and ctx.needs_input_grad[0]
        values = upcast(hidden.new_zeros(4, len(hidden)))
        grad_hidden = torch.zeros_like(hidden) if keeps_gradient else None
        for rows, penalty in terms.chunks():
            logits = linear(hidden[rows], weight, bias)
            values[:, rows], grad_logits = _chunk(logits, rows, terms, penalty)
            if grad_hidden is not None:
                grad_hidden[rows] = grad_logits.to(weight.dtype) @ weight
        ctx.terms = terms
        ctx.save_for_backward(*((grad_hidden,) if ctx.is_head_frozen else (hidden, weight, bias)))
        total, *parts = (row.clone() for row in values)
        ctx.mark_non_differentiable(*parts)
        return total, *parts

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        grad_total = grads[0].unsqueeze(-1)
        if ctx.is_head_frozen:
            (grad_hidden,) = ctx.saved_tensors
            return (grad_total * grad_hidden).to(grad_hidden.dtype), None, None, None
        hidden, weight, bias = ctx.saved_tensors
        # Many small chunks are added up, so the sum must not be rounded to half precision.
        grad_hidden, grad_weight = torch.zeros_like(hidden), upcast(torch.zeros_like(weight))
        grad_bias = grad_weight.new_zeros(len(weight))
        for rows, penalty in ctx.terms.chunks():
            logits = linear(hidden[rows], weight, bias)
            grad_logits = (_chunk(logits, rows, ctx.terms, penalty)[1] * grad_total[rows]).to(
                weight.dtype
            )
            grad_hidden[rows] = grad_logits @ weight
            grad_weight += grad_logits.T @ hidden[rows]
            grad_bias += grad_logits.sum(dim=0)
        return (
            grad_hidden,
            grad_weight.to(weight.dtype),
            None if bias is None else grad_bias.to(bias.dtype),
            None,
        )


def _chunk(
    logits: Float[Tensor, "row vocab"],
    rows: Int[Tensor, " row"],
    terms: _Terms,
    penalty: Penalty | None,
) -> tuple[Float[Tensor, "4 row"], Float[Tensor, "row vocab"]]:
    """Total, nll and both KLs of one chunk, and the total's gradient for the logits."""
    logprobs = upcast(logits).log_softmax(dim=-1)
    probs = logprobs.exp()
    targets, weights = terms.targets[rows], terms.nll_weights[rows].to(probs.dtype)
    token_nll = nll(logprobs, targets)
    total = weights * token_nll
    gradient = probs * weights.unsqueeze(-1)
    gradient.scatter_add_(-1, targets.unsqueeze(-1), -weights.unsqueeze(-1))
    if penalty is None:
        zero = torch.zeros_like(total)
        return torch.stack([total, token_nll, zero, zero]), gradient
    weights = penalty.weights[rows].to(probs.dtype)
    q_logprobs = upcast(penalty.target(rows))
    log_ratio, q_probs = q_logprobs - logprobs, q_logprobs.exp()
    kls = {
        "guided_policy": expectation(q_probs, log_ratio),
        "policy_guided": -expectation(probs, log_ratio),
    }
    if penalty.kl == "guided_policy":
        kl_gradient = probs - q_probs
    else:
        excess = log_ratio + kls["policy_guided"].unsqueeze(-1)
        kl_gradient = torch.where(probs > 0, -probs * excess, 0.0)
    total = total + weights * kls[penalty.kl]
    gradient.addcmul_(weights.unsqueeze(-1), kl_gradient)
    return torch.stack([total, token_nll, *kls.values()]), gradient
