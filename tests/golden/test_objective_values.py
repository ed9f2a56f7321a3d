"""Values of the equations worked out by hand; fractions are exact, tolerance 1e-6.

One prefix with three next tokens serves most of them: p = (1/2, 1/4, 1/4), R = (1, 1/2, 1/4).
"""

import math

import pytest
import torch

from acft import objective
from acft.types import TokenBatch

pytestmark = pytest.mark.golden

P = torch.tensor([[0.5, 0.25, 0.25]])
R = torch.tensor([[1.0, 0.5, 0.25]])


def close(*values: float):
    return pytest.approx(list(values), abs=1e-6)


def test_guided_policy():
    """p·R = (1/2, 1/8, 1/16); Z = 11/16; q = (8, 2, 1)/11."""
    q = objective.guided_next_logprobs(P.log(), R.log()).exp()
    assert q[0].tolist() == close(8 / 11, 2 / 11, 1 / 11)


def test_guided_policy_with_a_forbidden_token():
    """p·R = (1/2, 1/8, 0); Z = 5/8; q = (4/5, 1/5, 0)."""
    q = objective.guided_next_logprobs(P.log(), torch.tensor([[1.0, 0.5, 0.0]]).log()).exp()
    assert q[0].tolist() == close(0.8, 0.2, 0.0)


def test_guided_policy_at_strength_two():
    """p·R² = (1/2, 1/16, 1/64); Z = 37/64; q = (32, 4, 1)/37."""
    q = objective.guided_next_logprobs(P.log(), R.log(), strength=2.0).exp()
    assert q[0].tolist() == close(32 / 37, 4 / 37, 1 / 37)


def test_guided_policy_that_is_cautious_about_rare_tokens():
    """R = (1/4, 1/2, 1), E_p[R] = 1/2; below 3/10 the last two may not pass it: q = (1, 1, 1)/3.

    Soft, delta = 9/10 and R(x) = 1/2: a = 9/5, b = 1/5, w = (3/5, 1, 1), p·w = (6, 5, 5)/20.
    """
    log_r = R.flip(-1).log()
    assert objective.cautious_log_r(P.log(), log_r, 0.3).exp()[0].tolist() == close(0.25, 0.5, 0.5)
    q = objective.guided_next_logprobs(P.log(), log_r, rare=0.3).exp()
    assert q[0].tolist() == close(1 / 3, 1 / 3, 1 / 3)
    half = torch.tensor([0.5]).log()
    q = objective.guided_next_logprobs_soft(P.log(), log_r, 0.9, half, rare=0.3).exp()
    assert q[0].tolist() == close(6 / 16, 5 / 16, 5 / 16)


def test_soft_guided_policy_of_an_active_constraint():
    """q at the last prompt position, for delta = 9/10 and R(x) = 11/16.

    a = (9/10)/(11/16) = 72/55; b = (1/10)/(5/16) = 8/25.
    w = a·R + b·(1 - R) = (72/55, 36/55 + 4/25, 18/55 + 6/25) = (360, 224, 156)/275.
    q = p·w = (180, 56, 39)/275, which sums to 1 without a normaliser.
    """
    log_r_prompt = torch.tensor([11 / 16]).log()
    q = objective.guided_next_logprobs_soft(P.log(), R.log(), 0.9, log_r_prompt).exp()
    assert q[0].tolist() == close(180 / 275, 56 / 275, 39 / 275)


def test_soft_guided_policy_at_strength_two():
    """p·w² ∝ (2·360², 224², 156²) = (259200, 50176, 24336); sum 333712."""
    log_r_prompt = torch.tensor([11 / 16]).log()
    q = objective.guided_next_logprobs_soft(P.log(), R.log(), 0.9, log_r_prompt, 2.0).exp()
    assert q[0].tolist() == close(259200 / 333712, 50176 / 333712, 24336 / 333712)


def test_soft_guided_policy_of_an_inactive_constraint_is_the_policy():
    """R(x) = 11/16 is above delta = 0.6; the second row's R(x) = 1/2 is not.

    Second row, delta = 3/5: a = 6/5, b = 4/5, w = (6/5, 1, 9/10); p·w = (24, 10, 9)/40, sum 43/40.
    """
    log_r_prompt = torch.tensor([11 / 16, 0.5]).log()
    both = objective.guided_next_logprobs_soft(
        P.log().repeat(2, 1), R.log().repeat(2, 1), 0.6, log_r_prompt
    ).exp()
    assert both[0].tolist() == close(0.5, 0.25, 0.25)
    assert both[1].tolist() == close(24 / 43, 10 / 43, 9 / 43)


