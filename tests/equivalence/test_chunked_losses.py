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
from acft.chunked import KlDirection, Penalty, PolicyLogprobs, TokenLosses, token_losses

pytestmark = pytest.mark.equivalence
directions = pytest.mark.parametrize("kl", get_args(KlDirection))
N_POSITIONS, WIDTH, VOCAB = 13, 5, 11


@dataclass
class Problem:
    """Hidden states, a head, targets and weights, with positions of every sort."""

    hidden: torch.Tensor
    head_weight: torch.Tensor
    head_bias: torch.Tensor
    targets: torch.Tensor
    nll_weights: torch.Tensor
    kl_weights: torch.Tensor
    q_logprobs: torch.Tensor
    upstream: torch.Tensor

    def chunked(self, kl: KlDirection, chunk_positions: int | None = 4) -> TokenLosses:
        penalty = Penalty(self.kl_weights, lambda rows, _: self.q_logprobs[rows], kl)
        return token_losses(
            self.hidden, self.head_weight, self.targets, self.nll_weights,
            penalty, self.head_bias, chunk_positions,
        )  # fmt: skip

    def plain(self, kl: KlDirection) -> TokenLosses:
        """The same losses from the equations, all positions at once."""
        logits = torch.nn.functional.linear(self.hidden, self.head_weight, self.head_bias)
        logprobs = objective.upcast(logits).log_softmax(dim=-1)
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
        trained = [t for t in (self.hidden, self.head_weight, self.head_bias) if t.requires_grad]
        return list(torch.autograd.grad((losses.total * self.upstream).sum(), trained))


def problem(dtype: torch.dtype = torch.float32, *, is_head_trained: bool = False) -> Problem:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    nll_weights, kl_weights = torch.ones(N_POSITIONS), torch.full((N_POSITIONS,), 0.7)
    kl_weights[::3], nll_weights[::4] = 0, 0
    accumulated = objective.upcast(torch.zeros(0, dtype=dtype)).dtype
    return Problem(
        hidden=normal(N_POSITIONS, WIDTH).to(dtype).requires_grad_(),
        head_weight=normal(VOCAB, WIDTH).to(dtype).requires_grad_(is_head_trained),
        head_bias=normal(VOCAB).to(dtype).requires_grad_(is_head_trained),
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
def test_values_and_gradients_equal_the_plain_ones(kl, chunk_positions, is_head_trained):
    case = problem(is_head_trained=is_head_trained)
    found, expected = case.chunked(kl, chunk_positions), case.plain(kl)
    assert_all_close(parts(found), parts(expected), 1e-5)
    assert_all_close(case.gradients(found), case.gradients(expected), 1e-5)


@directions
def test_half_precision_equals_the_plain_path_on_the_same_upcast_logits(kl):
    case = problem(torch.bfloat16)
    found, expected = case.chunked(kl), case.plain(kl)
    assert found.total.dtype == torch.float32
    assert_all_close(parts(found), parts(expected), 1e-5)
    assert_all_close(case.gradients(found), case.gradients(expected), 2**-7)


@directions
@pytest.mark.parametrize("is_head_trained", [False, True])
def test_gradients_equal_finite_differences(kl, is_head_trained):
    case = problem(torch.float64, is_head_trained=is_head_trained)

    def total(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        case.hidden, case.head_weight, case.head_bias = hidden, weight, bias
        return case.chunked(kl).total

    inputs = (case.hidden, case.head_weight, case.head_bias)
    assert torch.autograd.gradcheck(total, inputs)


@directions
def test_forbidden_tokens_give_finite_values_and_gradients_where_the_plain_path_does(kl):
    case = problem(torch.float64)
    if kl == "guided_policy":
        case.q_logprobs[:, 3] = -torch.inf
    else:
        case.head_bias[3] = -torch.inf
    case.targets[case.targets == 3] = 4
    case.q_logprobs = case.q_logprobs.log_softmax(dim=-1)
    found, expected = case.chunked(kl), case.plain(kl)
    assert torch.isfinite(found.total).all()
    assert_all_close([found.total], [expected.total], 1e-9)
    (gradient,) = torch.autograd.grad(found.total.sum(), case.hidden)
    assert torch.isfinite(gradient).all() or kl == "policy_guided"


def test_no_penalty_is_the_plain_nll():
    case = problem()
    found = token_losses(case.hidden, case.head_weight, case.targets, case.nll_weights)
    logprobs = (case.hidden @ case.head_weight.T).log_softmax(dim=-1)
    expected = case.nll_weights * objective.nll(logprobs, case.targets)
    assert_all_close([found.total], [expected], 1e-5)


def test_target_is_asked_only_for_penalised_positions_and_without_gradients():
    case, asked = problem(), []

    def target(rows: torch.Tensor, _: PolicyLogprobs) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        asked.extend(rows.tolist())
        return case.q_logprobs[rows]

    penalty = Penalty(case.kl_weights, target)
    token_losses(case.hidden, case.head_weight, case.targets, case.nll_weights, penalty)
    assert asked == case.kl_weights.nonzero().flatten().tolist()


def test_no_positions_give_no_losses():
    empty = torch.zeros(0)
    hidden = torch.zeros(0, WIDTH, requires_grad=True)
    losses = token_losses(hidden, torch.zeros(VOCAB, WIDTH), empty.long(), empty)
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
def test_peak_memory_is_a_tenth_of_the_plain_formulas_tensors(kl, monkeypatch):
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

    def run() -> None:
        penalty = Penalty(ones, lambda rows, _: target(rows), kl)
        token_losses(hidden, head_weight, targets, ones, penalty).total.mean().backward()

    def run_plain() -> None:
        logprobs = (hidden @ head_weight.T).float().log_softmax(dim=-1)
        q_logprobs = target(torch.arange(n_positions))
        value = objective.kl_divergence(q_logprobs, logprobs)
        (value + objective.nll(logprobs, targets)).mean().backward()

    three_tensors = 3 * n_positions * vocab * 4  # log p, log q and their product in float32
    assert peak_bytes(run_plain) > three_tensors
    assert peak_bytes(run) <= 0.1 * three_tensors
