"""Per-token guidance of a few sequences, as the training pass itself saw them."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from acft.backbone.forward import hidden_states, logits
from acft.chunked import Penalty, TokenLosses
from acft.data import TokenizedDocument
from acft.objective import entropy
from acft.token_text import TokenTexts
from acft.training.outputs import Rows
from acft.training.regularizer import ComputedGuidance
from acft.training.sparse import CachedGuidance
from acft.training.world import World

Guidance = ComputedGuidance | CachedGuidance

TOP = 5
"""Likeliest tokens kept under each of base, policy and guided."""


@dataclass(frozen=True)
class Seen:
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
    ) -> "Seen":
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
    def take(self, passes: Iterable[Seen]) -> None:
        """Keep what is needed of a step's passes; called before the optimiser changes anything."""
        chosen = [sequence for seen in passes for sequence in self._new(seen)]
        for rows in self.world.base.workers.map(self._rows, chosen):
            self._pending += rows

    def _new(self, seen: Seen) -> "Iterator[_Sequence]":
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
        return self._named_rows(sequence, self._read(sequence))

    def _read(self, sequence: "_Sequence") -> "_Read":
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
        size = min(TOP, base_lp.shape[-1])
        top = [side.topk(size).indices for side in (base_lp, policy_lp, guided_lp)]
        top[2] = top[0].index_put((inside,), top[2])  # where nothing guides, no other tokens
        ids = torch.cat([token_ids[1:, None], *top], dim=1)
        return _Read(
            ids.tolist(),
            base_lp.gather(1, ids).tolist(),
            policy_lp.gather(1, ids).tolist(),
            guided_lp.gather(1, ids[inside]).tolist(),
            entropy(policy_lp).tolist(),
        )

    def _named_rows(self, sequence: "_Sequence", read: "_Read") -> list[dict[str, Any]]:
        document, kls = sequence.document, sequence.kl_guided_policy
        shared = {
            "sequence_id": document.document_id,
            "source": "rollout" if document.is_rollout else "corpus",
            "policy_version": self.policy_version,
            "oracle_version": self.oracle_version,
            "kl_logged": float(kls[sequence.is_penalised].double().sum()),
        }
        texts = TokenTexts(self.world.base.backbone.spell)
        # Nothing predicts the first token, but without it the text could not be read again.
        rows = [{**shared, **_named(0, document, texts), "in_loss": False}]
        guided = iter(read.guided)
        flags = sequence.is_penalised.tolist()
        for index, (in_loss, kl) in enumerate(zip(flags, kls.tolist(), strict=True)):
            sides = {"base": read.base[index], "policy": read.policy[index]}
            if in_loss:
                sides["guided"] = next(guided)
            first_response = document.response_start - 1
            alternatives = _alternatives(read.ids[index], sides, texts)  # before the text goes on
            rows.append(
                {
                    **shared,
                    **_named(index + 1, document, texts),
                    "logprob_base": sides["base"][0],
                    "logprob_policy": sides["policy"][0],
                    "logprob_guided": sides["guided"][0] if in_loss else None,
                    "log_r": sequence.log_r[index - first_response] if in_loss else None,
                    "kl_guided_policy": kl if in_loss else None,
                    "entropy": read.entropies[index],
                    "in_loss": in_loss,
                    "alternatives": alternatives,
                }
            )
        return rows


def _named(position: int, document: TokenizedDocument, texts: TokenTexts) -> dict[str, Any]:
    token, is_last = document.token_ids[position], position == len(document.token_ids) - 1
    text = texts.add(token, is_last=is_last)
    return {"position": position, "token_id": token, "token_text": text}


def _alternatives(
    ids: Sequence[int], sides: Mapping[str, Sequence[float]], texts: TokenTexts
) -> str:
    columns = dict(sorted((token, column) for column, token in enumerate(ids) if column))
    rows = [
        {
            "id": token,
            "text": text,
            **{name: round(values[column], 5) for name, values in sides.items()},
        }
        for (token, column), text in zip(columns.items(), texts.peek([*columns]), strict=True)
    ]
    return json.dumps(rows)


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


@dataclass(frozen=True)
class _Read:
    """Log-probabilities of some tokens after each prefix."""

    ids: list[list[int]]
    """The token that follows, then the likeliest ones."""
    base: list[list[float]]
    policy: list[list[float]]
    guided: list[list[float]]
    """Only where the KL is taken."""
    entropies: list[float]
    """Of the policy."""
