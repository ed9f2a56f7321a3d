"""What every registered metric promises."""

import random

import pytest

from acft.metrics.base import METRICS
from tests.fake_responses import response

WORDS = ["sun", "moon", "rain", "wind", "."]


def some_responses(seed: int) -> list:
    draw = random.Random(seed)
    return [
        response(
            f"p{prompt}",
            " ".join(draw.choices(WORDS, k=draw.randrange(12))),
            satisfaction=draw.random(),
            sample=sample,
            judge=draw.random(),
        )
        for prompt in range(8)
        for sample in range(5)
    ]


@pytest.fixture(params=METRICS.names())
def metric(request):
    return METRICS.get(request.param)


def test_no_data_is_no_number(metric) -> None:
    totals = metric.totals([], "judge")
    assert (totals.value, totals.n) == (None, 0)


def test_the_order_of_responses_does_not_matter(metric) -> None:
    responses = some_responses(1)
    expected = metric.totals(responses, "judge").to_json()
    random.Random(0).shuffle(responses)
    assert metric.totals(responses, "judge").to_json() == expected


@pytest.mark.parametrize("seed", range(5))
def test_values_stay_in_their_range(metric, seed) -> None:
    found = metric.totals(some_responses(seed), "judge")
    assert found.value is not None
    assert found.value >= 0
    assert metric.highest is None or found.value <= metric.highest
    assert 0 < found.n <= 8


def test_totals_list_each_prompt_once_in_order(metric) -> None:
    groups = metric.totals(some_responses(2), "judge").groups
    assert list(groups) == sorted({r.rollout.prompt_id for r in some_responses(2)})


def test_it_says_what_it_measures_in_which_unit_and_what_is_better(metric) -> None:
    direction = {True: "higher is better", False: "lower is better", None: "neither direction"}
    assert direction[metric.higher_is_better] in metric.summary
    assert metric.unit


def test_inputs_are_left_alone(metric) -> None:
    responses = some_responses(3)
    metric.totals(responses, "judge")
    assert responses == some_responses(3)
