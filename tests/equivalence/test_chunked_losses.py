"""The chunked path gives the numbers of the plain one, from a fraction of its memory."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, get_args

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from acft import chunked, objective
from acft.chunked import Head, KlDirection, Penalty, PolicyLogprobs, TokenLosses, token_losses

pytestmark = pytest.mark.equivalence
directions = pytest.mark.parametrize("kl", get_args(KlDirection))
heads = pytest.mark.parametrize("is_capped", [False, True])
N_POSITIONS, WIDTH, VOCAB = 13, 5, 11
CAP = 3.0


@dataclass
class Problem:
    """Hidden states, a head, targets and weights, with positions of every sort."""

    hidden: torch.Tensor
    weights: tuple[torch.Tensor, ...]
    """Of the head: a matrix, and a bias where the head is more than a product."""
    targets: torch.Tensor
    nll_weights: torch.Tensor
    kl_weights: torch.Tensor
    q_logprobs: torch.Tensor
    upstream: torch.Tensor

    def chunked(self, kl: KlDirection, chunk_positions: int | None = 4) -> TokenLosses:
        penalty = Penalty(self.kl_weights, lambda rows, _: self.q_logprobs[rows], kl)
        head = Head(self.weights, self.logits if len(self.weights) > 1 else None)
        return token_losses(
            self.hidden, head, self.targets, self.nll_weights, penalty, chunk_positions
        )

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """A product; a head with a bias also caps what it gives."""
        logits = torch.nn.functional.linear(hidden, *self.weights)
        return (
            logits if len(self.weights) == 1 else CAP * torch.tanh(objective.upcast(logits) / CAP)
        )

    def plain(self, kl: KlDirection) -> TokenLosses:
        """The same losses from the equations, all positions at once."""
        logprobs = objective.upcast(self.logits(self.hidden)).log_softmax(dim=-1)
        nll = objective.nll(logprobs, self.targets)
        guided_policy = objective.kl_divergence(self.q_logprobs, logprobs)
        policy_guided = objective.kl_divergence(logprobs, self.q_logprobs)
        penalty = guided_policy if kl == "guided_policy" else policy_guided
        is_counted, is_penalised = (self.nll_weights + self.kl_weights) != 0, self.kl_weights != 0
        return TokenLosses(
            self.nll_weights * nll + self.kl_weights * penalty,
            nll * is_counted,
            guided_policy * is_penalised,
            policy_guided * is_penalised,
        )

    def gradients(self, losses: TokenLosses) -> list[torch.Tensor]:
        """Gradients for everything trained, with an upstream gradient of its own per position."""
        trained = [t for t in (self.hidden, *self.weights) if t.requires_grad]
        return list(torch.autograd.grad((losses.total * self.upstream).sum(), trained))


def problem(
    dtype: torch.dtype = torch.float32, *, is_head_trained: bool = False, is_capped: bool = False
) -> Problem:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    nll_weights, kl_weights = torch.ones(N_POSITIONS), torch.full((N_POSITIONS,), 0.7)
    kl_weights[::3], nll_weights[::4] = 0, 0
    accumulated = objective.upcast(torch.zeros(0, dtype=dtype)).dtype
    return Problem(
        hidden=normal(N_POSITIONS, WIDTH).to(dtype).requires_grad_(),
        weights=tuple(
            normal(*shape).to(dtype).requires_grad_(is_head_trained)
            for shape in [(VOCAB, WIDTH), (VOCAB,)][: 1 + is_capped]
        ),
        targets=torch.randint(VOCAB, (N_POSITIONS,), generator=generator),
        nll_weights=nll_weights.to(accumulated),
        kl_weights=kl_weights.to(accumulated),
        q_logprobs=normal(N_POSITIONS, VOCAB).to(accumulated).log_softmax(dim=-1),
        upstream=torch.rand(N_POSITIONS, generator=generator).to(accumulated),
    )


def assert_all_close(found: list[Any], expected: list[Any], tolerance: float) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        scale = theirs.abs().max().clamp(min=1.0)
        assert (mine - theirs).abs().max() <= tolerance * scale


def parts(losses: TokenLosses) -> list[torch.Tensor]:
    return [getattr(losses, field.name) for field in fields(losses)]


@directions
@pytest.mark.parametrize("chunk_positions", [1, 4, 13, None])
@pytest.mark.parametrize("is_head_trained", [False, True])
@heads
def test_values_and_gradients_equal_the_plain_ones(kl, chunk_positions, is_head_trained, is_capped):
    case = problem(is_head_trained=is_head_trained, is_capped=is_capped)
    found, expected = case.chunked(kl, chunk_positions), case.plain(kl)
    assert_all_close(parts(found), parts(expected), 1e-5)
    assert_all_close(case.gradients(found), case.gradients(expected), 1e-5)


@directions
@heads
def test_half_precision_equals_the_plain_path_on_the_same_upcast_logits(kl, is_capped):
    case = problem(torch.bfloat16, is_capped=is_capped)
    found, expected = case.chunked(kl), case.plain(kl)
    assert found.total.dtype == torch.float32
    assert_all_close(parts(found), parts(expected), 1e-5)
    assert_all_close(case.gradients(found), case.gradients(expected), 2**-7)


@directions
@pytest.mark.parametrize("is_head_trained", [False, True])
@heads
def test_gradients_equal_finite_differences(kl, is_head_trained, is_capped):
    case = problem(torch.float64, is_head_trained=is_head_trained, is_capped=is_capped)

    def total(hidden: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        case.hidden, case.weights = hidden, weights
        return case.chunked(kl).total

    assert torch.autograd.gradcheck(total, (case.hidden, *case.weights))


@directions
def test_forbidden_tokens_give_finite_values_and_gradients_where_the_plain_path_does(kl):
    case = problem(torch.float64)
    if kl == "guided_policy":
        case.q_logprobs[:, 3] = -torch.inf
    else:
        case.hidden = torch.cat([case.hidden.detach(), torch.ones(N_POSITIONS, 1)], dim=1)
        bias = torch.zeros(VOCAB, 1)
        bias[3] = -torch.inf
        case.weights = (torch.cat([*case.weights, bias], dim=1),)
        case.hidden.requires_grad_()
    case.targets[case.targets == 3] = 4
    case.q_logprobs = case.q_logprobs.log_softmax(dim=-1)
    found, expected = case.chunked(kl), case.plain(kl)
    assert torch.isfinite(found.total).all()
    assert_all_close([found.total], [expected.total], 1e-9)
    (gradient,) = torch.autograd.grad(found.total.sum(), case.hidden)
    assert torch.isfinite(gradient).all() or kl == "policy_guided"


def test_no_penalty_is_the_plain_nll():
    case = problem()
    found = token_losses(case.hidden, Head(case.weights), case.targets, case.nll_weights)
    logprobs = case.logits(case.hidden).log_softmax(dim=-1)
    expected = case.nll_weights * objective.nll(logprobs, case.targets)
    assert_all_close([found.total], [expected], 1e-5)


def test_target_is_asked_only_for_penalised_positions_and_without_gradients():
    case, asked = problem(), []

    def target(rows: torch.Tensor, _: PolicyLogprobs) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        asked.extend(rows.tolist())
        return case.q_logprobs[rows]

    penalty = Penalty(case.kl_weights, target)
    token_losses(case.hidden, Head(case.weights), case.targets, case.nll_weights, penalty)
    assert asked == case.kl_weights.nonzero().flatten().tolist()


def test_no_positions_give_no_losses():
    empty = torch.zeros(0)
    hidden = torch.zeros(0, WIDTH, requires_grad=True)
    losses = token_losses(hidden, Head((torch.zeros(VOCAB, WIDTH),)), empty.long(), empty)
    assert len(losses.total) == 0


def test_chunk_of_no_positions_is_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        problem().chunked("guided_policy", chunk_positions=0)


class PeakMemory(TorchDispatchMode):
    """Most bytes alive at once in tensors made inside the ``with`` block."""

    def __init__(self) -> None:
        super().__init__()
        self.peak_bytes, self._alive_bytes, self._known = 0, 0, set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, n_bytes = storage.data_ptr(), storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self._alive_bytes += n_bytes
        self.peak_bytes = max(self.peak_bytes, self._alive_bytes)
        weakref.finalize(storage, self._forget, key, n_bytes)

    def _forget(self, key: int, n_bytes: int) -> None:
        self._known.discard(key)
        self._alive_bytes -= n_bytes


def peak_bytes(work: Callable[[], Any]) -> int:
    with PeakMemory() as memory:
        work()
    return memory.peak_bytes


@directions
@heads
def test_peak_memory_is_a_tenth_of_the_plain_formulas_tensors(kl, is_capped, monkeypatch):
    """8 × 1024 positions, width 4096 and vocabulary 128k in small: 1/16, 1/64 and 1/64 of it."""
    n_positions, width, vocab = 512, 64, 2048
    monkeypatch.setattr(chunked, "CHUNK_BYTES_CPU", chunked.CHUNK_BYTES // 16 // 64)
    generator = torch.Generator().manual_seed(0)
    hidden, anchor_hidden = torch.randn(2, n_positions, width, generator=generator).bfloat16()
    head_weight = torch.randn(vocab, width, generator=generator).bfloat16()
    oracle_weight = torch.randn(vocab, 8, generator=generator)
    targets = torch.randint(vocab, (n_positions,), generator=generator)
    hidden.requires_grad_()
    ones = torch.ones(n_positions)

    def target(rows: torch.Tensor) -> torch.Tensor:
        anchor_logprobs = (anchor_hidden[rows] @ head_weight.T).float().log_softmax(dim=-1)
        log_r = torch.nn.functional.logsigmoid(anchor_hidden[rows, :8].float() @ oracle_weight.T)
        return objective.guided_next_logprobs(anchor_logprobs, log_r)

    def capped(some: torch.Tensor) -> torch.Tensor:
        return CAP * torch.tanh((some @ head_weight.T).float() / CAP)

    head = Head((head_weight,), capped if is_capped else None)

    def run() -> None:
        penalty = Penalty(ones, lambda rows, _: target(rows), kl)
        token_losses(hidden, head, targets, ones, penalty).total.mean().backward()

    def run_plain() -> None:
        logprobs = (hidden @ head_weight.T).float().log_softmax(dim=-1)
        q_logprobs = target(torch.arange(n_positions))
        value = objective.kl_divergence(q_logprobs, logprobs)
        (value + objective.nll(logprobs, targets)).mean().backward()

    three_tensors = 3 * n_positions * vocab * 4  # log p, log q and their product in float32
    assert peak_bytes(run_plain) > three_tensors
    assert peak_bytes(run) <= 0.1 * three_tensors
