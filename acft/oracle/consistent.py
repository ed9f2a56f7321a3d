"""R that is forward-consistent by construction: R(x) times ratios of two normalised distributions.

log R(prefix) = log R(x) + sum over its tokens of log q(token) - log p(token), where p is the policy
and q a learned next-token distribution. As q sums to 1, sum over v of p(v)·R(prefix, v) = R(prefix)
whatever q is, and q is the guided policy itself wherever R stays below 1.

Source: arXiv:2306.11825, which disentangles the norm of R; this form of it is derived.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from acft.backbone.forward import logits, text_config
from acft.backbone.loading import Backbone
from acft.oracle.base import Oracle, OracleContext, Shared
from acft.types import Window

POSITIONS = 256
"""Positions whose whole next-token distributions are held at once, where no gradient keeps them."""
LOG_R_MAX = -1e-3
"""R stays this far below 1, so that a violation which was thought impossible has a finite loss."""


class ConsistentOracle(Oracle):
    """A kind implements ``read``, ``log_q`` and ``prompt_logit``.

    Its state after a prefix is (what was read, the policy's hidden state, log R not yet limited).
    """

    def __init__(self, context: OracleContext) -> None:
        super().__init__(context.settings.log_r_min)
        self.follow(context.backbone)

    def read(self, window: Window) -> Float[Tensor, "batch window feature"]:
        """What q and R(x) are made from, at each index."""
        raise NotImplementedError

    def log_q(
        self, read: Float[Tensor, "*axes feature"], next_logprobs: Float[Tensor, "*axes vocab"]
    ) -> Float[Tensor, "*axes vocab"]:
        """Log-probabilities of the learned distribution; ``next_logprobs`` are the policy's."""
        raise NotImplementedError

    def prompt_logit(self, read: Float[Tensor, "batch feature"]) -> Float[Tensor, " batch"]:
        """Log-odds of R(x), from what was read at the last prompt token."""
        raise NotImplementedError

    def follow(self, policy: Backbone) -> None:
        """Read hidden states with this policy's output head."""
        self._policy = Shared(policy)

    def states(self, window: Window) -> Float[Tensor, "batch window state"]:
        """What was read, what the policy thinks, and log R so far."""
        read = self.read(window)
        return self._states(window, read, logsigmoid(self.prompt_logit(read[:, 0]))[:, None])

    def longer_states(
        self, window: Window, known: Float[Tensor, "batch known state"]
    ) -> Float[Tensor, "batch window state"]:
        """The same; the vocabulary is looked at only after what is known."""
        return self._states(window, self.read(window), known[..., -1])

    def next_log_r(self, states: Float[Tensor, "*axes state"]) -> Float[Tensor, "*axes vocab"]:
        """Log R(prefix followed by v) for every token v."""
        read, hidden, log_r = self._parts(states)
        return self._limited(log_r + self._log_ratio(read, hidden))

    def token_log_r(
        self, states: Float[Tensor, "*axes state"], token_ids: Int[Tensor, " *axes"]
    ) -> Float[Tensor, " *axes"]:
        """Log R(prefix followed by the given token)."""
        read, hidden, log_r = self._parts(states)
        return self._limited(log_r[..., 0] + self._token_log_ratio(read, hidden, token_ids))

    def prefix_log_r(self, states: Float[Tensor, "*axes state"]) -> Float[Tensor, " *axes"]:
        """Log R(prefix)."""
        return self._limited(states[..., -1])

    def response_log_r(
        self,
        states: Float[Tensor, "batch window state"],
        token_ids: Int[Tensor, "batch window"],  # noqa: ARG002 - the states have been there
    ) -> Float[Tensor, "batch step"]:
        """Log R of each prefix that ends in a response token, known without the vocabulary."""
        return self.prefix_log_r(states[:, 1:])

    def _states(
        self,
        window: Window,
        read: Float[Tensor, "batch window feature"],
        log_r: Float[Tensor, "batch known"],
    ) -> Float[Tensor, "batch window state"]:
        """States where log R is known at the first indices, not yet limited."""
        n = log_r.shape[1]
        hidden = window.hidden.to(read.dtype)
        before = slice(n - 1, -1)
        change = self._token_log_ratio(read[:, before], hidden[:, before], window.token_ids[:, n:])
        change = change * window.mask[:, n:]
        log_r = torch.cat([log_r, log_r[:, -1:] + change.cumsum(dim=1)], dim=1)
        return torch.cat([read, hidden, log_r[..., None]], dim=-1)

    def _parts(self, states: Float[Tensor, "*axes state"]) -> tuple[Tensor, Tensor, Tensor]:
        width = text_config(self._policy.value.model).hidden_size
        read, hidden, log_r = states.split([states.shape[-1] - width - 1, width, 1], dim=-1)
        return read, hidden, log_r

    def _token_log_ratio(
        self,
        read: Float[Tensor, "*axes feature"],
        hidden: Float[Tensor, "*axes width"],
        token_ids: Int[Tensor, " *axes"],
    ) -> Float[Tensor, " *axes"]:
        """The ratio at one token of each position; the vocabulary is there for a few at a time."""
        axes = token_ids.shape
        parts = zip(
            read.reshape(-1, read.shape[-1]).split(POSITIONS),
            hidden.reshape(-1, hidden.shape[-1]).split(POSITIONS),
            token_ids.reshape(-1, 1).split(POSITIONS),
            strict=True,
        )
        found = [self._log_ratio(*where).gather(-1, ids)[:, 0] for *where, ids in parts]
        return torch.cat(found).reshape(axes)

    def _log_ratio(
        self, read: Float[Tensor, "*axes feature"], hidden: Float[Tensor, "*axes width"]
    ) -> Float[Tensor, "*axes vocab"]:
        model = self._policy.value.model
        with torch.no_grad():
            next_logprobs = logits(model, hidden.to(model.dtype)).log_softmax(dim=-1)
        return self.log_q(read, next_logprobs) - next_logprobs

    def _limited(self, log_r: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
        return _Limited.apply(log_r, self.log_r_min, LOG_R_MAX)


class _Limited(torch.autograd.Function):
    """A clamp that lets a gradient pass where it leads back between the limits."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(values)
        ctx.limits = low, high
        return values.clamp(low, high)

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor, None, None]:
        (values,) = ctx.saved_tensors
        low, high = ctx.limits
        # A step goes against the gradient.
        leaves = ((values > high) & (gradient < 0)) | ((values < low) & (gradient > 0))
        return gradient.masked_fill(leaves, 0.0), None, None
