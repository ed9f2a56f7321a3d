"""Token losses from hidden states, a few positions at a time.

The logits of all positions never exist at once: the gradient for the hidden states is taken while a
chunk's logits are there, and only that, one number per hidden unit, is kept for the backward pass.
Values and gradients are those of ``nll`` and ``kl_divergence`` on the whole ``[position, vocab]``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import compress
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from acft.objective import expectation, nll, upcast

PolicyLogprobs = Callable[[], Float[Tensor, "row vocab"]]
"""Log-probabilities of the policy being tuned, made when they are asked for."""

GuidedLogprobs = Callable[[Int[Tensor, " row"], PolicyLogprobs], Float[Tensor, "row vocab"]]
"""Log-probabilities of the guided policy at the given positions; called without gradients.

One that knows only its top tokens calls the second argument for the rest; as long as nobody calls
it, the policy's log-probabilities take no memory."""

KlDirection = Literal["guided_policy", "policy_guided"]
_DIRECTIONS = get_args(KlDirection)

CHUNK_BYTES = 64 * 2**20
"""Size of one ``[chunk, vocab]`` float32 tensor by default; a handful of them are alive at once."""

CHUNK_BYTES_CPU = 24 * 2**20
"""Same on CPU: allocators hand larger blocks back to the system each time, which costs 40 %."""

TILE = 64
"""Rows of matrix products come in tiles; a chunk just above a multiple would waste most of one."""


@dataclass(frozen=True)
class Head:
    """What turns hidden states into logits."""

    weights: tuple[Tensor, ...]
    """All that it may train; the first is ``[vocab, width]``."""
    function: Callable[[Float[Tensor, "row width"]], Float[Tensor, "row vocab"]] | None = None
    """Logits of models that also scale or cap them; None is the product with the only weight."""

    def logits(self, hidden: Float[Tensor, "row width"]) -> Float[Tensor, "row vocab"]:
        """Unnormalised log-probabilities."""
        return linear(hidden, *self.weights) if self.function is None else self.function(hidden)

    def gradients(
        self,
        hidden: Float[Tensor, "row width"],
        grad_logits: Float[Tensor, "row vocab"],
        trained: Sequence[Tensor] = (),
    ) -> tuple[Tensor, ...]:
        """Gradients for the hidden states and for the trained ones among the weights."""
        if self.function is None:
            grad_logits = grad_logits.to(self.weights[0].dtype)
            return grad_logits @ self.weights[0], *(grad_logits.T @ hidden for _ in trained)
        with torch.enable_grad():
            hidden = hidden.detach().requires_grad_()
            logits = self.function(hidden)
        return torch.autograd.grad(logits, [hidden, *trained], grad_logits.to(logits.dtype))


@dataclass(frozen=True)
class Penalty:
    """The KL term: where it counts, how much, towards what and in which direction."""

    weights: Float[Tensor, " position"]
    """``kl_weight`` where the KL is in the loss, else 0; guidance is computed nowhere else."""
    guided: GuidedLogprobs
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
    head: Head,
    targets: Int[Tensor, " position"],
    nll_weights: Float[Tensor, " position"],
    penalty: Penalty | None = None,
    chunk_positions: int | None = None,
) -> TokenLosses:
    """Weighted sum of nll and KL at every position, in nats, with its parts.

    Positions with neither weight are skipped. A frozen product needs no second pass over the
    vocabulary; other heads compute logits again, trained ones targets as well.

    Raises:
        ValueError: ``chunk_positions`` is not positive.

    Source: derived; for logits and a fixed q, d nll = p - onehot, d KL(q ‖ p) = p - q and
    d KL(p ‖ q) = p·(log p - log q - KL).
    """
    if chunk_positions is None:
        chunk_positions = positions_at_once(len(head.weights[0]), hidden.device)
    if chunk_positions < 1:
        raise ValueError(f"chunk_positions must be at least 1, got {chunk_positions}")
    terms = _Terms(head, targets, nll_weights, penalty, chunk_positions, torch.is_grad_enabled())
    return TokenLosses(*_TokenLosses.apply(terms, hidden, *head.weights))