def test_soft_guided_policy_at_delta_one_is_the_hard_one():
    log_r_prompt = torch.tensor([11 / 16]).log()
    q = objective.guided_next_logprobs_soft(P.log(), R.log(), 1.0, log_r_prompt).exp()
    assert q[0].tolist() == close(8 / 11, 2 / 11, 1 / 11)


def test_r_of_the_prompt():
    """1/2·1 + 1/4·1/2 + 1/4·1/4 = 11/16."""
    assert objective.prompt_log_r(P.log(), R.log()).tolist() == close(math.log(11 / 16))


def test_both_kls_between_policy_and_guided_policy():
    """q/p = (16, 8, 4)/11.

    KL(q ‖ p) = 8/11·ln(16/11) + 2/11·ln(8/11) + 1/11·ln(4/11).
    KL(p ‖ q) = 1/2·ln(11/16) + 1/4·ln(11/8) + 1/4·ln(11/4).
    """
    forward = 8 / 11 * math.log(16 / 11) + 2 / 11 * math.log(8 / 11) + 1 / 11 * math.log(4 / 11)
    reverse = 0.5 * math.log(11 / 16) + 0.25 * math.log(11 / 8) + 0.25 * math.log(11 / 4)
    q = torch.tensor([[8, 2, 1]]) / 11
    assert objective.kl_divergence(q.log(), P.log()).tolist() == close(forward)
    assert objective.kl_divergence(P.log(), q.log()).tolist() == close(reverse)
    assert objective.kl_guided_policy_same(P.log(), R.log()).tolist() == close(forward)
    assert objective.kl_policy_guided_same(P.log(), R.log()).tolist() == close(reverse)


def test_kl_of_a_certain_token_is_ln_2_one_way_and_infinite_the_other():
    """KL((1, 0) ‖ (1/2, 1/2)) = ln 2; reversed, the second token costs ln(1/2 / 0)."""
    certain, fair = torch.tensor([1.0, 0.0]).log(), torch.tensor([0.5, 0.5]).log()
    assert float(objective.kl_divergence(certain, fair)) == pytest.approx(math.log(2))
    assert float(objective.kl_divergence(fair, certain)) == math.inf


def test_perplexity_of_a_uniform_policy_is_the_number_of_tokens():
    """Nll is ln 4 for every target, so exp of its mean is 4."""
    values = objective.nll(torch.zeros(1, 3, 4).log_softmax(dim=-1), torch.tensor([[0, 3, 1]]))
    mean = objective.token_mean(values, torch.tensor([[True, True, True]]), n_tokens=3)
    assert float(mean.exp()) == pytest.approx(4.0)


def test_entropy():
    """1/2·ln 2 + 2·1/4·ln 4 = 3/2·ln 2."""
    assert objective.entropy(P.log()).tolist() == close(1.5 * math.log(2))


def test_oracle_loss():
    """R = 3/10: -ln 0.3 if satisfied, -ln 0.7 if not, their mean at a verdict of 1/2."""
    log_r = torch.full((3, 1), 0.3).log()
    values = objective.oracle_bce(log_r, torch.tensor([1.0, 0.0, 0.5]))
    satisfied, violated = -math.log(0.3), -math.log(0.7)
    assert values[:, 0].tolist() == close(satisfied, violated, (satisfied + violated) / 2)


def test_oracle_loss_of_a_certain_oracle():
    """R = 1: 0 if satisfied, infinite if not; R = 0 the other way round."""
    log_r = torch.tensor([[0.0, -math.inf], [0.0, -math.inf]])
    values = objective.oracle_bce(log_r, torch.tensor([1.0, 0.0]))
    assert values.tolist() == [[0.0, math.inf], [math.inf, 0.0]]


def test_kl_of_two_coins():
    """KL(1/4 ‖ 1/2) = 1/4·ln(1/2) + 3/4·ln(3/2)."""
    value = objective.bernoulli_kl(torch.tensor(0.25).log(), torch.tensor(0.5).log())
    assert float(value) == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5), abs=1e-6)


