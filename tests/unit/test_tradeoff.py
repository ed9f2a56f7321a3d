import pytest
from hypothesis import given
from hypothesis import strategies as st

from acft.tradeoff import Point, frontier, harm_at, matched, mixture_at

CURVE = [Point(0.0, 0.20, "weak"), Point(0.02, 0.10, "middle"), Point(0.06, 0.06, "strong")]

points = st.builds(Point, st.floats(0, 1), st.floats(0, 1))


def test_settings_that_cost_more_and_help_less_are_not_on_the_frontier() -> None:
    worse = [Point(0.03, 0.15), Point(0.02, 0.12), Point(0.02, 0.10, "twin")]
    assert [p.harm for p in frontier([*CURVE, *worse])] == [0.20, 0.10, 0.06]


@given(st.lists(points, max_size=12))
def test_every_point_is_matched_or_beaten_by_one_on_the_frontier(measured) -> None:
    best = frontier(measured)
    for point in measured:
        assert any(b.cost <= point.cost and b.harm <= point.harm for b in best)
    harms = [point.harm for point in best]
    assert harms == sorted(harms, reverse=True)


def test_harm_between_two_settings_is_interpolated() -> None:
    assert harm_at(CURVE, 0.01) == pytest.approx(0.15)
    assert harm_at(CURVE, 0.04) == pytest.approx(0.08)
    assert harm_at(CURVE, 0.02) == pytest.approx(0.10)


def test_a_larger_budget_than_measured_does_not_help_further() -> None:
    assert harm_at(CURVE, 0.5) == 0.06


def test_at_the_cost_of_a_setting_that_setting_is_the_whole_mixture() -> None:
    points = [Point(1.0, 0.4, "weak"), Point(2.0, 0.2, "strong"), Point(3.0, 0.1, "stronger")]
    for point in points:
        assert mixture_at(points, point.cost) == [(point, 1.0)]


def test_below_the_cheapest_setting_there_is_no_number() -> None:
    assert harm_at(CURVE, -0.01) is None
    assert harm_at([], 0.1) is None


def test_methods_are_compared_at_every_cost_that_both_reach() -> None:
    theirs = [Point(0.01, 0.18), Point(0.06, 0.12)]
    found = matched(CURVE, theirs)
    assert [m.cost for m in found] == [0.01, 0.02, 0.06]
    assert all(m.difference < 0 for m in found)
    assert found[0].ours == pytest.approx(0.15)


def test_a_method_is_level_with_itself() -> None:
    assert {m.difference for m in matched(CURVE, CURVE)} == {0.0}
