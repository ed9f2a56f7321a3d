"""The KL term of a round, and the guided policy's log-probabilities where it is taken."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from acft.backbone.forward import logits
from acft.chunked import KlDirection, Penalty, PolicyLogprobs
from acft.data import TokenizedDocument
from acft.objective import (
    guided_next_logprobs,
    guided_next_logprobs_soft,
    log_reach,
    prompt_log_r,
)
from acft.policy import Policy
from acft.training.oracle_job import Guide
from acft.training.sparse import CachedGuidance, key_of
from acft.training.world import World
from acft.types import TokenBatch
from acft.windows import response_windows

REACH_MAX = 5.0
"""Cut of the prefix weights; they rarely pass 1 / R(prompt)."""
REACH_ROWS = 64
"""Prefixes whose whole next-token distributions are held at once to find the weights."""


@dataclass(frozen=True)
class Regularizer:
    """The KL term of one round: towards which q, how strongly, on which texts."""

    guide: Guide
    anchor: Policy | None
    """Snapshot whose p builds q; None re-tilts the policy itself at every step."""
    kl_weight: float
    kl: KlDirection = "guided_policy"
    delta: float = 1.0
    is_adaptive: bool = True
    on_corpus: bool = True
    """Whether corpus documents carry the KL."""
    is_reach_weighted: bool = False
    """Whether each prefix weighs as much as the guided policy is likelier to reach it."""
    sampled: Sequence[tuple[TokenizedDocument, float]] = ()
    """Documents that carry only the KL, with their importance weights."""

    def applies_to(self, document: TokenizedDocument) -> bool:
        """Whether a corpus document carries the KL."""
        return self.on_corpus and (not self.is_adaptive or document.domain == "attribute")

    def knows(self, documents: Iterable[TokenizedDocument]) -> bool:
        """Whether guidance of all these documents was precomputed."""
        return all(key_of(document) in self.guide.precomputed for document in documents)

    def penalty(
        self,
        documents: Sequence[TokenizedDocument],
        penalised: Sequence[int],  # indices of documents
        world: World,
        batch: TokenBatch,
        hidden: Float[Tensor, "batch time width"],
        kl_weights: Float[Tensor, " position"],
    ) -> Penalty:
        """The KL term of a batch of documents; guidance is computed unless it is known."""
        if self.knows(documents[index] for index in penalised):
            mask_all = batch.attention_mask[:, 1:]
            guided = CachedGuidance(documents, self.guide.precomputed, mask_all, world.horizon)
        else:
            guided = ComputedGuidance(world, documents, batch, hidden, self, penalised)
        if self.is_reach_weighted:
            kl_weights = kl_weights * guided.reach()
        return Penalty(kl_weights, guided, self.kl)


def limited_reach(log_reach: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
    """Weights of prefixes from their log reach, cut at ``REACH_MAX``."""
    return log_reach.exp().clamp(max=REACH_MAX)


class ComputedGuidance:
    """Guided log-probabilities at chosen positions, a few at a time.

    The anchor and the oracle read only the penalised documents, up to the horizon. At positions
    elsewhere the values mean nothing; no KL is taken there.
    """

    def __init__(
        self,
        world: World,
        documents: Sequence[TokenizedDocument],
        batch: TokenBatch,
        hidden: Float[Tensor, "batch time width"] | None,  # the policy's; not read with an anchor
        regularizer: Regularizer,
        penalised: Sequence[int] | None = None,  # indices of documents; all of them by default
    ) -> None:
        self._regularizer = regularizer
        guide = regularizer.guide
        chosen = range(len(documents)) if penalised is None else penalised
        read = [documents[index] for index in chosen]
        end = max(document.response_start for document in read) + world.horizon
        kept = torch.tensor(chosen, device=batch.token_ids.device)
        # causal models say the same of a beginning, whatever follows it
        beginnings = batch.cut(kept, end)
        with torch.no_grad():
            source = regularizer.anchor or world.policy
            self._model = source.backbone.model
            if regularizer.anchor is not None:
                self._hidden = regularizer.anchor.hidden(beginnings)
            else:
                assert hidden is not None
                self._hidden = hidden[kept, :end]
            self._starts = torch.tensor([d.response_start for d in read], device=kept.device)
            window = response_windows(beginnings, self._hidden, self._starts, world.horizon)
            if world.reads_verdicts:
                window.verdicts.copy_(world.document_verdicts(read))
            if guide.oracle.training:
                guide.oracle.eval()
            self._states = guide.oracle.states(window)
            self._token_ids, self._is_there = window.token_ids, window.mask
            self._rare = world.run.oracle.rare
            self._log_r_prompt = self._prompts() if regularizer.delta < 1.0 else None
        self._row_of = torch.zeros(len(documents), dtype=torch.long, device=kept.device)
        self._row_of[kept] = torch.arange(len(kept), device=kept.device)
        rows, times = torch.nonzero(batch.attention_mask[:, 1:], as_tuple=True)
        self._rows, self._times = self._row_of[rows], times

    @torch.no_grad()
    def __call__(
        self, positions: Int[Tensor, " row"], policy: PolicyLogprobs
    ) -> Float[Tensor, "row vocab"]:
        """Log-probabilities of the guided policy."""
        # without a snapshot the anchor's are the policy's, which the loss needs anyway
        return self.beside_anchor(positions, None if self._regularizer.anchor else policy)[1]

    @torch.no_grad()
    def beside_anchor(
        self,
        positions: Int[Tensor, " row"],
        anchor: PolicyLogprobs | None = None,  # by default from the hidden states
    ) -> tuple[Float[Tensor, "row vocab"], Float[Tensor, "row vocab"]]:
        """Log-probabilities of the anchor and of the guided policy."""
        rows, times = self._rows[positions], self._times[positions]
        window_index = times - self._starts[rows] + 1
        next_logprobs = anchor() if anchor else self._anchor(rows, window_index)
        return next_logprobs, self._guided(rows, window_index, next_logprobs)

    def _anchor(
        self, rows: Int[Tensor, " row"], window_index: Int[Tensor, " row"]
    ) -> Float[Tensor, "row vocab"]:
        """The anchor after each prefix, told by its document and where it ends in the window."""
        times = self._starts[rows] + window_index - 1
        return logits(self._model, self._hidden[rows, times]).log_softmax(dim=-1)

    def _guided(
        self,
        rows: Int[Tensor, " row"],
        window_index: Int[Tensor, " row"],
        next_logprobs: Float[Tensor, "row vocab"],
    ) -> Float[Tensor, "row vocab"]:
        """The guided policy there, from the anchor."""
        next_log_r = self._regularizer.guide.oracle.next_log_r(self._states[rows, window_index])
        strength, rare = self._regularizer.guide.strength, self._rare
        if self._log_r_prompt is None:
            return guided_next_logprobs(next_logprobs, next_log_r, strength, rare)
        delta, log_r_prompt = self._regularizer.delta, self._log_r_prompt[rows]
        return guided_next_logprobs_soft(
            next_logprobs, next_log_r, delta, log_r_prompt, strength, rare
        )

    @torch.no_grad()
    def reach(self) -> Float[Tensor, " position"]:
        """How much likelier the guided policy is to come to each position's prefix than p is.

        This turns an average over p's prefixes into one over those of q.
        """
        tokens, is_there = self._token_ids[:, 1:], self._is_there[:, 1:]
        gained = torch.zeros(tokens.shape, device=tokens.device)
        for rows, window_index in zip(
            *(each.split(REACH_ROWS) for each in torch.nonzero(is_there, as_tuple=True)),
            strict=True,
        ):
            anchor = self._anchor(rows, window_index)
            guided = self._guided(rows, window_index, anchor)
            ratios = (guided - anchor).gather(1, tokens[rows, window_index, None])
            gained[rows, window_index] = ratios[:, 0].float()
        reach = log_reach(gained)
        window_index = (self._times - self._starts[self._rows] + 1).clamp(0, reach.shape[1] - 1)
        return limited_reach(reach[self._rows, window_index])

    @torch.no_grad()
    def token_log_r(self) -> Float[Tensor, "batch horizon"]:
        """log R of each prefix that ends in a response token."""  # noqa: D403
        oracle = self._regularizer.guide.oracle
        return oracle.response_log_r(self._states, self._token_ids)[self._row_of]

    def _prompts(self) -> Float[Tensor, " batch"]:
        rows = torch.arange(len(self._starts), device=self._starts.device)
        hidden = self._hidden[rows, self._starts - 1]
        return prompt_log_r(
            logits(self._model, hidden).log_softmax(dim=-1),
            self._regularizer.guide.oracle.next_log_r(self._states[:, 0]),
        )