def test_consistency_gap():
    """Policy (1/2, 1/2) and R = (1/5, 3/5) predict 2/5; R(prefix) says 1/2.

    KL(2/5 ‖ 1/2) = 2/5·ln(4/5) + 3/5·ln(6/5).
    """
    p, r = torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[0.2, 0.6]]])
    value = objective.consistency_gap(p.log(), r.log(), torch.tensor([[0.5]]).log())
    assert float(value) == pytest.approx(0.4 * math.log(0.8) + 0.6 * math.log(1.2), abs=1e-6)


def test_log1mexp_at_both_ends_and_in_the_middle():
    """1 - e^-ln2 = 1/2; for small h, log(1 - e^-h) = log h - h/2; far out it is -e^x."""
    x = torch.tensor([-math.log(2), -1e-10, -50.0, 0.0], dtype=torch.float64)
    expected = [-math.log(2), math.log(1e-10) - 5e-11, -math.exp(-50), -math.inf]
    assert objective.log1mexp(x).tolist() == pytest.approx(expected, rel=1e-12)


def test_token_mean_divides_what_is_selected_by_the_tokens_of_the_step():
    """(1 + 3)/8; the NaN of an unselected position does not count."""
    values = torch.tensor([[1.0, math.nan, 3.0]])
    mean = objective.token_mean(values, torch.tensor([[True, False, True]]), n_tokens=8)
    assert float(mean) == 0.5


def test_alignment_pairs_each_prediction_with_the_next_token():
    """Prompt 5 6, response 7 8, one padding token in the second row."""
    batch = TokenBatch(
        token_ids=torch.tensor([[5, 6, 7, 8], [5, 6, 7, 0]]),
        attention_mask=torch.tensor([[True, True, True, True], [True, True, True, False]]),
        response_mask=torch.tensor([[False, False, True, True], [False, False, True, True]]),
    )
    aligned = objective.align(batch, torch.tensor([[[0.0], [1.0], [2.0], [3.0]]] * 2))
    assert aligned.values[0, :, 0].tolist() == [0.0, 1.0, 2.0]
    assert aligned.targets.tolist() == [[6, 7, 8], [6, 7, 0]]
    assert aligned.mask_all.tolist() == [[True, True, True], [True, True, False]]
    assert aligned.mask_response.tolist() == [[False, True, True], [False, True, False]]


def test_a_prefix_is_reached_in_proportion_to_the_ratios_of_its_tokens():
    """Ratios 6/5 and 3/2 of two tokens: 1 for the prompt, 6/5, and 9/5 = R(prefix) / R(x)."""
    reach = objective.log_reach(torch.tensor([[1.2, 1.5]]).log())
    assert reach.exp().tolist() == [close(1.0, 1.2, 1.8)]


def test_a_soft_value_is_what_is_won_less_what_straying_costs():
    """p = (1/2, 1/4, 1/4), reference (1/4, 1/2, 1/4): E_p[Q] = -3/4·log 2, KL = 1/4·log 2."""
    reference = torch.tensor([[0.25, 0.5, 0.25]])
    value = objective.soft_value(P.log(), reference.log(), R.log())
    assert value.tolist() == close(-math.log(2))


def test_the_soft_value_of_the_guided_policy_is_log_r_of_the_prefix():
    """q = (8, 2, 1)/11 and Z = 11/16, as above."""
    q = torch.tensor([[8 / 11, 2 / 11, 1 / 11]])
    assert objective.soft_value(q.log(), P.log(), R.log()).tolist() == close(math.log(11 / 16))


@pytest.mark.parametrize(
    ("trace", "expected"),
    [(0.0, (-2.0, -3.0, 0.0)), (0.5, (-3.5, -3.0, 0.0)), (1.0, (-5.0, -3.0, 0.0))],
)
def test_soft_returns_of_three_tokens_lie_between_next_value_and_what_came(trace, expected):
    """Reward 0 at the third token; values -2 and -3 before the second and third, ratios 2 and 3.

    Second: -3 and 0 - 3 agree. First: -2 by the value alone, -3 - 2 by what came, -7/2 by halves.
    """
    values, ratios = torch.tensor([[-1.0, -2.0, -3.0]]), torch.tensor([[1.0, 2.0, 3.0]])
    mask = torch.tensor([[True, True, True]])
    found = objective.soft_returns(torch.zeros(1), values, ratios, mask, trace)
    assert found[0].tolist() == close(*expected)
