"""The LLM box of the paper's figure 2: cross-entropy on a corpus plus KL to the guided policy."""

import itertools
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acft.backbone.forward import has_plain_head, logits, output_head
from acft.backbone.sharded import is_sharded, uneven_passes
from acft.chunked import Head, Penalty, TokenLosses, token_losses
from acft.data import (
    TokenizedDocument,
    balanced_batches,
    collate,
    micro_batches,
    mixture,
    pad_token,
)
from acft.distributed import ranks, settled
from acft.errors import NonFiniteError
from acft.events import Phase, Progress, Scalars
from acft.objective import Aligned, align
from acft.policy import Policy
from acft.seeding import derive_seed
from acft.training.guidance import ForwardPass, GuidanceTap
from acft.training.optimization import PolicyOptimizer, accumulate
from acft.training.outputs import Output
from acft.training.regularizer import Regularizer
from acft.training.world import World
from acft.types import TokenBatch


@dataclass(frozen=True)
class Piece:
    """Documents of one forward pass with their weights in the loss."""

    documents: Sequence[TokenizedDocument]
    ce_weights: Sequence[float]
    """Of every loss token of each document; already divided by the step's number of them."""
    kl_weights: Sequence[float]
    """Of every response token of each document; likewise."""
    penalty: Callable[[World, TokenBatch, Tensor, Tensor], Penalty] | None = None
    """The KL term, given the batch, the policy's hidden states and each position's weight."""
    asks_model: bool = False
    """Whether a frozen model is asked for that term."""
    is_counted: bool = True
    """False for a pass that only keeps the processes of a sharded model in step."""

    @property
    def n_padded(self) -> int:
        """Tokens that are read, padding included."""
        return len(self.documents) * max(len(document.token_ids) for document in self.documents)


@dataclass
class Sums:
    """What one optimiser step adds up over its forward passes."""

    nll: float = 0.0
    kl_guided_policy: float = 0.0
    kl_policy_guided: float = 0.0
    loss: float = 0.0
    n_tokens: int = 0
    n_kl: int = 0
    n_read: int = 0
    """Tokens of all documents, prompts and KL-only ones included."""
    documents: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        losses: TokenLosses,
        ce_mask: Bool[Tensor, " position"],
        kl_mask: Bool[Tensor, " position"],
        documents: Sequence[TokenizedDocument],
    ) -> "Sums":
        """Of one forward pass, fetched from a GPU all at once."""
        values = [
            torch.where(ce_mask, losses.nll, 0.0).sum(),
            torch.where(kl_mask, losses.kl_guided_policy, 0.0).sum(),
            torch.where(kl_mask, losses.kl_policy_guided, 0.0).sum(),
            losses.total.detach().sum(),
            ce_mask.sum(),
            kl_mask.sum(),
        ]
        *nats, n_tokens, n_kl = torch.stack(values).tolist()
        return cls(
            *nats,
            n_tokens=int(n_tokens),
            n_kl=int(n_kl),
            n_read=sum(len(document.token_ids) for document in documents),
            documents=[document.document_id for document in documents],
        )

    def __add__(self, other: "Sums") -> "Sums":
        names = [item.name for item in fields(self)]
        return Sums(**{name: getattr(self, name) + getattr(other, name) for name in names})

    def over_ranks(self) -> "Sums":
        """The step's sums when its forward passes were shared out; names stay each process's."""
        names = [item.name for item in fields(self) if item.name != "documents"]
        values = ranks().sums([getattr(self, name) for name in names])
        return replace(self, **dict(zip(names, values, strict=True)))


