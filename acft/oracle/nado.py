"""Parts that all oracles on the policy's hidden states share: what they read and how they answer.

The answer factorises, logit R(prefix, v) = a + u·c(v) + w·e(v) + A·B e(v), with a, u and A read off
the memory of the prefix, e(v) the frozen embedding and c(v) the verdict on v alone; so one small
matrix product gives every next token, and the sampled one costs a dot product.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from acft.backbone.forward import input_embeddings
from acft.oracle.base import Oracle, OracleContext
from acft.seeding import local_torch_seed
from acft.types import Window

INPUT_DROPOUT = 0.3
"""On hidden states and embeddings; without it a few thousand responses are learned by heart."""
VERDICT_CLAMP = 1e-4
"""Verdicts are kept this far from 0 and 1, where their log-odds would be infinite."""
EMBEDDING_ROWS = 8192
"""Rows of the embedding turned into factors at once; bounds memory for large vocabularies."""


class FactoredOracle(Oracle):
    """Answers by two heads on what is remembered of a prefix; a kind implements ``states``."""

    prefix_head: nn.Linear
    next_head: "FactoredHead"

    def add_heads(self, context: OracleContext) -> None:
        """Makes the heads that answer; last, since weights are drawn in the order they are made."""
        width = context.settings.width
        embeddings = input_embeddings(context.backbone.model).detach()
        self.prefix_head = nn.Linear(width, 1)
        self.next_head = FactoredHead(embeddings, width, context.token_verdicts)
        nn.init.zeros_(self.prefix_head.weight)

    def next_logit(self, states: Float[Tensor, "*axes state"]) -> Float[Tensor, "*axes vocab"]:
        """Log-odds of R(prefix followed by v) for every token v."""
        return self.next_head(states)

    def token_logit(
        self, states: Float[Tensor, "*axes state"], token_ids: Int[Tensor, " *axes"]
    ) -> Float[Tensor, " *axes"]:
        """Log-odds of R(prefix followed by the given token)."""
        return self.next_head.at(states, token_ids)

    def prefix_logit(self, states: Float[Tensor, "*axes state"]) -> Float[Tensor, " *axes"]:
        """Log-odds of R(prefix)."""
        return self.prefix_head(states)[..., 0]

    @torch.no_grad()
    def prepare(self, window: Window, satisfaction: Float[Tensor, " batch"]) -> None:  # noqa: ARG002
        """Start at the mean satisfaction of these responses."""
        prior = torch.logit(satisfaction.float().mean(), eps=1e-3)
        self.prefix_head.bias.fill_(prior)
        self.next_head.level.bias.fill_(prior)


class NadoOracle(FactoredOracle):
    """R from hidden states, token embeddings and the constraint's verdict on every prefix."""

    def __init__(self, context: OracleContext, memory: nn.Module) -> None:
        super().__init__(context.settings.log_r_min)
        width = context.settings.width
        embeddings = input_embeddings(context.backbone.model).detach()
        self.reader = ResponseReader(embeddings, width, context.horizon)
        self.memory = memory
        self.norm = nn.LayerNorm(width)
        self.add_heads(context)

    def states(self, window: Window) -> Float[Tensor, "batch window state"]:
        """What the memory holds after each index."""
        read = self.reader(window)
        return self.norm(read + self.memory(read))

    @torch.no_grad()
    def prepare(self, window: Window, satisfaction: Float[Tensor, " batch"]) -> None:
        """Standardise hidden states as in these responses; start at their mean satisfaction."""
        seen = window.hidden[window.mask].float()
        self.reader.mean.copy_(seen.mean(dim=0))
        self.reader.scale.copy_(seen.std(dim=0).clamp(min=1e-3))
        super().prepare(window, satisfaction)


class ResponseReader(nn.Module):
    """Turns each index of a window into a vector: hidden state, token, position, verdict so far."""

    mean: Tensor
    scale: Tensor

    def __init__(self, embeddings: Float[Tensor, "vocab width"], width: int, horizon: int) -> None:
        super().__init__()
        hidden_width = embeddings.shape[1]
        self.register_buffer("mean", torch.zeros(hidden_width))
        self.register_buffer("scale", torch.ones(hidden_width))
        self.embeddings = EmbeddingRows(embeddings)
        self.from_hidden = nn.Linear(hidden_width, width)
        self.from_token = nn.Linear(hidden_width, width)
        self.from_verdict = nn.Linear(3, width)
        self.position = nn.Parameter(torch.zeros(horizon + 1, width))
        self.dropout = nn.Dropout(INPUT_DROPOUT)

    def forward(self, window: Window) -> Float[Tensor, "batch window state"]:
        """One vector for each index."""
        hidden = (window.hidden.float() - self.mean) / self.scale
        return (
            self.from_hidden(self.dropout(hidden))
            + self.from_token(self.dropout(self.embeddings(window.token_ids)))
            + self.from_verdict(verdict_features(window.verdicts))
            + self.position[: window.token_ids.shape[1]]
        )


