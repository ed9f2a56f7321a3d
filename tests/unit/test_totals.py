import numpy as np
import pytest

from acft.statistics import cluster_bootstrap
from acft.totals import (
    Totals,
    change_beyond_control,
    ratio_bootstrap,
    ratio_change,
    ratio_difference,
)


def totals(groups: str, sums: list[float], counts: list[float]) -> Totals:
    return Totals(tuple(groups), np.array(sums, float), np.array(counts, float))


def test_value_is_all_sums_over_all_counts() -> None:
    assert totals("ab", [3, 1], [4, 6]).value == pytest.approx(0.4)
    assert totals("", [], []).value is None


def test_standard_error_with_equal_counts_is_that_of_the_prompt_means() -> None:
    means = np.array([0.1, 0.4, 0.2, 0.9])
    found = totals("abcd", list(means * 5), [5] * 4).stderr
    assert found == pytest.approx(means.std(ddof=1) / 2)


def test_standard_error_needs_two_prompts() -> None:
    assert totals("a", [1], [2]).stderr is None


def test_interval_of_one_sample_agrees_with_the_general_bootstrap() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((80, 5))
    mine = ratio_bootstrap(
        [Totals(tuple(map(str, range(80))), values.sum(1), np.full(80, 5.0))], lambda ratio: ratio
    )
    general = cluster_bootstrap(np.repeat(np.arange(80), 5), values.ravel())
    assert mine.value == pytest.approx(general.value)
    assert (mine.low, mine.high) == pytest.approx((general.low, general.high), abs=0.01)


def test_only_prompts_measured_on_both_sides_are_compared() -> None:
    base = totals("abc", [1, 2, 9], [2, 2, 0])
    policy = totals("cba", [1, 1, 1], [2, 2, 2])
    interval = ratio_bootstrap([base, policy], ratio_difference)
    assert interval.n == 2
    assert interval.value == pytest.approx(2 / 4 - 3 / 4)


def test_nothing_in_common_gives_no_number() -> None:
    interval = ratio_bootstrap([totals("a", [1], [1]), totals("b", [1], [1])], ratio_change)
    assert (interval.value, interval.n) == (None, 0)


def test_change_beyond_control_is_the_difference_of_the_two_changes() -> None:
    base, control, policy = np.array([0.2]), np.array([0.15]), np.array([0.05])
    expected = ratio_change(base, policy) - ratio_change(base, control)
    assert change_beyond_control(base, control, policy) == pytest.approx(expected)


def test_a_ratio_over_zero_has_no_number_rather_than_infinity() -> None:
    zero, one = totals("ab", [0, 0], [1, 1]), totals("ab", [1, 1], [1, 1])
    interval = ratio_bootstrap([zero, one], ratio_change)
    assert (interval.value, interval.low, interval.high) == (None, None, None)
