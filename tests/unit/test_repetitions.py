import numpy as np
import pytest

from acft.repetitions import interval_of_means, mean_of_runs
from acft.statistics import RESAMPLES, Interval


def test_runs_that_agree_keep_their_own_error_and_runs_that_differ_add_theirs() -> None:
    alike = mean_of_runs([Interval(0.8, 0.7, 0.9, 50, 0.05)] * 3)
    assert (alike.value, alike.n) == (pytest.approx(0.8), 50)
    assert alike.stderr == pytest.approx(0.05, rel=0.1)
    assert (alike.low, alike.high) == pytest.approx((0.702, 0.898), abs=0.01)
    apart = mean_of_runs([Interval(v, None, None, 50, 0.05) for v in (0.7, 0.8, 0.9)])
    assert apart.stderr == pytest.approx((0.05**2 + 0.1**2 / 3) ** 0.5, rel=0.1)
    # Student's t with 2 degrees of freedom: 4.30 standard errors
    assert apart.low is not None
    assert apart.low < 0.8 - 4.3 * 0.1 / 3**0.5 * 0.9


def test_runs_of_which_one_has_no_standard_error_have_no_interval() -> None:
    mixed = [Interval(0.8, None, None, 50, 0.05), Interval(0.7, None, None, 50)]
    assert mean_of_runs(mixed).value is None


def test_errors_over_runs_are_other_draws_than_those_over_prompts_of_the_same_seed() -> None:
    over_prompts = np.random.default_rng(7).standard_normal(RESAMPLES)
    alone = np.array([-1.0, 1.0])  # whose mean has a standard error of 1
    found = interval_of_means(
        lambda mean: mean, [alone], [over_prompts], [(-np.inf, np.inf)], 40, seed=7
    )
    assert found.stderr == pytest.approx(2**0.5, rel=0.05), "variances of independent errors add up"
