"""Laws of the oracle's losses and of batches: what padding and micro-batches must not change."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acft import objective, toy
from acft.types import TokenBatch
from tests.toy_cases import TOLERANCE, Case, arbitrary_cases, every_world

# --- the oracle's losses -------------------------------------------------------------------------


@given(arbitrary_cases(), st.sampled_from([0.5, 0.01]))
@every_world
def test_exact_oracle_is_consistent_and_a_perturbed_one_is_not(case, shift):
    for p, next_log_r in zip(case.policy, case.next_log_r, strict=True):
        log_r = (p + next_log_r).logsumexp(dim=-1)
        is_open = (log_r > math.log(1e-3)) & (log_r < math.log(1 - 1e-3))
        exact = objective.consistency_gap(p, next_log_r, log_r)
        perturbed = objective.consistency_gap(p, next_log_r, log_r - shift)
        assert (exact[is_open].abs() <= TOLERANCE).all()
        assert (perturbed[is_open] > TOLERANCE).all()


@given(arbitrary_cases())
@every_world
def test_exact_oracle_after_a_prefix_is_its_expectation_over_the_next_symbol(case):
    log_r_prompt = toy.exact_next_log_r(case.policy, case.satisfied)[1]
    after = [log_r_prompt, *(table.flatten() for table in case.next_log_r)]
    for p, next_log_r, log_r in zip(case.policy, case.next_log_r, after, strict=False):
        expected = (p.exp() * next_log_r.exp()).sum(dim=-1)
        assert torch.allclose(log_r.exp(), expected, atol=TOLERANCE, rtol=0)


@given(arbitrary_cases())
@every_world
def test_prompt_value_is_the_probability_of_satisfaction(case):
    log_r = objective.prompt_log_r(case.policy[0], case.next_log_r[0])
    assert float(log_r.exp()) == pytest.approx(case.rate, abs=TOLERANCE)


def fitted_r(case: Case, loss) -> tuple[torch.Tensor, torch.Tensor]:
    """R after each next symbol as fitted on all sequences weighted by p, and the true one."""
    logits = [torch.zeros_like(table, requires_grad=True) for table in case.policy]
    sequences, weights = case.world.sequences(), toy.sequence_logprobs(case.policy).exp()
    optimiser = torch.optim.LBFGS(logits, max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        walked = toy.along(tuple(logits), sequences)
        log_r = torch.nn.functional.logsigmoid(walked.gather(-1, sequences.unsqueeze(-1)))
        value = (weights.unsqueeze(-1) * loss(log_r.squeeze(-1), case.satisfied)).sum()
        value.backward()
        return value

    optimiser.step(closure)
    found = torch.cat([table.detach().sigmoid().flatten() for table in logits])
    return found, torch.cat([table.exp().flatten() for table in case.next_log_r])


def double_sigmoid_bce(log_r: torch.Tensor, satisfied: torch.Tensor) -> torch.Tensor:
    """A published mistake: log-probabilities taken for logits."""
    labels = satisfied.unsqueeze(-1).expand_as(log_r)
    return torch.nn.functional.binary_cross_entropy_with_logits(log_r, labels, reduction="none")


def test_fitting_the_oracle_loss_recovers_the_true_r_and_a_double_sigmoid_does_not():
    case = Case(3, 3, policy_seed=3, verdicts=0b010_110_100_011_101_001_110_010_101)
    found, true = fitted_r(case, objective.oracle_bce)
    assert (found - true).abs().max() <= 0.02
    found, true = fitted_r(case, double_sigmoid_bce)
    assert (found - true).abs().max() > 0.1


def test_logits_in_place_of_log_probabilities_are_refused():
    with pytest.raises(ValueError, match="at most 0, got"):
        objective.oracle_bce(torch.tensor([[-1.0, 0.5]]), torch.tensor([1.0]))


@given(st.floats(-700, -1e-12))
@every_world
def test_log1mexp_is_accurate_from_certain_to_impossible(x):
    expected = math.log(-math.expm1(x)) if x > -0.5 else math.log1p(-math.exp(x))
    value = objective.log1mexp(torch.tensor(x, dtype=torch.float64))
    assert float(value) == pytest.approx(expected, rel=1e-12, abs=0)


# --- batches -------------------------------------------------------------------------------------


def random_batch(seed: int, n_sequences: int, n_positions: int) -> TokenBatch:
    """Sequences of different lengths whose response starts at position 2."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, n_positions + 1, (n_sequences, 1), generator=generator)
    position = torch.arange(n_positions).expand(n_sequences, -1)
    is_real = position < lengths
    token_ids = torch.randint(7, is_real.shape, generator=generator)
    return TokenBatch(token_ids, is_real, is_real & (position >= 2))


