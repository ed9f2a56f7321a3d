import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acft.statistics import RESAMPLES, equivalence_of_change, percentile_interval, wilson
from acft.totals import (
    Totals,
    _resamples,
    category_name,
    change_beyond_control,
    event_names,
    interval,
    pooled_bootstrap,
    ratio_bootstrap,
    ratio_change,
    ratio_difference,
    unpaired_bootstrap,
)


def totals(groups: Sequence[str], sums: list[float], counts: list[float]) -> Totals:
    return Totals(tuple(groups), np.array(sums, float), np.array(counts, float))


def test_value_is_all_sums_over_all_counts() -> None:
    assert totals("ab", [3, 1], [4, 6]).value == pytest.approx(0.4)
    assert totals("", [], []).value is None


def test_rows_are_added_up_by_group_in_the_order_of_the_groups_names() -> None:
    ones = Totals.of_rows(["b", "a", "b"], [1, 2, 3])
    assert (ones.groups, ones.sums.tolist(), ones.counts.tolist()) == (("a", "b"), [2, 4], [1, 2])
    assert Totals.of_rows(["b", "a", "b"], [1, 2, 3], [4, 5, 6]).counts.tolist() == [5, 10]
    assert Totals.of_rows([], []).value is None


def test_standard_error_with_equal_counts_is_that_of_the_prompt_means() -> None:
    means = np.array([0.1, 0.4, 0.2, 0.9])
    found = interval(totals("abcd", list(means * 5), [5] * 4)).stderr
    assert found == pytest.approx(means.std() / 2, rel=0.05)


def test_standard_error_needs_two_prompts() -> None:
    assert interval(totals("a", [1], [2])).stderr is None


def test_interval_of_one_sample_agrees_with_prompts_drawn_one_resample_after_the_other() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((80, 5))
    prompts, flat = np.repeat(np.arange(80), 5), values.ravel()
    sample = Totals.of_rows(prompts.astype(str).tolist(), flat)
    mine = ratio_bootstrap([sample], lambda ratio: ratio)
    draws = [values[rng.integers(80, size=80)].mean() for _ in range(RESAMPLES)]
    assert mine.value == pytest.approx(flat.mean())
    assert (mine.low, mine.high) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.01)


def test_measurements_of_different_texts_are_resampled_each_by_itself() -> None:
    rng = np.random.default_rng(0)
    low, high = rng.random(60), 1 + 3 * rng.random(40)
    sides = [
        Totals.of_rows([f"{name}{i}" for i in range(len(values))], values)
        for name, values in (("a", low), ("b", high))
    ]
    found = unpaired_bootstrap(sides, ratio_difference)
    assert found.value == pytest.approx(high.mean() - low.mean())
    assert found.n == 100
    # variances of independent means add up
    assert found.stderr == pytest.approx(
        np.hypot(low.std() / 60**0.5, high.std() / 40**0.5), rel=0.06
    )
    assert found.low is not None
    assert found.high is not None
    assert found.stderr is not None
    assert found.high - found.low == pytest.approx(2 * 1.96 * found.stderr, rel=0.05)


def test_one_text_on_a_side_has_no_interval_and_none_has_no_value() -> None:
    pair, one, none = totals("ab", [1, 2], [1, 1]), totals("c", [5], [1]), totals("d", [0], [0])
    found = unpaired_bootstrap([pair, one], ratio_difference)
    assert (found.value, found.low, found.n) == (3.5, None, 3)
    assert unpaired_bootstrap([pair, none], ratio_difference).value is None


def test_resamples_that_are_kept_are_those_of_the_number_of_prompts_and_the_seed() -> None:
    rng = np.random.default_rng(0)
    for n, seed, n_resamples in 2 * [(20, 0, 200), (20, 1, 200), (21, 0, 200), (20, 0, 100)]:
        sums, counts = rng.random(n), rng.integers(1, 9, n).astype(float)
        weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), n_resamples)
        draws = (weights @ sums) / (weights @ counts)
        sample = totals([str(i) for i in range(n)], list(sums), list(counts))
        found = ratio_bootstrap([sample], lambda ratio: ratio, n_resamples, seed)
        assert found == percentile_interval(float(sums.sum() / counts.sum()), draws, n)


def test_the_interval_of_thousands_of_prompts_takes_little_memory() -> None:
    n = 4000
    sample = totals([f"p{i}" for i in range(n)], [0.1] * n, [1] * n)
    tracemalloc.start()
    ratio_bootstrap([sample], lambda ratio: ratio)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    _resamples.cache_clear()
    assert peak < 6 * 2000 * n


