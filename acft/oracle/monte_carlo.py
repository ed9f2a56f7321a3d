"""R by trying: the policy goes on from a prefix many times, and the constraint judges the results.

Nothing is learned, so this is ground truth up to chance: slow, and meant for audits of other
oracles on a few prefixes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from acft.backbone.forward import hidden_states, logits, text_config
from acft.backbone.loading import Backbone
from acft.errors import ConfigError
from acft.oracle.base import ORACLES, Oracle, OracleContext, OracleKind, Shared, Verdicts
from acft.prompt_tokens import response_texts
from acft.sampling import continuations
from acft.schema import SATISFIED_ABOVE
from acft.types import Window

CONTINUATIONS = 64
"""Responses tried from each prefix when the oracle guides."""
TOP_TOKENS = 8
"""Likeliest next tokens whose R is tried; the others get the prefix's."""
NOTHING = -1
"""Fills up states where there is no token."""

TokenIds = tuple[int, ...]


@dataclass(frozen=True)
class Prefix:
    """A prompt and the first tokens of a response."""

    prompt_ids: TokenIds
    response_ids: TokenIds = ()

    def followed_by(self, token_id: int) -> "Prefix":
        """The prefix that is one token longer."""
        return Prefix(self.prompt_ids, (*self.response_ids, token_id))


def estimate(
    policy: Backbone,
    verdicts: Verdicts,
    prefixes: Sequence[Prefix],
    horizon: int,
    n: int,
    seed: int,
) -> list[float]:
    """R of each prefix from ``n`` continuations up to ``horizon`` response tokens.

    Equal prefixes get equal estimates; an ended or full-length response is its own only one.
    """
    found: dict[Prefix, float] = {}
    wanted = dict.fromkeys(prefixes)
    for length in sorted({len(prefix.response_ids) for prefix in wanted}):
        same = [prefix for prefix in wanted if len(prefix.response_ids) == length]
        found.update(zip(same, _estimate(policy, verdicts, same, horizon, n, seed), strict=True))
    return [found[prefix] for prefix in prefixes]


def _estimate(
    policy: Backbone,
    verdicts: Verdicts,
    prefixes: Sequence[Prefix],
    horizon: int,
    n: int,
    seed: int,
) -> Iterator[float]:
    end_ids = set(policy.end_ids)
    remaining = horizon - len(prefixes[0].response_ids)
    open_ones = [p for p in prefixes if remaining > 0 and end_ids.isdisjoint(p.response_ids)]
    tried: dict[Prefix, list[TokenIds]] = {}
    if open_ones:
        sequences = [p.prompt_ids + p.response_ids for p in open_ones]
        drawn = continuations(policy, sequences, n, remaining, seed)
        tried = dict(zip(open_ones, drawn, strict=True))
    for prefix in prefixes:
        endings = tried.get(prefix, [()])
        responses = [prefix.response_ids + ending for ending in endings]
        texts = response_texts(policy.decode, prefix.prompt_ids, responses)
        question = policy.decode(prefix.prompt_ids)
        values = verdicts([question] * len(texts), texts)
        satisfied = [value > SATISFIED_ABOVE for value in values]
        yield sum(satisfied) / len(satisfied)


class MonteCarloOracle(Oracle):
    """R of prefixes by trying; its state is (prompt length, all tokens so far)."""

    def __init__(self, context: OracleContext, verdicts: Verdicts) -> None:
        super().__init__(context.settings.log_r_min)
        self._verdicts = Shared(verdicts)
        self._horizon = context.horizon
        self._seed = context.seed
        self.follow(context.backbone)

    def follow(self, policy: Backbone) -> None:
        """Try with this policy."""
        self._policy = Shared(policy)

    def states(self, window: Window) -> Float[Tensor, "batch window state"]:
        """The tokens up to each index."""
        prompt = torch.where(window.prompt_mask, window.prompt_ids, NOTHING)
        length = window.token_ids.shape[1]
        tokens = torch.where(window.mask, window.token_ids, NOTHING)[:, None, 1:]
        is_past = torch.arange(1, length) <= torch.arange(length)[:, None]
        response = torch.where(is_past.to(tokens.device), tokens, NOTHING)
        repeated = prompt[:, None, :].expand(-1, length, -1)
        size = window.prompt_mask.sum(dim=1)[:, None, None].expand(-1, length, 1)
        return torch.cat([size, repeated, response], dim=-1).float()  # exact below 2**24

    def next_log_r(self, states: Float[Tensor, "*axes state"]) -> Float[Tensor, "*axes vocab"]:
        """Log R(prefix followed by v) for the likeliest v; the prefix's own for all others."""
        flat = states.reshape(-1, states.shape[-1])
        prefixes = [_prefix(row) for row in flat]
        top = [self._likeliest(prefix) for prefix in prefixes]
        result = self.prefix_log_r(flat)[:, None].repeat(1, self._vocab)
        for row, tokens in enumerate(top):
            longer = [prefixes[row].followed_by(token) for token in tokens.tolist()]
            result[row, tokens.to(result.device)] = self._log_rs(longer).to(result.device)
        return result.reshape(*states.shape[:-1], self._vocab)

    def token_log_r(
        self, states: Float[Tensor, "*axes state"], token_ids: Int[Tensor, " *axes"]
    ) -> Float[Tensor, " *axes"]:
        """Log R(prefix followed by the given token), likely or not."""
        flat = states.reshape(-1, states.shape[-1])
        prefixes = [
            _prefix(row).followed_by(token)
            for row, token in zip(flat, token_ids.flatten().tolist(), strict=True)
        ]
        return self._log_rs(prefixes).to(states.device).reshape(token_ids.shape)

    def prefix_log_r(self, states: Float[Tensor, "*axes state"]) -> Float[Tensor, " *axes"]:
        """Log R(prefix)."""
        flat = states.reshape(-1, states.shape[-1])
        values = self._log_rs([_prefix(row) for row in flat])
        return values.to(states.device).reshape(states.shape[:-1])

    @property
    def _vocab(self) -> int:
        return int(text_config(self._policy.value.model).vocab_size)

    @torch.no_grad()
    def _likeliest(self, prefix: Prefix) -> Int[Tensor, " top"]:
        model = self._policy.value.model
        ids = torch.tensor([prefix.prompt_ids + prefix.response_ids], device=model.device)
        hidden = hidden_states(model, ids)[0, -1]
        return logits(model, hidden).topk(min(TOP_TOKENS, self._vocab)).indices

    def _log_rs(self, prefixes: Sequence[Prefix]) -> Float[Tensor, " prefix"]:
        found = estimate(
            self._policy.value, self._verdicts.value, prefixes, self._horizon, CONTINUATIONS,
            self._seed,
        )  # fmt: skip
        return torch.tensor(found, dtype=torch.float64).log().float().clamp(min=self.log_r_min)


def _prefix(state: Float[Tensor, " state"]) -> Prefix:
    size, *tokens = [value for value in state.long().tolist() if value != NOTHING]
    return Prefix(tuple(tokens[:size]), tuple(tokens[size:]))


def build(context: OracleContext) -> Oracle:
    """R tried out by continuing each prefix with the policy; slow, for audits of other kinds."""
    if context.verdicts is None:
        raise ConfigError(
            "[oracle] kind = 'monte_carlo' needs the constraint itself; none was given"
        )
    return MonteCarloOracle(context, context.verdicts)


ORACLES.add("monte_carlo")(OracleKind(build, is_fitted=False))
