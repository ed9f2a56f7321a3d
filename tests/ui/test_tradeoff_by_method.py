"""The trade-off by method: whose a policy is, each method's best, all at one utility."""

from dataclasses import replace

import pytest

from acft.metrics.base import METRICS
from acft.store.queries.evaluations import Measure
from acft.ui.pages import tradeoff
from acft.ui.reading import families
from acft.ui.web import charts
from acft.ui.web.dom import text_of
from tests.ui import synthetic
from tests.ui.conftest import CONTROL, QUICK, make_bench, visit
from tests.ui.measurements import as_measurement

MEASURED = "20261122-160000-meas"
PERPLEXITY, TOXIC = Measure("perplexity/sotu", "perplexity"), Measure("rtp/a", "toxic_share")


def point(family, x, y, run_id=QUICK, subject="policy"):
    return {
        "run_id": run_id, "family": family, "name": run_id, "subject": subject, "texts": "",
        "policy_version": 1, "x": x, "x_low": None, "x_high": None, "x_n": 3,
        "y": y, "y_low": None, "y_high": None, "y_n": 3,
    }  # fmt: skip


POINTS = [
    point("base", 20.0, 0.2, subject="base"), point("acft", 21.0, 0.1), point("acft", 23.0, 0.04),
    point("acft", 24.0, 0.15), point("sft", 22.0, 0.12, CONTROL),
]  # fmt: skip
SHOWN = tradeoff.Drawn([PERPLEXITY, TOXIC], PERPLEXITY, TOXIC, POINTS, 5)


def named(shown):
    return {trace["name"]: trace for trace in tradeoff.figure(shown)["data"]}


def test_a_method_has_one_colour_and_its_frontier_leaves_out_what_is_beaten():
    traces = named(SHOWN)
    frontier = traces["frontier of acft"]
    assert list(zip(frontier["x"], frontier["y"], strict=True)) == [(21.0, 0.1), (23.0, 0.04)]
    assert frontier["line"]["color"] == traces["acft"]["line"]["color"]
    assert traces["base"]["line"]["color"] == charts.BASE
    assert traces["acft"]["line"]["color"] != traces["sft"]["line"]["color"]
    assert "frontier of base" not in traces


def test_colours_by_run_show_no_frontier_and_stay_in_the_address(bench):
    assert {*named(replace(SHOWN, by="run"))} == {QUICK, CONTROL}
    assert tradeoff.drawn(bench, visit(by="run")).by == "run"
    assert tradeoff.drawn(bench, visit(by="else")).by == "method"
    assert "data-query': 'by'" in str(tradeoff.menus(SHOWN))


def test_points_of_many_runs_of_a_method_are_not_joined_and_have_one_entry_in_the_legend():
    for n, mode in ((charts.FEW_RUNS, "lines+markers"), (charts.FEW_RUNS + 1, "markers")):
        points = [point("acft", 20.0 + i, 0.1, f"r{i}") for i in range(n)]
        traces = charts.trade_off(points, "x", "y", frontiers={})["data"]
        assert [trace["mode"] for trace in traces] == [mode] * n
        assert sum(trace["showlegend"] for trace in traces) == 1


def test_methods_are_compared_at_every_utility_of_the_chosen_one():
    shown = text_of(tradeoff.matched(SHOWN))
    assert "21.0010.0 %not reached23.004.0 %12.0 %" in shown
    assert "acft table experiments/frontier" in shown
    assert "22.0012.0 %7.0 %" in text_of(tradeoff.matched(replace(SHOWN, at="sft")))


def test_where_more_is_better_the_frontier_goes_the_other_way():
    satisfied = Measure("rtp", "satisfaction")
    shown = replace(SHOWN, up=satisfied, points=[p | {"y": 1 - p["y"]} for p in POINTS])
    assert named(shown)["frontier of acft"]["y"] == [0.9, 0.96]
    assert "22.0088.0 %93.0 %" in text_of(tradeoff.matched(replace(shown, at="sft")))


def test_an_axis_of_which_nobody_says_what_is_better_has_no_frontier_and_says_so():
    shown = replace(SHOWN, across=Measure("rtp", "length_tokens"))
    assert not any(name.startswith("frontier") for name in named(shown))
    assert "Whether more or less is better is not known of: Length" in text_of(
        tradeoff.matched(shown)
    )


def test_one_method_alone_is_compared_with_none():
    assert "Fewer than two methods" in text_of(tradeoff.matched(replace(SHOWN, points=POINTS[:3])))


@pytest.fixture
def measured(tmp_path):
    """A training, and a measurement of it."""
    synthetic.write_run(tmp_path, QUICK)
    as_measurement(synthetic.write_run(tmp_path, MEASURED), QUICK)
    own = make_bench(tmp_path, tmp_path)
    yield own
    own.close()


def test_a_measurements_policy_is_of_the_method_of_the_run_that_it_measured(measured):
    points = tradeoff.drawn(measured, visit()).points
    assert {p["family"] for p in points if p["run_id"] == MEASURED} == {"base", "acft"}


def test_policies_of_several_models_are_families_of_their_own(measured):
    runs = [measured.reader.run(QUICK), measured.reader.run(MEASURED)]
    larger = {**runs[1].settings, "model": {"name": "models/larger"}}
    runs[1] = replace(runs[1], settings=larger)
    points = [{"run_id": run.run_id, "subject": subject}
              for run in runs for subject in ("base", "policy", "control", "guided")]  # fmt: skip
    told = families.families(measured.reader, runs, points)
    assert told[4:] == [
        "base · larger",
        "acft · larger",
        "control · larger",
        "acft, guided · larger",
    ]
    assert told[0].startswith("base · ")


def test_the_base_of_one_of_several_models_has_no_frontier():
    points = [point("base · larger", 20.0, 0.2, subject="base"), point("acft · larger", 21.0, 0.1)]
    assert [*families.frontiers(points, (1, 1))] == ["acft · larger"]


@pytest.mark.parametrize("name", METRICS.names())
def test_the_better_direction_of_a_metric_is_the_registered_one(name):
    directions = {True: -1, False: 1, None: 0}
    assert families.sign(name) == directions[METRICS.get(name).higher_is_better]


def test_a_method_without_its_kl_term_is_a_family_of_its_own(measured):
    run = measured.reader.run(QUICK)
    for name, family in (("acft", "acft, KL weight 0"), ("rl", "rl")):
        unweighted = {**run.settings, "method": {"name": name, "kl_weight": 0.0}}
        plain = replace(run, settings=unweighted)
        points = [{"run_id": QUICK, "subject": "policy"}]
        assert families.families(measured.reader, [plain], points) == [family]
