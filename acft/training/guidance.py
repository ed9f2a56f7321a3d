"""Per-token guidance of a few sequences, as the training pass itself saw them."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acft.backbone.forward import hidden_states, logits
from acft.chunked import TokenLosses
from acft.data import TokenizedDocument
from acft.objective import entropy
from acft.training.outputs import Rows
from acft.training.regularizer import ComputedGuidance
from acft.training.sparse import CachedGuidance
from acft.training.world import World

Guidance = ComputedGuidance | CachedGuidance

TOP = 5
"""Likeliest tokens kept under each of base, policy and guided."""


@dataclass
class GuidanceTap:
    """Remembers the first sequences with a KL term in a step, and makes rows of them."""

    world: World
    policy_version: int
    oracle_version: int
    limit: int
    _sequences: int = 0
    _pending: list[dict[str, Any]] = field(default_factory=list)

    @torch.no_grad()
    def take(
        self,
        documents: Sequence[TokenizedDocument],
        mask_all: Bool[Tensor, "batch step"],
        hidden: Float[Tensor, "batch time width"],
        losses: TokenLosses,
        kl_weights: Float[Tensor, " position"],
        guided: Guidance,
    ) -> None:
        """Keep what is needed of one forward pass; called before the optimiser changes anything."""
        counts = mask_all.sum(dim=1).tolist()
        first = 0
        for row, (document, count) in enumerate(zip(documents, counts, strict=True)):
            positions = torch.arange(first, first + count, device=hidden.device)
            first += count
            is_penalised = kl_weights[positions] != 0
            if self._sequences >= self.limit or not bool(is_penalised.any()):
                continue
            self._sequences += 1
            self._sequence(document, row, hidden[row], positions, is_penalised, losses, guided)

    def rows(self, round_index: int, step: int) -> Iterator[Rows]:
        """The rows of everything taken, once."""
        if self._pending:
            rows = [{**row, "round": round_index, "step": step} for row in self._pending]
            self._pending = []
            yield Rows("guidance", round_index, rows)

    def _sequence(
        self,
        document: TokenizedDocument,
        row: int,
        hidden: Float[Tensor, "time width"],
        positions: Int[Tensor, " step"],
        is_penalised: Bool[Tensor, " step"],
        losses: TokenLosses,
        guided: Guidance,
    ) -> None:
        length = len(positions) + 1
        token_ids = torch.tensor(document.token_ids, device=hidden.device)
        model = self.world.policy.backbone.model
        policy_lp = logits(model, hidden[: length - 1]).log_softmax(dim=-1)
        base_model = self.world.base.backbone.model
        base_hidden = hidden_states(base_model, token_ids[None])[0, :-1]
        base_lp = logits(base_model, base_hidden).log_softmax(dim=-1)
        inside = positions[is_penalised]
        guided_lp = guided(inside, lambda: policy_lp[is_penalised])
        log_r = guided.token_log_r()[row]
        where = {p: i for i, p in enumerate(is_penalised.nonzero()[:, 0].tolist())}
        entropies = entropy(policy_lp)
        shared = {
            "sequence_id": document.document_id,
            "source": "rollout" if document.is_rollout else "corpus",
            "policy_version": self.policy_version,
            "oracle_version": self.oracle_version,
            "kl_logged": float(losses.kl_guided_policy[inside].cpu().double().sum()),
        }
        # Nothing predicts the first token, but without it the text could not be read again.
        self._pending.append({**shared, **self._named(0, token_ids), "in_loss": False})
        for index in range(length - 1):
            token = int(token_ids[index + 1])
            q = guided_lp[where[index]] if index in where else None
            place = index + 1 - document.response_start
            self._pending.append(
                {
                    **shared,
                    **self._named(index + 1, token_ids),
                    "logprob_base": float(base_lp[index, token]),
                    "logprob_policy": float(policy_lp[index, token]),
                    "logprob_guided": None if q is None else float(q[token]),
                    "log_r": None if q is None else float(log_r[place]),
                    "kl_guided_policy": None
                    if q is None
                    else float(losses.kl_guided_policy[positions[index]]),
                    "entropy": float(entropies[index]),
                    "in_loss": q is not None,
                    "alternatives": self._alternatives(base_lp[index], policy_lp[index], q),
                }
            )

    def _named(self, position: int, token_ids: Int[Tensor, " time"]) -> dict[str, Any]:
        token = int(token_ids[position])
        return {
            "position": position,
            "token_id": token,
            "token_text": self.world.decode([token]),
        }

    def _alternatives(self, base: Tensor, policy: Tensor, guided: Tensor | None) -> str:
        sides = {"base": base, "policy": policy}
        if guided is not None:
            sides["guided"] = guided
        ids = sorted(
            {int(i) for side in sides.values() for i in side.topk(min(TOP, len(side))).indices}
        )
        rows = [
            {
                "id": token,
                "text": self.world.decode([token]),
                **{name: round(float(side[token]), 5) for name, side in sides.items()},
            }
            for token in ids
        ]
        return json.dumps(rows)
