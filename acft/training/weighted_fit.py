"""Optimiser steps on responses that weigh differently, with an optional pull to the base policy."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import torch
from jaxtyping import Float, Int
from torch import Tensor

from acft.backbone.forward import logits
from acft.chunked import Penalty, PolicyLogprobs
from acft.data import TokenizedDocument, collate, endless_passes, micro_batches, pad_token
from acft.seeding import derive_seed
from acft.training.fit_job import Piece, Sums, numbered, take_steps
from acft.training.optimization import PolicyOptimizer
from acft.training.outputs import Output
from acft.training.world import World
from acft.types import TokenBatch


@dataclass(frozen=True)
class Weighted:
    """A response and its weight in the loss."""

    document: TokenizedDocument
    """Its loss starts where its response does."""
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
        """Weight of the one KL that stands for both terms."""
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
    weigh: Callable[[Sequence[Weighted]], Sequence[Weighted]] = lambda chosen: chosen,
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[Output, None, None]:
    """Losses and progress of one round's steps on ``responses``; the policy is updated in place.

    Args:
        world: Policy and base.
        optimizer: Takes the steps.
        responses: Chosen from by each step.
        round_index: From 1.
        pull: To the base policy.
        weigh: Gives the responses of a step other weights when it begins, by the policy as it is
            then.
        should_stop: Asked before each step.

    Raises:
        NonFiniteError: Loss or gradient is NaN or infinite.
    """
    size = world.run.optimizer.micro_batch_size
    batches = _batches(world, responses, round_index)
    steps = (_pieces(weigh(chosen), size, pull) for chosen in batches)
    yield from take_steps(world, optimizer, steps, round_index, _kls, should_stop=should_stop)


def _batches(
    world: World, responses: Sequence[Weighted], round_index: int
) -> Iterator[list[Weighted]]:
    """Endless batches from one seeded permutation of the responses after the other."""
    seed = derive_seed(world.run.seed, "weighted-responses", round_index)
    places = endless_passes(len(responses), seed)
    while True:
        yield [responses[index] for index in islice(places, world.run.optimizer.batch_size)]


def _pieces(chosen: Sequence[Weighted], size: int, pull: BasePull | None) -> list[Piece]:
    """One step's responses in forward passes; both terms are divided by the step's tokens."""
    n_tokens = sum(item.document.n_loss_tokens for item in chosen)
    return [
        Piece(
            [item.document for item in some],
            [item.weight / n_tokens for item in some],
            [pull.weight / n_tokens if pull is not None else 0.0] * len(some),
            partial(_penalty, pull.exponent, some) if pull is not None else None,
            asks_model=pull is not None,
        )
        for some in micro_batches(chosen, size)
    ]


def _penalty(
    exponent: float,
    some: Sequence[Weighted],
    world: World,
    _batch: TokenBatch,
    _hidden: Float[Tensor, "batch time width"],
    kl_weights: Float[Tensor, " position"],
) -> Penalty:
    """KL to the base policy at a raised temperature, which sees prompts of its own."""
    base = world.base
    documents = [item.seen_by_base or item.document for item in some]
    batch = collate(documents, pad_token(base.backbone.tokenizer), world.horizon)
    aligned = numbered(batch)
    chosen = aligned.values[aligned.mask_response].to(base.device)
    with torch.no_grad():
        hidden = base.hidden(batch.to(base.device)).flatten(0, 1)[chosen]
    # the same responses in the same order, whatever stands before them
    row = (kl_weights != 0).cumsum(0) - 1

    @torch.no_grad()
    def raised(
        positions: Int[Tensor, " position"], _: PolicyLogprobs
    ) -> Float[Tensor, "position vocab"]:
        next_logprobs = logits(base.backbone.model, hidden[row[positions]]).log_softmax(dim=-1)
        return (exponent * next_logprobs).log_softmax(dim=-1)

    return Penalty(kl_weights, raised, "policy_guided")


def _kls(sums: Sums, _: str) -> dict[str, float]:
    return {"policy/kl_policy_target": sums.kl_policy_guided / sums.n_kl} if sums.n_kl else {}