def fit_job(
    world: World,
    optimizer: PolicyOptimizer,
    regularizer: Regularizer | None,
    round_index: int,
    *,
    ce_weight: float = 1.0,
    tap: GuidanceTap | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[Output, None, None]:
    """Losses and progress of one round's optimiser steps; the policy is updated in place.

    Raises:
        NonFiniteError: Loss or gradient is NaN or infinite, or the KL exceeds ``limits.kl_max``.
    """
    settings = world.run.optimizer
    first = (round_index - 1) * settings.steps_per_round
    batches = itertools.repeat(())  # where own responses are all that is learned from
    if world.corpora:
        batches = mixture(
            world.corpora,
            world.run.schedule.rounds * settings.steps_per_round,
            settings.batch_size,
            derive_seed(world.run.seed, "mixture"),
            start=first,
        )
    extra = _sampled_batches(world, regularizer, round_index)
    steps = (
        _pieces(documents, sampled, regularizer, settings.micro_batch_size, ce_weight)
        for documents, sampled in zip(batches, extra, strict=False)
    )
    kls = partial(_kls, regularizer, world.run.limits.kl_max)
    yield from take_steps(
        world, optimizer, steps, round_index, kls, tap=tap, should_stop=should_stop
    )


def take_steps(
    world: World,
    optimizer: PolicyOptimizer,
    steps: Iterator[Sequence[Piece]],
    round_index: int,
    kls: Callable[[Sums, str], dict[str, float]],
    *,
    tap: GuidanceTap | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[Output, None, None]:
    """Losses and progress of one round's optimiser steps; the policy is updated in place.

    Args:
        steps: The forward passes of each step, made when it begins.
        kls: Names and values of a step's KLs, given its sums and what errors call the step.

    Raises:
        NonFiniteError: Loss or gradient is NaN or infinite, or ``kls`` finds a KL too large.
    """
    n_steps = world.run.optimizer.steps_per_round
    # once, since walking over all modules takes as long as a small forward pass on a GPU
    model = world.policy.backbone.model.train()
    is_divided = is_sharded(model)
    for number in range(1, n_steps + 1):
        if settled(should_stop):
            return
        started = time.monotonic()
        step = optimizer.finished + 1
        own = _share(next(steps), even=is_divided)
        keeps = tap is not None and number == 1
        passes = [partial(_forward, world, piece, keeps=keeps) for piece in own]
        found = accumulate(world, passes, step)
        sums = sum((done.added() for done in found), Sums()).over_ranks()
        where = f"in step {step} (documents {', '.join(sums.documents[:4])}, ...)"
        if not math.isfinite(sums.loss):
            raise NonFiniteError(
                f"the loss is {sums.loss} {where}; lower [optimizer] lr or [method] kl_weight"
            )
        if tap is not None and keeps:
            # precomputed guidance lets a process without penalty stand beside one with it
            with uneven_passes(world.base.backbone.model):
                tap.take(done.seen for done in found if done.seen is not None)
        means = kls(sums, where)
        if sums.n_tokens:
            means["policy/ce"] = sums.nll / sums.n_tokens
        scalars = {
            "policy/loss": sums.loss,
            "policy/lr": optimizer.lr,
            "policy/grad_norm": optimizer.step(),
            "policy/tokens": float(sums.n_read),
            **means,
            "time/step_seconds": time.monotonic() - started,
            "time/tokens_per_second": sums.n_tokens / (time.monotonic() - started),
        }
        yield Scalars(round_index, step, scalars)
        yield Progress(Phase.FIT_POLICY, number, n_steps, round_index)
        if tap is not None and number == 1:
            yield from tap.rows(round_index, step)
    world.policy.version = round_index


@dataclass(frozen=True)
class _Done:
    """What a forward pass leaves beside its loss."""

    added: Callable[[], Sums] = Sums
    """Tells what it adds to the step's sums. The call waits for a GPU, so it is made when all
    passes of the step are under way."""
    seen: ForwardPass | None = None
    """Where it is kept, and a KL was taken."""


def _forward(world: World, piece: Piece, *, keeps: bool = False) -> tuple[Float[Tensor, ""], _Done]:
    """Loss of one piece, and what else is asked of it; ``keeps`` what a tap reads."""
    policy, device = world.policy, world.policy.device
    batch = collate(piece.documents, pad_token(policy.backbone.tokenizer), world.horizon)
    aligned = numbered(batch)
    inside, carries_loss = aligned.mask_all, _carries_loss(piece.documents, batch)
    ce_weights = (torch.tensor(piece.ce_weights)[:, None] * carries_loss)[inside]
    kl_weights = (torch.tensor(piece.kl_weights)[:, None] * aligned.mask_response)[inside]
    has_kl = bool((kl_weights != 0).any())
    batch, ce_weights, kl_weights = batch.to(device), ce_weights.to(device), kl_weights.to(device)
    # before the forward pass, since a copy from the CPU waits for what the GPU has been given
    chosen, targets = aligned.values[inside].to(device), aligned.targets[inside].to(device)
    hidden = policy.hidden(batch)
    penalty = None
    if piece.penalty is not None and has_kl:
        penalty = piece.penalty(world, batch, hidden.detach(), kl_weights)
        kl_weights = penalty.weights
    losses = losses_at(policy, hidden.flatten(0, 1)[chosen], targets, ce_weights, penalty)
    if not piece.is_counted:
        return 0.0 * losses.total.sum(), _Done()
    added = partial(Sums.of, losses, ce_weights != 0, kl_weights != 0, piece.documents)
    seen = None
    if keeps and penalty is not None:
        seen = ForwardPass.of(piece.documents, inside, hidden, losses, penalty)
    return losses.total.sum(), _Done(added, seen)


def numbered(batch: TokenBatch) -> Aligned:
    """Index of each prediction among the hidden states of a batch, counted over all its rows.

    For a batch on the CPU: positions are picked there, so that nobody waits for a GPU.
    """
    return align(batch, torch.arange(batch.token_ids.numel()).view(batch.token_ids.shape))


def _carries_loss(
    documents: Sequence[TokenizedDocument], batch: TokenBatch
) -> Float[Tensor, "batch step"]:
    """1 where the next token is part of the cross-entropy."""
    starts = torch.tensor([document.loss_start for document in documents])
    positions = torch.arange(1, batch.token_ids.shape[1])
    return (positions >= starts[:, None]).float()


def losses_at(
    policy: Policy,
    hidden: Float[Tensor, "position width"],
    targets: Int[Tensor, " position"],
    ce_weights: Float[Tensor, " position"],
    penalty: Penalty | None,
) -> TokenLosses:
    """Token losses of a policy, whatever its output head."""
    model = policy.backbone.model
    function = None if has_plain_head(model) else partial(logits, model)
    head = Head(tuple(output_head(model).parameters()), function)
    return token_losses(hidden, head, targets, ce_weights, penalty)


def _pieces(
    documents: Sequence[TokenizedDocument],
    sampled: Sequence[tuple[TokenizedDocument, float]],
    regularizer: Regularizer | None,
    size: int,
    ce_weight: float,
) -> list[Piece]:
    """One step's documents in forward passes of similar lengths, the longest first.

    Cross-entropy and KL are divided by all loss tokens of the step, so masking changes what is
    penalised and not how much a token weighs. Documents without any weight are not read.
    """
    n_tokens = sum(document.n_loss_tokens for document in documents)
    kl_weight = regularizer.kl_weight if regularizer is not None else 0.0
    if not ce_weight and regularizer is not None:
        weighing = [document for document in documents if regularizer.applies_to(document)]
        if weighing or sampled:  # a step of nothing still decays weights and moments
            documents = weighing
    pieces = []
    for some in balanced_batches(documents, size):
        weights = [
            kl_weight / n_tokens if regularizer is not None and regularizer.applies_to(d) else 0.0
            for d in some
        ]
        pieces.append(_piece(some, ce_weight / n_tokens, weights, regularizer))
    n_sampled = sum(len(d.token_ids) - d.response_start for d, _ in sampled)
    for some_sampled in micro_batches(sampled, size):
        weights = [kl_weight * weight / n_sampled for _, weight in some_sampled]
        pieces.append(_piece([d for d, _ in some_sampled], 0.0, weights, regularizer))
    return sorted(pieces, key=lambda piece: piece.n_padded, reverse=True)


def _piece(
    documents: Sequence[TokenizedDocument],
    ce_weight: float,
    kl_weights: Sequence[float],
    regularizer: Regularizer | None,
) -> Piece:
    """Documents of one pass whose cross-entropy weighs the same."""
    ce_weights = [ce_weight] * len(documents)
    if regularizer is None:
        return Piece(documents, ce_weights, kl_weights)
    penalised = [index for index, weight in enumerate(kl_weights) if weight]
    is_known = regularizer.knows(documents[index] for index in penalised)
    penalty = partial(regularizer.penalty, documents, penalised)
    return Piece(documents, ce_weights, kl_weights, penalty, asks_model=not is_known)


def _share(pieces: Sequence[Piece], *, even: bool) -> list[Piece]:
    """This process's pieces of a step.

    Processes that hold parts of one model must do the same passes in the same order: as many on
    pieces whose guidance was precomputed, then as many on those that ask a model for it.
    """
    if not even:
        return list(ranks().share(pieces))
    cached = [piece for piece in pieces if not piece.asks_model]
    asking = [piece for piece in pieces if piece.asks_model]
    shared = [*ranks().share_evenly(cached), *ranks().share_evenly(asking)]
    return [replace(piece, is_counted=counted) for piece, counted in shared]


def _sampled_batches(
    world: World, regularizer: Regularizer | None, round_index: int
) -> Generator[Sequence[tuple[TokenizedDocument, float]], None, None]:
    """KL-only documents for each step; nothing where only corpus prefixes are used."""
    sampled = list(regularizer.sampled) if regularizer is not None else []
    if not sampled:
        while True:
            yield []
    generator = torch.Generator().manual_seed(
        derive_seed(world.run.seed, "sampled-prefixes", round_index)
    )
    size = max(1, world.run.optimizer.batch_size // 2)
    while True:
        chosen = torch.randperm(len(sampled), generator=generator)[:size]
        yield [sampled[index] for index in chosen.tolist()]


def _kls(regularizer: Regularizer | None, limit: float, sums: Sums, where: str) -> dict[str, float]:
    """Mean KLs over a step's penalised tokens.

    Raises:
        NonFiniteError: The one that is trained on is above the limit.
    """
    if regularizer is None or not sums.n_kl:
        return {}
    forward, reverse = sums.kl_guided_policy / sums.n_kl, sums.kl_policy_guided / sums.n_kl
    is_forward = regularizer.kl == "guided_policy"
    name = "KL(guided || policy)" if is_forward else "KL(policy || guided)"
    value = forward if is_forward else reverse
    if value > limit:
        raise NonFiniteError(
            f"{name} is {value:.1f} nats a token {where}, above [limits] kl_max = {limit}; lower "
            "[optimizer] lr or [oracle] strength_max"
        )
    return {
        "policy/kl_guided_policy": forward,
        "policy/kl_policy_guided": reverse,
        "policy/kl_weight": regularizer.kl_weight,
    }
