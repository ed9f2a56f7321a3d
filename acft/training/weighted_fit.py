"""Optimiser steps on responses that weigh differently, with an optional pull to the base policy."""

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from acft.backbone.forward import logits
from acft.backbone.sharded import is_sharded
from acft.chunked import Penalty, PolicyLogprobs
from acft.data import TokenizedDocument, collate, micro_batches, pad_token
from acft.distributed import ranks, settled
from acft.errors import NonFiniteError
from acft.events import Progress, Scalars
from acft.objective import align
from acft.seeding import derive_seed
from acft.training.fit_job import losses_at
from acft.training.optimization import PolicyOptimizer, accumulate
from acft.training.outputs import Output
from acft.training.world import World
from acft.types import TokenBatch

Parts = tuple[float, float, float]
"""Loss, negative log-likelihood and KL, summed; nats."""
NOTHING: Parts = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Weighted:
    """A response and its weight in the loss."""

    document: TokenizedDocument
    weight: float = 1.0
    seen_by_base: TokenizedDocument | None = None
    """The same response after the prompt that the base policy sees, where that is another one."""


@dataclass(frozen=True)
class BasePull:
    """The terms ``kl·KL(policy ‖ base) - entropy·H(policy)`` at every response position.

    Source: derived; up to a constant they are ``(kl + entropy)·KL(policy ‖ t)`` with t the base
    policy at a raised temperature, t ∝ base^(kl / (kl + entropy)).
    """

    kl: float
    entropy: float = 0.0

    @property
    def weight(self) -> float:
        """Of the one KL that stands for both terms."""
        return self.kl + self.entropy

    @property
    def exponent(self) -> float:
        """Of the base policy's probabilities in that KL's target."""
        return self.kl / self.weight


def weighted_fit(
    world: World,
    optimizer: PolicyOptimizer,
    responses: Sequence[Weighted],
    round_index: int,
    *,
    pull: BasePull | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[Output, None, None]:
    """Losses and progress of one round's steps on ``responses``; the policy is updated in place.

    Raises:
        NonFiniteError: Loss or gradient is NaN or infinite.
    """
    settings = world.run.optimizer
    batches = _batches(world, responses, round_index)
    for number in range(1, settings.steps_per_round + 1):
        if settled(should_stop):
            return
        started = time.monotonic()
        step = optimizer.finished + 1
        chosen = next(batches)
        n_tokens = sum(len(_response_ids(item.document)) for item in chosen)
        pieces = list(micro_batches(chosen, settings.micro_batch_size))
        passes = [
            partial(_forward if counts else _idle, world, some, pull, n_tokens)
            for some, counts in _share(world, pieces)
        ]
        found = accumulate(world, passes, step)
        totals = [sum(column) for column in zip(NOTHING, *found, strict=True)]
        loss, all_nll, all_kl = ranks().sums(totals)
        if not math.isfinite(loss):
            raise NonFiniteError(f"the loss is {loss} in step {step}; lower [optimizer] lr")
        seconds = time.monotonic() - started
        values = {
            "policy/loss": loss,
            "policy/lr": optimizer.lr,
            "policy/grad_norm": optimizer.step(),
            "policy/ce": all_nll / n_tokens,
            "policy/tokens": float(sum(len(item.document.token_ids) for item in chosen)),
            "time/step_seconds": seconds,
            "time/tokens_per_second": n_tokens / seconds,
        }
        if pull is not None:
            values["policy/kl_policy_target"] = all_kl / n_tokens
        yield Scalars(round_index, step, values)
        yield Progress("fit_policy", number, settings.steps_per_round, round_index)
    world.policy.version = round_index


def _batches(
    world: World, responses: Sequence[Weighted], round_index: int
) -> Iterator[list[Weighted]]:
    """Endless batches from one seeded permutation of the responses after the other."""
    seed = derive_seed(world.run.seed, "weighted-responses", round_index)
    generator = torch.Generator().manual_seed(seed)
    waiting: list[int] = []
    while True:
        while len(waiting) < world.run.optimizer.batch_size:
            waiting += torch.randperm(len(responses), generator=generator).tolist()
        size = world.run.optimizer.batch_size
        yield [responses[index] for index in waiting[:size]]
        waiting = waiting[size:]


def _forward(
    world: World, some: Sequence[Weighted], pull: BasePull | None, n_tokens: int
) -> tuple[Float[Tensor, ""], Parts]:
    """Loss of a few responses, and what they add to the step's sums."""
    policy = world.policy
    policy.backbone.model.train()
    batch = _collated(world, [item.document for item in some])
    aligned = align(batch, policy.hidden(batch))
    mask = aligned.mask_response
    counts = mask.sum(dim=1).tolist()
    weights = [item.weight for item, count in zip(some, counts, strict=True) for _ in range(count)]
    nll_weights = torch.tensor(weights, device=policy.device) / n_tokens
    penalty = None
    if pull is not None:
        seen = _collated(world, [item.seen_by_base or item.document for item in some])
        kl_weights = torch.full_like(nll_weights, pull.weight / n_tokens)
        penalty = Penalty(kl_weights, _BasePower(world, seen, pull.exponent), "policy_guided")
    losses = losses_at(policy, aligned.values[mask], aligned.targets[mask], nll_weights, penalty)
    total = losses.total.sum()
    return total, (
        float(total.detach()),
        float(losses.nll.sum()),
        float(losses.kl_policy_guided.sum()),
    )


def _share(
    world: World, pieces: Sequence[Sequence[Weighted]]
) -> list[tuple[Sequence[Weighted], bool]]:
    """This process's pieces of a step and whether each counts; see ``Ranks.share_evenly``."""
    if is_sharded(world.policy.backbone.model):
        return ranks().share_evenly(pieces)
    return [(piece, True) for piece in ranks().share(pieces)]


def _idle(
    world: World, some: Sequence[Weighted], pull: BasePull | None, n_tokens: int
) -> tuple[Float[Tensor, ""], Parts]:
    """A pass that is only done along with those of other processes."""
    loss, _ = _forward(world, some, pull, n_tokens)
    return 0.0 * loss, NOTHING


class _BasePower:
    """The base policy at a raised temperature, at chosen response positions."""

    def __init__(self, world: World, batch: TokenBatch, exponent: float) -> None:
        self._model = world.base.backbone.model
        self._exponent = exponent
        with torch.no_grad():
            aligned = align(batch, world.base.hidden(batch))
        self._hidden = aligned.values[aligned.mask_response]

    @torch.no_grad()
    def __call__(
        self, positions: Int[Tensor, " row"], _: PolicyLogprobs
    ) -> Float[Tensor, "row vocab"]:
        next_logprobs = logits(self._model, self._hidden[positions]).log_softmax(dim=-1)
        return (self._exponent * next_logprobs).log_softmax(dim=-1)


def _collated(world: World, documents: Sequence[TokenizedDocument]) -> TokenBatch:
    backbone = world.policy.backbone
    batch = collate(documents, pad_token(backbone.tokenizer), world.horizon)
    return batch.to(world.policy.device)


def _response_ids(document: TokenizedDocument) -> tuple[int, ...]:
    return document.token_ids[document.response_start :]