def test_resamples_are_drawn_once_for_all_measurements_of_as_many_prompts() -> None:
    one, other = (totals("ab", sums, [1, 1]) for sums in ([1.0, 2.0], [2.0, 0.0]))
    _resamples.cache_clear()
    for sample in (one, other, one):
        ratio_bootstrap([sample], lambda ratio: ratio)
    assert _resamples.cache_info().misses == 1
    assert not _resamples(2, RESAMPLES, 0).flags.writeable


def test_an_interval_over_prompts_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    prompts = np.repeat(np.arange(40), 5).astype(str).tolist()
    covered = 0
    for trial in range(200):
        values = np.repeat(rng.normal(1.0, 1.0, 40), 5) + rng.normal(0, 0.5, 200)
        found = interval(Totals.of_rows(prompts, values), trial, is_share=False)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 1.0 <= found.high
    assert 0.88 <= covered / 200 <= 0.99


def test_a_difference_is_seen_that_varies_less_than_its_parts() -> None:
    rng = np.random.default_rng(0)
    prompts = np.repeat(np.arange(50), 4).astype(str).tolist()
    base = np.repeat(rng.normal(0, 5, 50), 4) + 20
    tuned = base - 1 + rng.normal(0, 0.1, 200)
    sides = [Totals.of_rows(prompts, values) for values in (base, tuned)]
    found = ratio_bootstrap(sides, ratio_difference)
    assert found.value == pytest.approx(-1, abs=0.05)
    assert found.high is not None
    assert found.high < 0
    assert found.n == 50


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


def test_an_event_names_suite_and_judge_apart_from_the_metric() -> None:
    names = event_names("rtp", "toxic_share@odd/judge", "change")
    assert names == ("rtp/judge", "toxic_share_change@odd")
    corpus = "/data/me@lab/news.txt"
    names = event_names("perplexity", f"perplexity/{corpus}", "change")
    assert names == (f"perplexity/{corpus}", "perplexity_change")
    assert event_names("rtp", "distinct_2") == ("rtp", "distinct_2")


def test_a_categorys_name_is_taken_apart_again_though_the_category_holds_a_slash() -> None:
    name = category_name("toxic_share", "race/origin", "local:/weights#toxic")
    assert event_names("rtp", name) == ("rtp/local:/weights#toxic", "toxic_share@race-origin")


def test_seeing_nothing_in_20_prompts_does_not_rule_out_a_small_share() -> None:
    found = interval(totals([str(i) for i in range(20)], [0] * 20, [5] * 20))
    assert found.value == found.low == 0
    assert found.high == pytest.approx(0.161, abs=1e-3)


@pytest.mark.parametrize("shown", [0, 1])
def test_a_change_to_none_or_all_is_not_known_exactly(shown) -> None:
    rng = np.random.default_rng(0)
    names = tuple(map(str, range(20)))
    base = Totals(names, rng.integers(1, 4, 20).astype(float), np.full(20, 5.0))
    policy = Totals(names, np.full(20, 5.0 * shown), np.full(20, 5.0))
    known = ratio_bootstrap([base, policy], ratio_difference)
    found = ratio_bootstrap([base, policy], ratio_difference, are_shares=True)
    bounds = wilson(20 * shown, 20)
    bound = bounds.high if shown == 0 else bounds.low
    assert bound is not None
    edge = bound - float(base.overall()[0])
    expected = (known.low, edge) if shown == 0 else (edge, known.high)
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.value == known.value
    pooled = pooled_bootstrap([[base], [policy]], ratio_difference, are_shares=True)
    assert (pooled.low, pooled.high) == pytest.approx(expected)


def test_what_is_no_share_may_be_none_exactly() -> None:
    names = tuple(map(str, range(20)))
    rng = np.random.default_rng(0)
    one, none = Totals(names, rng.random(20), np.ones(20)), Totals(names, np.zeros(20), np.ones(20))
    assert ratio_bootstrap([none, one], ratio_difference) == ratio_bootstrap([one], lambda v: v)


def test_always_one_is_no_share_where_more_is_possible() -> None:
    found = interval(totals("abcd", [5] * 4, [5] * 4), is_share=False)
    assert (found.low, found.value, found.high) == (1, 1, 1)


def test_one_repetition_is_the_ordinary_interval() -> None:
    rng = np.random.default_rng(0)
    names = tuple(map(str, range(40)))
    base, policy = (Totals(names, rng.random(40), np.ones(40)) for _ in range(2))
    alone = ratio_bootstrap([base, policy], ratio_change)
    assert pooled_bootstrap([[base], [policy]], ratio_change) == alone