def positions_at_once(vocabulary: int, device: torch.device) -> int:
    """Positions whose next-token distributions make up one chunk by default."""
    chunk_bytes = CHUNK_BYTES_CPU if device.type == "cpu" else CHUNK_BYTES
    positions = max(1, chunk_bytes // (4 * vocabulary))
    return positions - positions % TILE if positions > TILE else positions


@dataclass(frozen=True)
class _Terms:
    head: Head
    targets: Int[Tensor, " position"]
    nll_weights: Float[Tensor, " position"]
    penalty: Penalty | None
    chunk_positions: int
    is_training: bool

    @cached_property
    def chunks(self) -> list[tuple[Int[Tensor, " row"], Penalty | None]]:
        """Positions of each chunk, which is penalised as a whole or not at all.

        Found once, since a GPU is waited for.
        """
        has_nll = self.nll_weights != 0
        if self.penalty is None:
            return [(rows, None) for rows in self._split(has_nll)]
        is_penalised = self.penalty.weights != 0
        return [
            *((rows, self.penalty) for rows in self._split(is_penalised)),
            *((rows, None) for rows in self._split(has_nll & ~is_penalised)),
        ]

    def _split(self, mask: Tensor) -> Sequence[Tensor]:
        rows = mask.nonzero().squeeze(-1)
        return rows.split(self.chunk_positions) if len(rows) else ()


class _TokenLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, terms: _Terms, hidden: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
        ctx.terms = terms
        ctx.is_head_frozen = not any(ctx.needs_input_grad[2:])
        keeps_gradient = terms.is_training and ctx.is_head_frozen and ctx.needs_input_grad[1]
        grad_hidden = torch.zeros_like(hidden) if keeps_gradient else None
        values = upcast(hidden.new_zeros(4, len(hidden)))
        for rows, penalty in terms.chunks:
            read = hidden[rows]
            values[:, rows], grad_logits = _chunk(read, rows, terms, penalty)
            if grad_hidden is not None:
                (grad_hidden[rows],) = terms.head.gradients(read, grad_logits)
        ctx.save_for_backward(grad_hidden if ctx.is_head_frozen else hidden)
        total, *parts = (row.clone() for row in values)
        ctx.mark_non_differentiable(*parts)
        return total, *parts

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        grad_total = grads[0].unsqueeze(-1)
        is_trained, (saved,) = ctx.needs_input_grad[2:], ctx.saved_tensors
        if ctx.is_head_frozen:
            return None, (grad_total * saved).to(saved.dtype), *(None for _ in is_trained)
        hidden, trained = saved, list(compress(ctx.terms.head.weights, is_trained))
        grad_hidden = torch.zeros_like(hidden)
        # Many chunks are added up, so the sum must not be rounded to half precision on the way.
        sums = [upcast(torch.zeros_like(weight)) for weight in trained]
        for rows, penalty in ctx.terms.chunks:
            read = hidden[rows]
            _, grad_logits = _chunk(read, rows, ctx.terms, penalty)
            grad_logits.mul_(grad_total[rows])
            grad_hidden[rows], *parts = ctx.terms.head.gradients(read, grad_logits, trained)
            for total, part in zip(sums, parts, strict=True):
                total.add_(part)
        found = iter(total.to(weight.dtype) for total, weight in zip(sums, trained, strict=True))
        return None, grad_hidden, *(next(found) if each else None for each in is_trained)


def _chunk(
    hidden: Float[Tensor, "row width"],
    rows: Int[Tensor, " row"],
    terms: _Terms,
    penalty: Penalty | None,
) -> tuple[Float[Tensor, "4 row"], Float[Tensor, "row vocab"]]:
    """Total, nll and both KLs of one chunk, and the total's gradient for the logits.

    In place wherever a tensor is ours: these tensors are what sets the peak memory. For the same
    reason the guided policy comes first, before there are logits.
    """
    policy = cache(lambda: upcast(terms.head.logits(hidden)).log_softmax(dim=-1))
    q_logprobs = None if penalty is None else upcast(penalty.guided(rows, policy))
    logprobs = policy()
    targets = terms.targets[rows]
    token_nll = nll(logprobs, targets)
    weights = terms.nll_weights[rows].to(logprobs.dtype)
    total = weights * token_nll
    if penalty is None or q_logprobs is None:
        kls = torch.zeros(2, len(rows)).to(total)
        gradient = logprobs.exp_().mul_(weights.unsqueeze(-1))
    else:
        kl_weights = penalty.weights[rows].to(logprobs.dtype)
        kls, gradient = _kl_chunk(logprobs, q_logprobs, weights, kl_weights, penalty.kl)
        total = total + kl_weights * kls[_DIRECTIONS.index(penalty.kl)]
    gradient.scatter_add_(-1, targets.unsqueeze(-1), -weights.unsqueeze(-1))
    return torch.stack([total, token_nll, *kls]), gradient


def _kl_chunk(
    logprobs: Float[Tensor, "row vocab"],
    q_logprobs: Float[Tensor, "row vocab"],
    nll_weights: Float[Tensor, " row"],
    kl_weights: Float[Tensor, " row"],
    kl: KlDirection,
) -> tuple[Float[Tensor, "2 row"], Float[Tensor, "row vocab"]]:
    """KL(guided ‖ policy), KL(policy ‖ guided), and nll_weights·p + kl_weights·dKL/dlogits."""
    log_ratio = q_logprobs - logprobs
    probs, q_probs = logprobs.exp_(), q_logprobs.exp()
    kls = torch.stack([expectation(q_probs, log_ratio), -expectation(probs, log_ratio)])
    a, b = nll_weights.unsqueeze(-1), kl_weights.unsqueeze(-1)
    if kl == "guided_policy":
        return kls, probs.mul_(a + b).addcmul_(b, q_probs, value=-1)
    factor = a - b * log_ratio.add_(kls[1].unsqueeze(-1))
    return kls, torch.where(probs > 0, probs * factor, 0.0)
