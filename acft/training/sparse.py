"""The guided policy's likeliest tokens and the mass of all others, kept instead of computed again.

What lies outside the kept tokens is spread as the policy being tuned spreads it. KL and gradient
are then those of the coarser distribution over the kept tokens and one bucket for the rest, which
never exceed the exact KL; with the whole vocabulary kept they are the exact ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acft.chunked import PolicyLogprobs
from acft.data import TokenizedDocument

Key = tuple[tuple[int, ...], int]
"""What guidance and verdicts depend on beside models: a document's tokens, and where its response
starts."""


@dataclass(frozen=True)
class SparseGuidance:
    """The guided policy at the response positions of one document."""

    token_ids: Int[Tensor, "step top"]
    logprobs: Float[Tensor, "step top"]
    log_tail: Float[Tensor, " step"]
    """Log of the mass of all other tokens; minus infinity where all are kept."""
    reach: Float[Tensor, " step"]
    """How much likelier the guided policy is to come to each prefix."""
    token_log_r: Float[Tensor, " horizon"]
    """Log R of each prefix that ends in a response token."""


def key_of(document: TokenizedDocument) -> Key:
    """Key under which what was found out about a document is remembered."""
    return document.token_ids, document.response_start


def sparsified(
    q_logprobs: Float[Tensor, "step vocab"], top: int
) -> tuple[Int[Tensor, "step top"], Float[Tensor, "step top"], Float[Tensor, " step"]]:
    """The likeliest tokens, their log-probabilities, and the log mass of the others."""
    kept = q_logprobs.topk(min(top, q_logprobs.shape[-1]), dim=-1)
    others = q_logprobs.scatter(-1, kept.indices, -torch.inf)
    return kept.indices, kept.values, others.logsumexp(dim=-1)


def spread(
    token_ids: Int[Tensor, "row top"],
    logprobs: Float[Tensor, "row top"],
    log_tail: Float[Tensor, " row"],
    policy_logprobs: Float[Tensor, "row vocab"],
) -> Float[Tensor, "row vocab"]:
    """Log-probabilities of all tokens: the kept ones, and the others in the policy's proportions.

    Source: derived; for v not kept q(v) = q_tail·p(v) / p_tail, which makes KL(q ‖ p) the KL of the
    kept tokens and one bucket, and p - q its exact gradient for the logits.
    """
    token_ids = token_ids.long()
    others = policy_logprobs.scatter(-1, token_ids, -torch.inf)
    ratio = log_tail - others.logsumexp(dim=-1)
    # nothing left over on either side: no token takes part in the tail
    ratio = ratio.masked_fill(log_tail == -torch.inf, -torch.inf)
    return (others + ratio.unsqueeze(-1)).scatter(-1, token_ids, logprobs.to(policy_logprobs))


class CachedGuidance:
    """Precomputed guidance at the response positions of a batch's documents.

    At other positions its values mean nothing; no KL is taken there.
    """

    def __init__(
        self,
        documents: Sequence[TokenizedDocument],
        precomputed: Mapping[Key, SparseGuidance],
        mask_all: Bool[Tensor, "batch step"],
        horizon: int,
    ) -> None:
        device = mask_all.device
        keys = enumerate(map(key_of, documents))
        found = {i: precomputed[key] for i, key in keys if key in precomputed}
        rows = list(found.values())
        self._ids = torch.cat([row.token_ids for row in rows]).to(device)
        self._logprobs = torch.cat([row.logprobs for row in rows]).to(device)
        self._tails = torch.cat([row.log_tail for row in rows]).to(device)
        self._reach = torch.cat([row.reach for row in rows]).to(device)
        self._token_log_r = torch.zeros(len(documents), horizon, device=device)
        # step t predicts token t + 1, so the first response token is predicted at start - 1
        cache_row = torch.zeros(mask_all.shape, dtype=torch.long, device=device)
        first = 0
        for index, row in found.items():
            start, count = documents[index].response_start - 1, len(row.log_tail)
            kept = torch.arange(first, first + count, device=device)
            cache_row[index, start : start + count] = kept
            self._token_log_r[index] = row.token_log_r
            first += count
        self._cache_row = cache_row[mask_all]

    @torch.no_grad()
    def __call__(
        self, positions: Int[Tensor, " row"], policy_logprobs: PolicyLogprobs
    ) -> Float[Tensor, "row vocab"]:
        """Log-probabilities of the guided policy."""
        kept = self._cache_row[positions]
        return spread(self._ids[kept], self._logprobs[kept], self._tails[kept], policy_logprobs())

    def reach(self) -> Float[Tensor, " position"]:
        """How much likelier the guided policy is to come to each position's prefix than p is."""
        return self._reach[self._cache_row]

    def token_log_r(self) -> Float[Tensor, "batch horizon"]:
        """Log R of each prefix that ends in a response token."""
        return self._token_log_r
