"""Laws of the method on worlds where every sequence can be written down, in float64."""

import math
import re
from dataclasses import dataclass
from functools import cached_property

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from acft import objective, toy
from acft.toy import Tables, ToyWorld
from acft.types import TokenBatch

SHAPES = [(2, 1), (2, 3), (2, 8), (3, 3), (3, 5), (4, 4), (6, 3), (16, 2)]
TOLERANCE = 1e-9
every_world = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@dataclass(frozen=True)
class Case:
    """A policy and a constraint in a world; built when asked, so that hypothesis draws numbers."""

    n_symbols: int
    length: int
    policy_seed: int
    sharpness: float = 1.0
    has_zeros: bool = False
    verdicts: int | toy.Judge = 0
    """One bit for every sequence, or a judge."""

    @cached_property
    def world(self) -> ToyWorld:
        return ToyWorld(self.n_symbols, self.length)

    @cached_property
    def policy(self) -> Tables:
        policy = self.world.random_policy(self.policy_seed, self.sharpness)
        if not self.has_zeros:
            return policy
        return tuple(without_first_symbol_in_every_third_row(table) for table in policy)

    @cached_property
    def satisfied(self) -> torch.Tensor:
        if not isinstance(self.verdicts, int):
            return self.world.judge(self.verdicts)
        bits = [self.verdicts >> i & 1 for i in range(self.world.n_sequences)]
        return torch.tensor(bits, dtype=torch.float64)

    @cached_property
    def rate(self) -> float:
        """R(x)."""
        return toy.satisfaction(self.policy, self.satisfied)

    @cached_property
    def next_log_r(self) -> Tables:
        return toy.exact_next_log_r(self.policy, self.satisfied)[0]

    def guided(self, delta: float = 1.0) -> Tables:
        """Guided policy from the exact R."""
        return toy.guided_tables(self.policy, self.next_log_r, delta)


@st.composite
def arbitrary_cases(draw: st.DrawFn) -> Case:
    """Any policy, zeros included, and any set of satisfying sequences, of worlds up to 256."""
    n_symbols, length = draw(st.sampled_from(SHAPES))
    return Case(
        n_symbols,
        length,
        policy_seed=draw(st.integers(0, 2**32)),
        sharpness=draw(st.sampled_from([0.0, 1.0, 4.0])),
        has_zeros=draw(st.booleans()),
        verdicts=draw(st.integers(0, 2 ** (n_symbols**length) - 1)),
    )


def without_first_symbol_in_every_third_row(table: torch.Tensor) -> torch.Tensor:
    logits = table.clone()
    logits[::3, 0] = -math.inf
    return logits.log_softmax(dim=-1)


def parity_automaton(n_symbols: int) -> toy.Judge:
    """Accepts an even number of symbol 0."""
    transitions = torch.tensor([[0] * n_symbols, [1] * n_symbols])
    transitions[:, 0] = torch.tensor([1, 0])
    return toy.accepted_by(transitions, torch.tensor([True, False]))


STRUCTURED = {
    "forbidden bigram": toy.forbids_bigram(0, 1),
    "a token twice": toy.contains_at_least(2, 2),
    "at most one": toy.contains_at_most(3, 1),
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


# --- the world itself ----------------------------------------------------------------------------


def test_world_lists_every_sequence_once_in_the_order_of_its_texts():
    world = ToyWorld(3, 4)
    assert len(set(world.texts())) == world.n_sequences == 81
    assert [world.to_text(row) for row in world.sequences().tolist()] == world.texts()


def test_constraints_on_text_and_on_symbols_agree():
    world = ToyWorld(3, 5)
    by_text = world.judge_texts(lambda text: float(not re.search(r"\ba b\b", text)))
    assert torch.equal(by_text, world.judge(toy.forbids_bigram(0, 1)))


def test_policy_is_recovered_by_enumerating_it_as_a_language_model():
    world = ToyWorld(3, 4)
    policy = world.random_policy(seed=2)

    def next_logits(token_ids: torch.Tensor) -> torch.Tensor:
        """Symbols are tokens 2, 3, 4; tokens 0 and 1 make the prompt, 0 has logits of its own."""
        walked = toy.along(policy, torch.cat([token_ids[:, 2:] - 2, token_ids[:, :1]], dim=1))
        logits = torch.zeros(*token_ids.shape, 5, dtype=torch.float64)
        logits[:, 1:, 2:] = walked + 3.0
        return logits

    found = toy.enumerate_policy(next_logits, world, prompt_ids=(0, 1), symbol_ids=(2, 3, 4))
    for mine, theirs in zip(policy, found, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-12)


def test_samples_follow_the_policy():
    world = ToyWorld(3, 3)
    policy = world.random_policy(seed=6)
    drawn = toy.sample(policy, 50_000, seed=1) @ torch.tensor([9, 3, 1])
    share = torch.bincount(drawn, minlength=27) / 50_000
    assert (share - toy.sequence_logprobs(policy).exp()).abs().max() < 0.01


def test_constraint_that_is_never_satisfied_has_no_target():
    world = ToyWorld(2, 2)
    with pytest.raises(ValueError, match=r"with probability 0\.0"):
        toy.target_logprobs(world.random_policy(seed=0), torch.zeros(4))


def test_random_constraint_is_satisfied_by_its_rate_of_the_sequences():
    verdicts = ToyWorld(4, 6).random_constraint(seed=0, rate=0.25)
    assert float(verdicts.mean()) == pytest.approx(0.25, abs=0.03)
