"""Guidance of the texts that a round will train on, computed once before its steps."""

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from acft.data import TokenizedDocument, collate, micro_batches, mixture, pad_token
from acft.distributed import settled
from acft.events import Phase, Progress, Scalars
from acft.objective import kl_divergence, log_reach
from acft.seeding import derive_seed
from acft.training.oracle_job import Guide
from acft.training.outputs import Output
from acft.training.regularizer import ComputedGuidance, Regularizer, limited_reach
from acft.training.sparse import Key, SparseGuidance, key_of, sparsified
from acft.training.world import World
from acft.types import TokenBatch


def precompute_guidance(
    world: World,
    regularizer: Regularizer,
    round_index: int,
    top: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[Output, None, Guide]:
    """Progress while guidance of a round's texts is computed; returns the guide with it.

    A guide that has all of it is returned as it is, and so is one whose work was stopped. The
    scalars say what keeping ``top`` tokens costs: nats a position that the KL from the anchor loses
    because the others are one bucket.
    """
    wanted = {key_of(d): d for d in _documents(world, round_index) if regularizer.applies_to(d)}
    if wanted.keys() <= regularizer.guide.precomputed.keys():
        return regularizer.guide
    # all anew, even where some are there: a resumed run then computes them in the same batches
    computed: dict[Key, SparseGuidance] = {}
    lost: list[Tensor] = []
    by_length = sorted(wanted.values(), key=lambda document: len(document.token_ids))
    batches = list(micro_batches(by_length, world.run.optimizer.micro_batch_size))
    workers = world.base.workers
    for some in micro_batches(batches, max(1, workers.count)):
        if settled(should_stop):
            return regularizer.guide
        for rows, missing in workers.map(partial(_guidance, world, regularizer, top), some):
            computed |= rows
            lost.append(missing)
        yield Progress(Phase.GUIDE, len(computed), len(by_length), round_index, "documents")
    errors = torch.cat(lost)
    yield Scalars(
        round_index,
        0,
        {"guidance/sparse_error": float(errors.mean()), "guidance/error_max": float(errors.max())},
    )
    return replace(regularizer.guide, precomputed=computed)


def _documents(world: World, round_index: int) -> Iterable[TokenizedDocument]:
    settings = world.run.optimizer
    batches = mixture(
        world.corpora,
        round_index * settings.steps_per_round,
        settings.batch_size,
        derive_seed(world.run.seed, "mixture"),
        start=(round_index - 1) * settings.steps_per_round,
    )
    return (document for batch in batches for document in batch)


@torch.no_grad()
def _guidance(
    world: World, regularizer: Regularizer, top: int, documents: Sequence[TokenizedDocument]
) -> tuple[dict[Key, SparseGuidance], Float[Tensor, " position"]]:
    """Guidance of some documents, and the nats it loses at each of their positions."""
    assert regularizer.anchor is not None
    batch = collate(documents, pad_token(regularizer.anchor.backbone.tokenizer), world.horizon)
    batch = batch.to(regularizer.anchor.device)
    guided = ComputedGuidance(world, documents, batch, None, regularizer)
    places = _positions(batch)
    everywhere, sizes = torch.cat(places), [len(some) for some in places]
    p_logprobs, q_logprobs = guided.beside_anchor(everywhere)
    tokens = batch.token_ids[:, 1:][batch.attention_mask[:, 1:]][everywhere, None]
    ratios = (q_logprobs.gather(-1, tokens) - p_logprobs.gather(-1, tokens))[:, 0]
    reach = torch.cat([limited_reach(log_reach(own)[:-1]) for own in ratios.split(sizes)])
    ids, logprobs, tail = sparsified(q_logprobs, top)
    lost = _lost(p_logprobs, q_logprobs, ids).cpu()
    kept = (ids.int(), logprobs, tail, reach)
    token_log_r = guided.token_log_r().cpu()
    parts = zip(*(each.cpu().split(sizes) for each in kept), token_log_r, strict=True)
    rows = [SparseGuidance(*(part.clone() for part in row)) for row in parts]
    return dict(zip(map(key_of, documents), rows, strict=True)), lost


def _positions(batch: TokenBatch) -> list[Tensor]:
    """Of each document, its response positions as numbers among all loss positions."""
    mask_all = batch.attention_mask[:, 1:]
    number = mask_all.flatten().long().cumsum(0).view(mask_all.shape) - 1
    return [row[mask] for row, mask in zip(number, batch.response_mask[:, 1:], strict=True)]


def _lost(
    p_logprobs: Float[Tensor, "step vocab"], q_logprobs: Float[Tensor, "step vocab"], ids: Tensor
) -> Float[Tensor, " step"]:
    """KL(q ‖ p) less the KL of the kept tokens and one bucket; never negative but for rounding."""
    exact = kl_divergence(q_logprobs, p_logprobs)
    buckets = []
    for logprobs in (q_logprobs, p_logprobs):
        others = logprobs.scatter(-1, ids, -torch.inf).logsumexp(dim=-1, keepdim=True)
        buckets.append(torch.cat([logprobs.gather(-1, ids), others], dim=-1))
    q_buckets, p_buckets = buckets
    terms = q_buckets.exp() * (q_buckets - p_buckets)
    return exact - torch.where(q_buckets == -torch.inf, 0.0, terms).sum(dim=-1)