class FactoredHead(nn.Module):
    """Log-odds for every next token from one small matrix product."""

    def __init__(
        self,
        embeddings: Float[Tensor, "vocab width"],
        width: int,
        token_verdicts: Float[Tensor, " vocab"] | None,
    ) -> None:
        super().__init__()
        self.embeddings = EmbeddingRows(embeddings)
        self.level = nn.Linear(width, 1)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(embeddings.shape[1], width, bias=False)
        self.token = nn.Linear(embeddings.shape[1], 1, bias=False)
        features = token_features(token_verdicts, embeddings.shape[0])
        self.register_buffer("features", features.to(embeddings.device), persistent=False)
        self.feature_weight = nn.Linear(width, features.shape[1])
        for zero in (self.level.weight, self.token.weight, self.feature_weight.weight):
            nn.init.zeros_(zero)
        nn.init.zeros_(self.query.bias)
        nn.init.normal_(self.query.weight, std=0.02)
        nn.init.constant_(self.feature_weight.bias, 0.5)
        self._factors: tuple[Tensor, Tensor] | None = None

    features: Tensor

    def forward(self, states: Float[Tensor, "*axes state"]) -> Float[Tensor, "*axes vocab"]:
        """For every token of the vocabulary."""
        keys, biases = self._vocabulary()
        query = torch.cat([self.query(states), self.feature_weight(states)], dim=-1)
        return self.level(states) + biases + query @ keys.T

    def at(
        self, states: Float[Tensor, "*axes state"], token_ids: Int[Tensor, " *axes"]
    ) -> Float[Tensor, " *axes"]:
        """For one token at each position."""
        rows = self.embeddings(token_ids)
        content = (self.query(states) * self.key(rows)).sum(dim=-1)
        verdict = (self.feature_weight(states) * self.features[token_ids]).sum(dim=-1)
        return self.level(states)[..., 0] + self.token(rows)[..., 0] + content + verdict

    def train(self, mode: bool = True) -> "FactoredHead":  # noqa: FBT001, FBT002 - torch's signature
        """Switch between training and use; the vocabulary's factors are kept only while in use."""
        self._factors = None
        return super().train(mode)

    def _vocabulary(self) -> tuple[Float[Tensor, "vocab key"], Float[Tensor, " vocab"]]:
        factors = self._factors  # read once: another thread may drop them
        if factors is not None and not torch.is_grad_enabled():
            return factors
        blocks = torch.arange(self.features.shape[0], device=self.features.device).split(
            EMBEDDING_ROWS
        )
        parts = [self._factors_of(block) for block in blocks]
        keys, biases = (torch.cat(part) for part in zip(*parts, strict=True))
        factors = torch.cat([keys, self.features], dim=-1), biases
        if not self.training and not torch.is_grad_enabled():
            self._factors = factors
        return factors

    def _factors_of(
        self, token_ids: Int[Tensor, " row"]
    ) -> tuple[Float[Tensor, "row width"], Float[Tensor, " row"]]:
        rows = self.embeddings(token_ids)
        return self.key(rows), self.token(rows)[:, 0]


class EmbeddingRows:
    """Rows of the frozen input embedding at unit length times 3; refers to it, never copies it."""

    def __init__(self, weight: Float[Tensor, "vocab width"]) -> None:
        self._weight = weight

    def __deepcopy__(self, _: object) -> "EmbeddingRows":
        """Itself: copies of an oracle share the frozen embedding."""
        return self

    def __call__(self, token_ids: Int[Tensor, " *axes"]) -> Float[Tensor, "*axes width"]:
        """The rows of the given tokens in float32."""
        rows = self._weight[token_ids.to(self._weight.device)].float()
        return 3.0 * nn.functional.normalize(rows, dim=-1)


def verdict_features(verdicts: Float[Tensor, "batch window"]) -> Float[Tensor, "batch window 3"]:
    """Log-odds, value and worst value so far of the verdicts on the prefixes."""
    violation = 1.0 - verdicts.float()
    log_odds = torch.logit(violation.clamp(VERDICT_CLAMP, 1 - VERDICT_CLAMP))
    worst = violation.cummax(dim=-1).values
    return torch.stack([log_odds / 4, 2 * violation, 2 * worst], dim=-1)


def token_features(
    token_verdicts: Float[Tensor, " vocab"] | None, vocab: int
) -> Float[Tensor, "vocab 2"]:
    """How bad each token is by itself: centred log-odds and value; zeros when nobody asked."""
    if token_verdicts is None:
        return torch.zeros(vocab, 2)
    log_odds = torch.logit(token_verdicts.float().clamp(VERDICT_CLAMP, 1 - VERDICT_CLAMP))
    return torch.stack([(log_odds - log_odds.median()) / 4, -4 * (1 - token_verdicts.float())], -1)


def build_with(context: OracleContext, memory: Callable[[int], nn.Module]) -> NadoOracle:
    """A NADO oracle whose memory module is made by ``memory(width)``, with seeded weights."""
    with local_torch_seed(context.seed):
        oracle = NadoOracle(context, memory(context.settings.width))
    return oracle.to(context.backbone.model.device)


def causal_mask(length: int, device: torch.device) -> Float[Tensor, "length length"]:
    """0 where a position may look, minus infinity where it lies in the future."""
    return torch.full((length, length), -math.inf, device=device).triu(diagonal=1)
