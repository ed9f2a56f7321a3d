"""Laws of the method on worlds where every sequence can be written down, in float64."""

import math
import re

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from acft import objective, toy
from acft.toy import ToyWorld
from tests.toy_cases import (
    TOLERANCE,
    Case,
    Judge,
    accepted_by,
    arbitrary_cases,
    contains_at_least,
    contains_at_most,
    every_world,
    forbids_bigram,
    judged,
    random_policy,
)


def parity_automaton(n_symbols: int) -> Judge:
    """Accepts an even number of symbol 0."""
    transitions = torch.tensor([[0] * n_symbols, [1] * n_symbols])
    transitions[:, 0] = torch.tensor([1, 0])
    return accepted_by(transitions, torch.tensor([True, False]))


STRUCTURED = {
    "forbidden bigram": forbids_bigram(0, 1),
    "a token twice": contains_at_least(2, 2),
    "at most one": contains_at_most(3, 1),
    "automaton": parity_automaton(8),
}


@pytest.fixture(scope="module", params=STRUCTURED)
def structured(request: pytest.FixtureRequest) -> Case:
    """8 symbols, 6 steps: 262,144 sequences."""
    return Case(8, 6, policy_seed=5, verdicts=STRUCTURED[request.param])


def assert_same_distribution(a: torch.Tensor, b: torch.Tensor) -> None:
    """Two vectors of log-probabilities over all sequences."""
    assert (a.exp() - b.exp()).abs().max() <= TOLERANCE
    assert abs(toy.sequence_kl(a, b)) <= TOLERANCE


# --- the projection ------------------------------------------------------------------------------


@given(arbitrary_cases(), st.sampled_from([1.0, 0.9, 0.3]))
@every_world
def test_token_guidance_by_the_exact_oracle_reproduces_the_sequence_target(case, delta):
    assume(case.rate > 0)
    target = toy.target_logprobs(case.policy, case.satisfied, delta)
    assert_same_distribution(target, toy.sequence_logprobs(case.guided(delta)))


@pytest.mark.parametrize("delta", [1.0, 0.9])
def test_token_guidance_reproduces_the_target_of_structured_constraints(structured, delta):
    target = toy.target_logprobs(structured.policy, structured.satisfied, delta)
    assert_same_distribution(target, toy.sequence_logprobs(structured.guided(delta)))


@given(arbitrary_cases(), st.sampled_from([1.0, 0.9, 0.3]))
@every_world
def test_responses_weighted_towards_the_target_are_drawn_from_it(case, delta):
    assume(case.rate > 0)
    rate = float(case.rate)
    ratio = [objective.target_ratio(rate, delta, bool(verdict)) for verdict in case.satisfied > 0.5]
    weighted = toy.sequence_logprobs(case.policy).exp() * torch.tensor(ratio, dtype=torch.float64)
    target = toy.target_logprobs(case.policy, case.satisfied, delta).exp()
    assert (weighted - target).abs().max() <= TOLERANCE


@given(arbitrary_cases(), st.sampled_from([0.9, 0.5]))
@every_world
def test_soft_guidance_reaches_delta_exactly_or_leaves_the_policy(case, delta):
    assume(case.rate > 0)
    guided = case.guided(delta)
    if case.rate < delta:
        assert toy.satisfaction(guided, case.satisfied) == pytest.approx(delta, abs=TOLERANCE)
    else:
        for q, p in zip(guided, case.policy, strict=True):
            assert torch.allclose(q, p, atol=1e-12)


@given(arbitrary_cases())
@every_world
def test_kl_to_the_hard_target_is_minus_log_r(case):
    assume(case.rate > 0)
    target = toy.target_logprobs(case.policy, case.satisfied)
    value = toy.sequence_kl(target, toy.sequence_logprobs(case.policy))
    assert value == pytest.approx(-math.log(case.rate), abs=TOLERANCE)


@given(arbitrary_cases())
@every_world
def test_kl_to_the_soft_target_is_the_kl_of_two_coins_in_both_directions(case):
    delta = 0.9
    assume(1e-6 < case.rate < delta)
    p = toy.sequence_logprobs(case.policy)
    q = toy.target_logprobs(case.policy, case.satisfied, delta)
    log_delta, log_rate = torch.tensor([delta, case.rate], dtype=torch.float64).log()
    bernoulli_kl = objective.bernoulli_kl
    assert toy.sequence_kl(q, p) == pytest.approx(float(bernoulli_kl(log_delta, log_rate)))
    assert toy.sequence_kl(p, q) == pytest.approx(float(bernoulli_kl(log_rate, log_delta)))


@given(arbitrary_cases(), st.integers(0, 2**32))
@every_world
def test_no_feasible_distribution_is_nearer_than_the_target_in_either_direction(case, seed):
    delta = 0.8
    assume(1e-6 < case.rate < delta)
    p = toy.sequence_logprobs(case.policy)
    q = toy.target_logprobs(case.policy, case.satisfied, delta)
    generator = torch.Generator().manual_seed(seed)
    noise = 0.3 * torch.randn(200, len(p), generator=generator, dtype=torch.float64)
    competitors = (q + noise).log_softmax(dim=-1)
    competitors = competitors[(competitors.exp() * case.satisfied).sum(dim=-1) >= delta]
    for first, second in ((0, 1), (1, 0)):
        pair = (competitors, p.expand_as(competitors))
        found = objective.kl_divergence(pair[first], pair[second])
        best = toy.sequence_kl((q, p)[first], (q, p)[second])
        assert (found >= best - TOLERANCE).all()


