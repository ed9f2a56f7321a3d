"""How far a policy has gone from another, on its own responses: KL over the whole vocabulary."""

from collections.abc import Sequence
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor

from acft.backbone.forward import logits
from acft.backbone.sharded import is_sharded
from acft.data import TokenizedDocument, collate, micro_batches, pad_token
from acft.decoding.base import DecodedPolicy
from acft.distributed import ranks
from acft.objective import kl_divergence
from acft.policy import Policy
from acft.totals import Totals
from acft.types import Rollout, TokenBatch

BATCH_RESPONSES = 8
"""Read in one forward pass; bounds the memory of [positions, vocab]."""


def kl_totals(sampler: Policy | DecodedPolicy, base: Policy, rollouts: Sequence[Rollout]) -> Totals:
    """KL(sampler ‖ base) in nats a token over the sampler's own responses, by prompt.

    Unlike the mean log ratio of the tokens drawn it is never negative, and it varies less.

    Args:
        sampler: Drew the responses at temperature 1 from the whole vocabulary.
        base: Reads the same tokens.
        rollouts: What was drawn; empty responses are left out.

    Source: arXiv:2504.10637, the Rao-Blackwellised estimator.
    """
    kept = [rollout for rollout in rollouts if rollout.response_ids]
    batches = list(micro_batches(kept, BATCH_RESPONSES))
    policy = sampler.policy if isinstance(sampler, DecodedPolicy) else sampler
    # processes that hold parts of the weights must read together
    is_shared = not any(is_sharded(each.backbone.model) for each in (policy, base))

    @torch.no_grad()
    def work(some: Sequence[Rollout]) -> list[float]:
        documents = [TokenizedDocument.of(rollout, "attribute") for rollout in some]
        longest = max(len(rollout.response_ids) for rollout in some)
        batch = collate(documents, pad_token(base.backbone.tokenizer), longest).to(base.device)
        if isinstance(sampler, DecodedPolicy):
            return _decoded_kl(sampler, base, batch).double().tolist()
        return _plain_kl(sampler, base, batch).double().tolist()

    own = base.workers.map(work, ranks().share(batches) if is_shared else batches)
    sums = chain.from_iterable(ranks().joined(own) if is_shared else own)
    lengths = [len(rollout.response_ids) for rollout in kept]
    return Totals.of_rows([rollout.prompt_id for rollout in kept], list(sums), lengths)


def _plain_kl(policy: Policy, base: Policy, batch: TokenBatch) -> Float[Tensor, " batch"]:
    """The KL of each response, summed over its tokens."""
    mask = batch.response_mask[:, 1:]
    ours, theirs = (
        logits(each.backbone.model, each.hidden(batch)[:, :-1][mask]).log_softmax(dim=-1)
        for each in (policy, base)
    )
    kl = torch.zeros_like(mask, dtype=torch.float32)
    kl[mask] = kl_divergence(ours, theirs)
    return kl.sum(dim=1)


def _decoded_kl(sampler: DecodedPolicy, base: Policy, batch: TokenBatch) -> Float[Tensor, " batch"]:
    """The same of what a decoder draws from."""
    hidden, rows = base.hidden(batch), torch.arange(len(batch.token_ids), device=base.device)
    total = torch.zeros(len(rows), device=base.device)
    for step in sampler.steps(batch):
        theirs = logits(base.backbone.model, hidden[rows, step.before]).log_softmax(dim=-1)
        total += torch.where(step.is_there, kl_divergence(step.next_logprobs, theirs), 0.0)
    return total
