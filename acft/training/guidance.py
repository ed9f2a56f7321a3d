"""Per-token guidance of a few sequences, as the training pass itself saw them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from acft.backbone.forward import hidden_states, logits
from acft.chunked import Penalty, TokenLosses
from acft.data import TokenizedDocument
from acft.token_text import TokenTexts
from acft.training.guidance_rows import LikelyTokens, guidance_rows
from acft.training.outputs import Rows
from acft.training.regularizer import ComputedGuidance
from acft.training.sparse import CachedGuidance
from acft.training.world import World

Guidance = ComputedGuidance | CachedGuidance

TOP = 5
"""Likeliest tokens kept under each of base, policy and guided."""


@dataclass(frozen=True)
class ForwardPass:
    """What one forward pass of a step has computed, for the tap."""

    documents: Sequence[TokenizedDocument]
    mask_all: Bool[Tensor, "batch step"]
    hidden: Float[Tensor, "batch time width"]
    kl_guided_policy: Float[Tensor, " position"]
    penalty: Penalty

    @classmethod
    def of(
        cls,
        documents: Sequence[TokenizedDocument],
        mask_all: Bool[Tensor, "batch step"],
        hidden: Float[Tensor, "batch time width"],
        losses: TokenLosses,
        penalty: Penalty,
    ) -> "ForwardPass":
        """Without what only gradients need."""
        return cls(documents, mask_all, hidden.detach(), losses.kl_guided_policy.detach(), penalty)


@dataclass
class GuidanceTap:
    """Remembers the first sequences with a KL term in a step, each once, and makes rows of them."""

    world: World
    policy_version: int
    oracle_version: int
    limit: int
    _taken: set[str] = field(default_factory=set)
    _pending: list[dict[str, Any]] = field(default_factory=list)

    @torch.no_grad()
    def take(self, passes: Iterable[ForwardPass]) -> None:
        """Keep what is needed of a step's passes; called before the optimiser changes anything."""
        chosen = [sequence for seen in passes for sequence in self._new(seen)]
        for rows in self.world.base.workers.map(self._rows, chosen):
            self._pending += rows

    def _new(self, seen: ForwardPass) -> "Iterator[_Sequence]":
        """The sequences of a pass that have a KL term and are not taken yet, up to the limit."""
        guided = seen.penalty.guided
        assert isinstance(guided, Guidance)
        if len(self._taken) >= self.limit:
            return
        # fetched at once: each look at a single value would wait for the GPU
        is_penalised, kls = (seen.penalty.weights != 0).cpu(), seen.kl_guided_policy.cpu()
        log_r = guided.token_log_r().cpu()
        counts = seen.mask_all.sum(dim=1).tolist()
        first = 0
        for row, (document, count) in enumerate(zip(seen.documents, counts, strict=True)):
            here = slice(first, first + count)
            is_new = document.document_id not in self._taken and len(self._taken) < self.limit
            if is_new and bool(is_penalised[here].any()):
                self._taken.add(document.document_id)
                yield _Sequence(
                    document, seen.hidden[row, :count], first, guided,
                    is_penalised[here], kls[here], log_r[row].tolist(),
                )  # fmt: skip
            first += count

    def rows(self, round_index: int, step: int) -> Iterator[Rows]:
        """The rows of everything taken, once."""
        if self._pending:
            rows = [{**row, "round": round_index, "step": step} for row in self._pending]
            self._pending = []
            yield Rows("guidance", round_index, rows)

    @torch.no_grad()
    def _rows(self, sequence: "_Sequence") -> list[dict[str, Any]]:
        """The rows of one sequence, without round and step."""
        document = sequence.document
        kls, flags = sequence.kl_guided_policy, sequence.is_penalised
        shared = {
            "sequence_id": document.document_id,
            "source": "rollout" if document.is_rollout else "corpus",
            "policy_version": self.policy_version,
            "oracle_version": self.oracle_version,
            "kl_logged": float(kls[flags].double().sum()),
        }
        first_response = document.response_start - 1
        told = {
            step: (kl, sequence.log_r[step - first_response])
            for step, (kl, in_loss) in enumerate(zip(kls.tolist(), flags.tolist(), strict=True))
            if in_loss
        }
        texts = TokenTexts(self.world.base.backbone.spell)
        rows = guidance_rows(document.token_ids, self._read(sequence), told, texts)
        return [{**shared, **row} for row in rows]

    def _read(self, sequence: "_Sequence") -> LikelyTokens:
        """What base, policy and guided policy say of each token and of the likeliest others."""
        hidden = sequence.hidden
        inside = sequence.is_penalised.nonzero()[:, 0].to(hidden.device)
        token_ids = torch.tensor(sequence.document.token_ids, device=hidden.device)
        policy_model, base_model = (
            policy.backbone.model for policy in (self.world.policy, self.world.base)
        )
        policy_lp = logits(policy_model, hidden).log_softmax(dim=-1)
        base_hidden = hidden_states(base_model, token_ids[None])[0, :-1]
        base_lp = logits(base_model, base_hidden).log_softmax(dim=-1)
        guided_lp = sequence.guided(sequence.first + inside, lambda: policy_lp[inside])
        return LikelyTokens.of(token_ids, base_lp, policy_lp, guided_lp, inside, TOP)


@dataclass(frozen=True)
class _Sequence:
    """A document with a KL term, as its pass has read it."""

    document: TokenizedDocument
    hidden: Float[Tensor, "step width"]
    first: int
    """Place of its first position among those of the pass."""
    guided: Guidance
    is_penalised: Bool[Tensor, " step"]
    kl_guided_policy: Float[Tensor, " step"]
    log_r: Sequence[float]
    """At response positions, up to the horizon."""
