import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import (
    brier_score_loss,
    cohen_kappa_score,
    log_loss,
    roc_auc_score,
)

from acft import statistics
from acft.statistics import (
    Interval,
    agreement,
    auc,
    auc_draws,
    auc_within,
    bce,
    bootstrap,
    brackets,
    brier,
    equivalence,
    equivalence_of_change,
    group_rows,
    percentile_interval,
    recorded,
    reliability_bins,
    wilson,
)


@pytest.fixture
def judged() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores with ties, labels that follow them, and weights."""
    rng = np.random.default_rng(3)
    scores = rng.integers(0, 8, 300) / 8
    return scores, rng.random(300) < scores, rng.random(300)


def test_auc_of_a_case_worked_by_hand() -> None:
    # positives 3, 1; negatives 2, 1: pairs 3>2, 3>1, 1<2, 1=1 give (1 + 1 + 0 + 1/2) / 4
    assert auc([3, 1, 2, 1], [1, 1, 0, 0]) == pytest.approx(2.5 / 4)


def test_auc_equals_scikit_learn_with_ties_and_weights(judged) -> None:
    scores, labels, weights = judged
    assert auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))
    reference = roc_auc_score(labels, scores, sample_weight=weights)
    assert auc(scores, labels, weights) == pytest.approx(reference)


def test_auc_needs_both_classes() -> None:
    assert auc([1, 2], [1, 1]) is None
    assert auc([], []) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=30))
def test_auc_of_reversed_scores_is_its_complement(rows) -> None:
    scores, labels = [score for score, _ in rows], [label for _, label in rows]
    forward, backward = auc(scores, labels), auc([-s for s in scores], labels)
    if forward is None or backward is None:
        assert forward is backward
    else:
        assert forward + backward == pytest.approx(1)


def test_auc_within_groups_ignores_what_tells_groups_apart() -> None:
    scores, labels, groups = [9, 8, 2, 1], [1, 0, 0, 1], ["a", "a", "b", "b"]
    # a: 9 over 8 is right; b: 1 under 2 is wrong
    assert auc_within(scores, labels, groups) == pytest.approx(0.5)
    assert auc_within(scores, labels, [1, 2, 3, 4]) is None


def test_auc_refuses_graded_labels() -> None:
    with pytest.raises(ValueError, match="labels must be 0 or 1"):
        auc([1, 2], [0.3, 1])


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        brier([0.1, 0.2], [1])


def test_brier_and_bce_equal_scikit_learn(judged) -> None:
    scores, labels, weights = judged
    scores = scores * 0.9 + 0.05
    assert brier(scores, labels) == pytest.approx(brier_score_loss(labels, scores))
    assert bce(scores, labels) == pytest.approx(log_loss(labels, scores))
    assert bce(scores, labels, weights) == pytest.approx(
        log_loss(labels, scores, sample_weight=weights)
    )


def test_calibration_without_data_has_no_number() -> None:
    assert brier([], []) is None
    assert bce([], []) is None
    assert reliability_bins([], [], []) == []


def test_bce_of_a_certain_mistake_is_finite() -> None:
    assert bce([1.0], [0.0]) == pytest.approx(-np.log(1e-12), rel=1e-3)


def test_reliability_bins_hold_their_means_and_leave_out_empty_ones() -> None:
    groups = ["a", "a", "b", "b"]
    bins = reliability_bins([0.05, 0.15, 0.15, 1.0], [0, 1, 0, 1], groups, n_bins=10)
    assert [(b["low"], b["n"]) for b in bins] == [(0.0, 1), (0.1, 2), (0.9, 1)]
    assert bins[1]["predicted"] == pytest.approx(0.15)
    assert bins[1]["observed"] == pytest.approx(0.5)
    assert ["stderr" in b for b in bins] == [False, True, False]


def test_the_error_of_a_bin_is_that_of_a_share_over_groups() -> None:
    sums, counts = np.array([3.0, 0.0, 1.0]), np.array([3.0, 4.0, 2.0])
    observed = [1, 1, 1, 0, 0, 0, 0, 1, 0]
    groups = np.repeat(["a", "b", "c"], counts.astype(int))
    (found,) = reliability_bins([0.55] * 9, observed, groups)
    residuals = (sums - sums.sum() / counts.sum() * counts) * 3 / counts.sum()
    expected = np.sqrt(np.sum(residuals**2) / (3 * 2))
    assert (found["stderr"], found["groups"]) == (pytest.approx(expected), 3)
    assert expected > np.sqrt(4 / 9 * 5 / 9 / 9)


def test_a_response_weighs_in_a_bin_as_if_it_were_there_so_often() -> None:
    predicted, observed = np.array([0.12, 0.18, 0.15, 0.95]), np.array([1, 0, 1, 1])
    groups, often = np.array(["a", "b", "b", "c"]), [0, 0, 1, 2, 2, 2]
    (weighted,) = reliability_bins(predicted, observed, groups, [2, 1, 3, 0])
    (repeated,) = reliability_bins(predicted[often], observed[often], groups[often])
    for name in ("predicted", "observed", "stderr", "groups"):
        assert weighted[name] == pytest.approx(repeated[name])


def test_agreement_equals_scipy_and_scikit_learn(judged) -> None:
    scores, _, noise = judged
    other = scores + noise
    found = agreement(scores, other)
    assert found.pearson == pytest.approx(np.corrcoef(scores, other)[0, 1])
    assert found.spearman == pytest.approx(spearmanr(scores, other)[0])
    assert found.kappa == pytest.approx(cohen_kappa_score(scores >= 0.5, other >= 0.5))
    assert found.n == 300


def test_agreement_of_constant_scorers_is_undefined() -> None:
    found = agreement([0.1, 0.1], [0.2, 0.2])
    assert (found.pearson, found.spearman, found.kappa) == (None, None, None)


def test_wilson_interval_of_a_published_example() -> None:
    # Wilson score interval for 1 of 10, as tabulated by Newcombe 1998 (method 3)
    interval = wilson(1, 10)
    assert (interval.low, interval.high) == pytest.approx((0.0179, 0.4042), abs=1e-4)
    assert wilson(0, 10).low == 0.0
    assert wilson(0, 0) == Interval(None, None, None, 0)


def test_ignoring_the_groups_would_cover_far_too_rarely() -> None:
    rng = np.random.default_rng(11)
    covered = 0
    for trial in range(100):
        values = np.repeat(rng.normal(1.0, 1.0, 20), 25)
        interval = bootstrap(np.arange(500), lambda rows: values[rows].mean(), 200, trial)  # noqa: B023
        assert interval.low is not None
        assert interval.high is not None
        covered += interval.low <= 1.0 <= interval.high
    assert covered / 100 < 0.5


def test_bootstrap_repeats_with_its_seed() -> None:
    values = np.random.default_rng(1).random(60)

    def interval(seed: int) -> Interval:
        return bootstrap(np.arange(60) % 20, lambda rows: values[rows].mean(), seed=seed)

    assert interval(4) == interval(4)
    assert interval(4) != interval(5)


def test_a_resample_holds_the_rows_of_whole_groups_in_the_order_they_are_drawn() -> None:
    groups = np.random.default_rng(2).integers(0, 9, 60)  # uneven, members far apart
    members = group_rows(groups)
    assert len({len(rows) for rows in members}) > 2
    seen: list[list[int]] = []
    bootstrap(groups, lambda rows: seen.append(rows.tolist()), n_resamples=30, seed=4)
    rng = np.random.default_rng(4)
    expected = [
        np.concatenate([members[g] for g in rng.integers(len(members), size=len(members))])
        for _ in range(30)
    ]
    assert seen == [list(range(60)), *(rows.tolist() for rows in expected)]


def test_one_group_gives_a_value_without_an_interval() -> None:
    interval = bootstrap(["a", "a"], lambda rows: float(rows.mean()))
    assert (interval.value, interval.low, interval.n) == (0.5, None, 1)


def test_a_statistic_that_is_undefined_has_no_number() -> None:
    interval = bootstrap([1, 2], lambda rows: None)
    assert (interval.value, interval.low, interval.high, interval.n) == (None, None, None, 2)


def test_bootstrap_accepts_any_statistic_of_rows(judged) -> None:
    scores, labels, _ = judged
    interval = bootstrap(np.arange(300) % 30, lambda rows: auc(scores[rows], labels[rows]))
    assert interval.value == pytest.approx(auc(scores, labels))
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low < roc_auc_score(labels, scores) < interval.high


def test_draws_of_aucs_are_those_of_resamples_judged_one_by_one(judged, monkeypatch) -> None:
    monkeypatch.setattr(statistics, "BLOCK", 7 * 300)  # does not divide their number
    scores, labels, _ = judged
    values, draws = auc_draws([scores, -scores], labels, n_resamples=100, seed=4)
    rng = np.random.default_rng(4)
    for drawn in draws.T:
        rows = rng.integers(len(scores), size=len(scores))
        expected = [roc_auc_score(labels[rows], side[rows]) for side in (scores, -scores)]
        assert drawn.tolist() == pytest.approx(expected, rel=1e-9)
    assert draws.shape == (2, 100)
    assert values.tolist() == pytest.approx([(a := roc_auc_score(labels, scores)), 1 - a])


def test_draws_of_an_auc_change_with_their_seed_alone(judged) -> None:
    scores, labels, _ = judged

    def drawn(seed: int) -> list[float]:
        return auc_draws([scores], labels, n_resamples=50, seed=seed)[1][0].tolist()

    assert drawn(4) == drawn(4)
    assert drawn(4) != drawn(5)


def test_an_auc_of_one_class_has_no_number_and_no_draws() -> None:
    values, draws = auc_draws([[0.1, 0.2]], [1, 1], n_resamples=9)
    assert np.isnan(values).all()
    assert np.isnan(draws).all()


def test_the_few_ratios_over_nothing_count_among_the_largest() -> None:
    draws = np.concatenate([np.arange(991.0), np.full(9, np.inf)])
    found = percentile_interval(500.0, draws, n=10)
    # the nearest draw, not between two: nothing lies between a number and infinity
    assert found.high == np.quantile(np.arange(1000.0), 0.975, method="nearest")
    assert found.low == np.quantile(np.arange(1000.0), 0.025, method="nearest")
    assert found.stderr == pytest.approx(np.arange(991.0).std(ddof=1))


def test_many_ratios_over_nothing_leave_the_interval_without_a_limit_above():
    draws = np.concatenate([np.arange(900.0), np.full(100, np.inf)])
    found = percentile_interval(450.0, draws, n=10)
    assert (found.low, found.high, found.stderr) == (25.0, np.inf, None)


def test_what_is_zero_over_zero_too_often_has_no_interval():
    draws = np.concatenate([np.arange(989.0), np.full(11, np.nan)])
    assert percentile_interval(450.0, draws, n=10) == Interval(450.0, None, None, 10)


def test_the_interval_of_one_over_x_is_that_of_x_turned_round():
    draws = np.random.default_rng(0).random(2000)
    draws[:100] = 0.0
    with np.errstate(divide="ignore"):
        one, other = percentile_interval(0.5, draws, 9), percentile_interval(2.0, 1 / draws, 9)
    assert other.low is not None
    assert (one.low, one.high) == (0.0, pytest.approx(1 / other.low))
    assert other.high == np.inf


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.5, 1.5, "[0.5, 1.5]"),
        (0.5, None, "[0.5, inf)"),
        (None, 1.5, "(-inf, 1.5]"),
        (None, None, ""),
    ],
)
def test_an_end_that_is_not_recorded_is_shown_as_no_limit(low, high, text) -> None:
    assert brackets(low, high, str) == text


def test_records_hold_no_infinite_end() -> None:
    found = recorded(Interval(1.0, 0.5, np.inf, 9))
    assert found == Interval(1.0, 0.5, None, 9)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.09, 0.09, "equivalent"),
        (-0.095, 0.05, "undecided"),  # turned round it is a rise by up to 10.5 %
        (-0.095, -0.02, "lower"),
        (0.02, np.inf, "higher"),
        (-0.1, np.inf, "undecided"),
        (0.0, 1e-16, "equivalent"),
        (1e-16, 0.3, "undecided"),
    ],
)
def test_a_change_is_equivalent_where_neither_is_above_the_other_by_the_margin(
    low, high, verdict
) -> None:
    assert equivalence_of_change(Interval(0.0, low, high, 10), margin=0.1) == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.05, 0.08, "equivalent"),
        (0.02, 0.09, "equivalent"),
        (-0.4, -0.02, "lower"),
        (0.02, 0.3, "higher"),
        (-0.3, 0.05, "undecided"),
        (None, None, "undecided"),
    ],
)
def test_equivalence_is_read_from_the_interval(low, high, verdict) -> None:
    assert equivalence(Interval(0.0, low, high, 10), margin=0.1) == verdict


@pytest.mark.parametrize("n", [1, 40, 100, 2500])
def test_a_share_of_none_or_all_ends_exactly_at_zero_or_one(n: int) -> None:
    assert wilson(0, n).low == 0.0
    assert wilson(n, n).high == 1.0