def token_values(batch: TokenBatch, next_logprobs, next_log_r) -> dict[str, torch.Tensor]:
    """Every per-token quantity of the training loss, at all steps."""
    aligned = objective.align(batch, next_logprobs)
    log_r = objective.align(batch, next_log_r)
    q = objective.guided_next_logprobs(aligned.values, log_r.values)
    return {
        "nll": objective.nll(aligned.values, aligned.targets),
        "kl_guided_policy": objective.kl_divergence(q, aligned.values),
        "kl_policy_guided": objective.kl_divergence(aligned.values, q),
        "bce": objective.oracle_bce(
            log_r.values.gather(-1, log_r.targets.unsqueeze(-1)).squeeze(-1),
            torch.ones(len(batch.token_ids), dtype=next_log_r.dtype),
        ),
    }


def random_next_values(seed: int, batch: TokenBatch) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (2, *batch.token_ids.shape, 7)
    logits, r = torch.randn(shape, generator=generator, dtype=torch.float64).unbind()
    return logits.log_softmax(dim=-1), torch.nn.functional.logsigmoid(r)


@given(st.integers(0, 2**32), st.integers(1, 5))
@every_world
def test_micro_batches_add_up_to_the_whole_step(seed, micro_batch):
    batch = random_batch(seed, n_sequences=5, n_positions=9)
    next_logprobs, next_log_r = random_next_values(seed, batch)
    aligned = objective.align(batch, next_logprobs)
    n_tokens = int(aligned.mask_all.sum())
    for values in token_values(batch, next_logprobs, next_log_r).values():
        whole = objective.token_mean(values, aligned.mask_response, n_tokens)
        parts = [
            objective.token_mean(part, mask, n_tokens)
            for part, mask in zip(
                values.split(micro_batch), aligned.mask_response.split(micro_batch), strict=True
            )
        ]
        assert float(sum(parts)) == pytest.approx(float(whole), abs=TOLERANCE)


@given(st.integers(0, 2**32), st.integers(1, 4))
@every_world
def test_padding_changes_no_token_value(seed, n_padding):
    batch = random_batch(seed, n_sequences=3, n_positions=6)
    next_values = random_next_values(seed, batch)
    padded = TokenBatch(
        *(
            torch.nn.functional.pad(t, (0, n_padding))
            for t in (batch.token_ids, batch.attention_mask, batch.response_mask)
        )
    )
    noise = random_next_values(seed + 1, padded)
    padded_values = tuple(
        torch.cat([real, other[:, real.shape[1] :]], dim=1)
        for real, other in zip(next_values, noise, strict=True)
    )
    before, after = token_values(batch, *next_values), token_values(padded, *padded_values)
    masks = objective.align(batch, next_values[0]), objective.align(padded, padded_values[0])
    for name, values in before.items():
        assert torch.equal(values[masks[0].mask_all], after[name][masks[1].mask_all])
        assert torch.equal(values[masks[0].mask_response], after[name][masks[1].mask_response])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_accumulated_in_float32(dtype):
    batch = random_batch(seed=0, n_sequences=3, n_positions=6)
    next_values = tuple(values.to(dtype) for values in random_next_values(0, batch))
    upcast = tuple(values.float() for values in next_values)
    found, expected = token_values(batch, *next_values), token_values(batch, *upcast)
    for name, values in found.items():
        assert values.dtype == torch.float32
        assert torch.equal(values, expected[name])


def test_step_without_tokens_is_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        objective.token_mean(torch.ones(2), torch.tensor([True, False]), n_tokens=0)


@pytest.mark.parametrize("delta", [0.0, -0.1, 1.1, math.nan])
def test_impossible_delta_is_refused(delta):
    p = torch.zeros(1, 2, 3).log_softmax(dim=-1)
    with pytest.raises(ValueError, match=r"delta must be in \(0, 1\]"):
        objective.guided_next_logprobs_soft(p, p, delta, torch.tensor([-1.0]))


@pytest.mark.parametrize("strength", [-1.0, math.nan])
def test_negative_strength_is_refused(strength):
    p = torch.zeros(1, 2, 3).log_softmax(dim=-1)
    with pytest.raises(ValueError, match="strength must be at least 0"):
        objective.guided_next_logprobs(p, p, strength)