@given(arbitrary_cases(), st.sampled_from([1.0, 0.9]))
@every_world
def test_sequence_kl_is_the_sum_of_token_kls_over_its_own_prefixes(case, delta):
    assume(case.rate > 0)
    guided = case.guided(delta)
    total, reach = 0.0, torch.ones(1, dtype=torch.float64)
    for q, p in zip(guided, case.policy, strict=True):
        total += float(objective.expectation(reach, objective.kl_divergence(q, p)))
        reach = (reach.unsqueeze(-1) * q.exp()).flatten()
    q, p = toy.sequence_logprobs(guided), toy.sequence_logprobs(case.policy)
    assert total == pytest.approx(toy.sequence_kl(q, p), abs=TOLERANCE)


@given(arbitrary_cases(), st.sampled_from([1.0, 0.9]), st.sampled_from([1.0, 3.0]))
@every_world
def test_reach_makes_an_average_over_p_one_over_q_at_any_strength(case, delta, strength):
    assume(case.rate > 0)
    guided = toy.guided_tables(case.policy, case.next_log_r, delta, strength)
    sequences = case.world.sequences()
    p, q = (
        toy.along(tables, sequences).gather(-1, sequences[..., None])[..., 0]
        for tables in (case.policy, guided)
    )
    ratios = (q - p).where(p > -torch.inf, 0.0)
    reached = (p.sum(dim=-1) + objective.log_reach(ratios)[:, -1]).exp()
    assert float(reached.sum()) == pytest.approx(1.0, abs=TOLERANCE)


# --- degenerate oracles --------------------------------------------------------------------------


@given(arbitrary_cases(), st.floats(-5, 0), st.floats(0.5, 4))
@every_world
def test_constant_oracle_leaves_the_policy_and_costs_nothing(case, log_r, strength):
    for p in case.policy:
        constant = torch.full_like(p, log_r)
        q = objective.guided_next_logprobs(p, constant, strength)
        assert torch.allclose(q, p, atol=1e-12)
        for kl in (objective.kl_guided_policy_same, objective.kl_policy_guided_same):
            assert kl(p, constant, strength).abs().max() <= 1e-12
        assert objective.kl_divergence(q, p).abs().max() <= 1e-12


@given(arbitrary_cases(), st.integers(0, 2**32))
@every_world
def test_oracle_of_zeros_and_ones_costs_minus_log_of_what_it_allows(case, seed):
    generator = torch.Generator().manual_seed(seed)
    for p in case.policy:
        is_allowed = torch.rand(p.shape, generator=generator) < 0.6
        is_allowed |= ~(p.exp() * is_allowed).sum(dim=-1, keepdim=True).gt(0)
        log_r = is_allowed.double().log()
        expected = -(p.exp() * is_allowed).sum(dim=-1).log()
        q = objective.guided_next_logprobs(p, log_r)
        assert torch.allclose(objective.kl_divergence(q, p), expected, atol=TOLERANCE)
        assert torch.allclose(objective.kl_guided_policy_same(p, log_r), expected, atol=TOLERANCE)


@given(arbitrary_cases(), st.integers(0, 2**32), st.floats(0, 4))
@every_world
def test_cheap_special_case_equals_both_kls(case, seed, strength):
    generator = torch.Generator().manual_seed(seed)
    for p in case.policy:
        log_r = torch.rand(p.shape, generator=generator, dtype=torch.float64).log()
        q = objective.guided_next_logprobs(p, log_r, strength)
        forward = objective.kl_guided_policy_same(p, log_r, strength)
        reverse = objective.kl_policy_guided_same(p, log_r, strength)
        assert torch.allclose(forward, objective.kl_divergence(q, p), atol=TOLERANCE)
        assert torch.allclose(reverse, objective.kl_divergence(p, q), atol=TOLERANCE)
        assert (forward >= -1e-12).all()
        assert (reverse >= -1e-12).all()


def test_impossible_prefix_raises_and_names_its_row():
    p = torch.zeros(2, 3, 4).log_softmax(dim=-1)
    log_r = torch.zeros(2, 3, 4)
    log_r[1, 2] = -math.inf
    with pytest.raises(ValueError, match=r"row \[1, 2\]"):
        objective.guided_next_logprobs(p, log_r)


def test_prompt_that_can_never_satisfy_the_constraint_raises_in_the_soft_form():
    p = torch.zeros(2, 3, 4).log_softmax(dim=-1)
    log_r = torch.full((2, 3, 4), -math.inf)
    with pytest.raises(ValueError, match=r"row \[0, 0\]"):
        objective.guided_next_logprobs_soft(p, log_r, 0.9, torch.full((2,), -math.inf))


