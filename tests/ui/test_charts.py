"""What figures say of the numbers behind them."""

from acft.ui.parts import run_charts
from acft.ui.reading.reader import History
from acft.ui.web import charts


def test_the_bars_of_a_share_over_prompts_stay_between_none_and_all():
    shared = {"predicted": 0.5, "n": 40.0, "groups": 4.0}
    bins = [{**shared, "observed": 0.9, "stderr": 0.2}, {**shared, "observed": 0.1, "stderr": 0.2},
            {"predicted": 0.9, "observed": 0.8, "n": 7.0}]  # fmt: skip
    _, observed = charts.reliability(bins, 10)["data"]
    bars = observed["error_y"]
    ends = zip(observed["y"], bars["array"], bars["arrayminus"], strict=True)
    assert [(round(y - down, 3), round(y + up, 3)) for y, up, down in ends] == [
        (0.508, 1.0), (0.0, 0.492), (0.8, 0.8),
    ]  # fmt: skip
    assert observed["customdata"] == [
        ["40 positions of 4 prompts"], ["40 positions of 4 prompts"], ["7 positions"],
    ]  # fmt: skip


def test_no_round_ends_where_the_base_policy_was_validated():
    assert run_charts.round_ends(History(last_steps={0: 0, 1: 20, 2: 40, 3: 45})) == [20, 40]


def test_a_curve_that_is_alone_is_named_too():
    figure = charts.lines([charts.Line("KL(policy ‖ base)", [0, 1], [0.0, 0.1])], "nats")
    assert figure["layout"]["showlegend"] is True
    assert [trace["name"] for trace in figure["data"]] == ["KL(policy ‖ base)"]