def test_repetitions_that_differ_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    names = tuple(map(str, range(200)))
    same = [Totals(names, 0.3 + 0.1 * rng.random(200), np.ones(200)) for _ in range(3)]
    apart = [
        Totals(names, t.sums + shift, t.counts)
        for t, shift in zip(same, (-0.1, 0.0, 0.1), strict=True)
    ]
    narrow, wide = (pooled_bootstrap([s], lambda value: value) for s in (same, apart))
    assert narrow.value == pytest.approx(wide.value)
    assert narrow.stderr is not None
    assert wide.stderr is not None
    assert wide.stderr > 3 * narrow.stderr
    assert narrow.low is not None
    assert narrow.high is not None
    assert narrow.high - narrow.low > 3 * narrow.stderr, "prompts count where repetitions agree"
    assert wide.stderr == pytest.approx(0.1 / 3**0.5, rel=0.15)


def test_an_interval_over_three_repetitions_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    names, covered = tuple(map(str, range(40))), 0
    for _ in range(300):
        prompts = 5 + rng.normal(0, 0.1, 40)
        runs = [
            Totals(names, prompts + rng.normal(0, 0.1) + rng.normal(0, 0.1, 40), np.ones(40))
            for _ in range(3)
        ]
        found = pooled_bootstrap([runs], lambda value: value, n_resamples=300)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 5 <= found.high
    assert 0.92 <= covered / 300 <= 0.98


def test_an_interval_over_two_repetitions_stays_inside_what_a_share_can_be() -> None:
    runs = [totals([str(i) for i in range(20)], [hits] * 20, [5] * 20) for hits in (1, 4)]
    found = pooled_bootstrap([runs], lambda value: value, are_shares=True)
    assert (found.low, found.value, found.high) == (0.0, 0.5, 1.0)
    assert found.stderr == pytest.approx(0.3, rel=0.15)


def test_only_what_is_called_a_share_ends_at_one() -> None:
    runs = [totals("abcd", [0.8 * 5] * 4, [5] * 4), totals("abcd", [0.92 * 5] * 4, [5] * 4)]
    bits = pooled_bootstrap([runs], lambda value: value)
    share = pooled_bootstrap([runs], lambda value: value, are_shares=True)
    assert bits.high == pytest.approx(0.86 + 12.7 * 0.06, rel=0.05)
    assert share.high == 1.0


def test_a_change_from_what_may_be_nothing_has_no_limit_above() -> None:
    """One of three groups shows anything of base, so (2/3)^3 = 30 % of resamples are over nothing.

    The lowest 2.5 % have base in all three groups, (1/3)^3 = 3.7 %: 1 over 1/2 is twice as much.
    """
    base = totals("abc", [0, 0, 1], [2, 2, 2])
    policy = totals("abc", [2, 2, 2], [2, 2, 2])
    found = ratio_bootstrap([base, policy], ratio_change)
    assert (found.value, found.low, found.high) == (5.0, 1.0, np.inf)
    assert found.stderr is None
    assert pooled_bootstrap([[base], [policy]], ratio_change) == found


def test_a_change_from_no_share_at_all_is_at_least_that_from_what_may_have_been_missed() -> None:
    names = [str(i) for i in range(20)]
    base, policy = (
        totals(names, [0.0] * 20, [1.0] * 20),
        totals(names, [1.0] * 10 + [0.0] * 10, [1.0] * 20),
    )
    found = ratio_bootstrap([base, policy], ratio_change, are_shares=True)
    bound = wilson(0, 20).high
    assert bound is not None
    assert (found.value, found.low, found.high) == (None, pytest.approx(0.5 / bound - 1), np.inf)


TURNED = {"lower": "higher", "higher": "lower"}


@given(st.data(), st.booleans(), st.sampled_from([0.05, 0.1, 0.5, 2.0]))
@settings(max_examples=150, deadline=None)
def test_a_verdict_on_a_change_is_turned_round_with_its_sides(data, are_shares, margin) -> None:
    n = data.draw(st.integers(2, 12))
    most = 4 if are_shares else 30
    groups = st.lists(st.integers(0, most), min_size=n, max_size=n)
    sides = [
        [
            totals([str(i) for i in range(n)], data.draw(groups), [4] * n)
            for _ in range(data.draw(st.integers(1, 3)))
        ]
        for _ in range(2)
    ]

    def verdict(sides: list[list[Totals]]) -> str:
        found = pooled_bootstrap(sides, ratio_change, n_resamples=200, are_shares=are_shares)
        return equivalence_of_change(found, margin)

    one, other = verdict(sides), verdict(sides[::-1])
    assert other == TURNED.get(one, one)