@given(arbitrary_cases(), st.sampled_from([1.0, 0.9]))
@every_world
def test_impossible_sequences_never_make_nan(case, delta):
    assume(case.rate > 0)
    guided = case.guided(delta)
    for q, p in zip(guided, case.policy, strict=True):
        values = (q, objective.entropy(q), objective.kl_divergence(q, p))
        assert not any(value.isnan().any() for value in values)


# --- gradients -----------------------------------------------------------------------------------


@given(st.integers(0, 2**32), st.sampled_from([0.5, 1.0, 3.0]))
@every_world
def test_gradients_are_those_of_a_fixed_target(seed, strength):
    generator = torch.Generator().manual_seed(seed)
    logits, r = torch.randn(2, 5, 7, generator=generator, dtype=torch.float64).unbind()
    log_r = torch.nn.functional.logsigmoid(r)
    logits.requires_grad_()
    logprobs = logits.log_softmax(dim=-1)
    q = objective.guided_next_logprobs(logprobs, log_r, strength)
    p = logprobs.detach()
    kl_reverse = objective.kl_divergence(p, q).unsqueeze(-1)
    expected_forward, expected_reverse = p.exp() - q.exp(), p.exp() * (p - q - kl_reverse)
    for value, expected in [
        (objective.kl_divergence(q, logprobs), expected_forward),
        (objective.kl_guided_policy_same(logprobs, log_r, strength), expected_forward),
        (objective.kl_divergence(logprobs, q), expected_reverse),
        (objective.kl_policy_guided_same(logprobs, log_r, strength), expected_reverse),
    ]:
        (found,) = torch.autograd.grad(value.sum(), logits, retain_graph=True)
        assert torch.allclose(found, expected, atol=TOLERANCE)


def test_gradients_stay_finite_at_impossible_tokens_and_certain_oracles():
    logits = torch.tensor([[0.0, 1.0, -math.inf]], dtype=torch.float64, requires_grad=True)
    logprobs = logits.log_softmax(dim=-1)
    log_r = torch.tensor([[-1.0, 0.0, -math.inf]], dtype=torch.float64)
    q = objective.guided_next_logprobs(logprobs, log_r)
    certain = torch.tensor([[0.0], [-200.0]], dtype=torch.float64, requires_grad=True)
    satisfied = torch.tensor([1.0, 0.0], dtype=torch.float64)
    values = [
        objective.kl_divergence(q, logprobs).sum(),
        objective.kl_divergence(logprobs, q).sum(),
        objective.kl_guided_policy_same(logprobs, log_r).sum(),
        objective.kl_policy_guided_same(logprobs, log_r).sum(),
        objective.entropy(logprobs).sum(),
        objective.oracle_bce(certain, satisfied).sum(),
    ]
    gradients = torch.autograd.grad(torch.stack(values).sum(), [logits, certain])
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_consistency_of_a_nearly_certain_oracle_has_a_finite_gradient():
    # the sum over the vocabulary rounds to 1 in float32
    logprobs = torch.linspace(-3, 3, 1000).log_softmax(dim=-1)[None]
    logits = torch.full((1, 1000), 20.0, requires_grad=True)
    log_r = torch.nn.functional.logsigmoid(logits)
    gap = objective.consistency_gap(logprobs, log_r, log_r[:, 0])
    (gradient,) = torch.autograd.grad(gap.sum(), [logits])
    assert gap.isfinite().all()
    assert gradient.isfinite().all()


# --- the world itself ----------------------------------------------------------------------------


def test_world_lists_every_sequence_once_in_the_order_of_its_texts():
    world = ToyWorld(3, 4)
    assert len(set(world.texts())) == world.n_sequences == 81
    written = [" ".join("abc"[symbol] for symbol in row) for row in world.sequences().tolist()]
    assert written == world.texts()


def test_constraints_on_text_and_on_symbols_agree():
    world = ToyWorld(3, 5)
    by_text = world.judge_texts(lambda text: float(not re.search(r"\ba b\b", text)))
    assert torch.equal(by_text, judged(world, forbids_bigram(0, 1)))


def test_policy_is_recovered_by_enumerating_it_as_a_language_model():
    world = ToyWorld(3, 4)
    policy = random_policy(world, seed=2)

    def next_logits(token_ids: torch.Tensor) -> torch.Tensor:
        """Symbols are tokens 2, 3, 4; tokens 0 and 1 make the prompt, 0 has logits of its own."""
        walked = toy.along(policy, torch.cat([token_ids[:, 2:] - 2, token_ids[:, :1]], dim=1))
        logits = torch.zeros(*token_ids.shape, 5, dtype=torch.float64)
        logits[:, 1:, 2:] = walked + 3.0
        return logits

    found = toy.enumerate_policy(next_logits, world, prompt_ids=(0, 1), symbol_ids=(2, 3, 4))
    for mine, theirs in zip(policy, found, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-12)


def test_constraint_that_is_never_satisfied_has_no_target():
    world = ToyWorld(2, 2)
    with pytest.raises(ValueError, match=r"with probability 0\.0"):
        toy.target_logprobs(random_policy(world, seed=0), torch.zeros(4))
