"""What runs are called in menus, legends and tables, where several have one title."""

import json
from dataclasses import asdict, replace

import pytest

from acft.schema import Launch
from acft.ui.pages import runs as runs_page
from acft.ui.pages import tradeoff
from acft.ui.parts.runs_menu import menu
from acft.ui.reading.names import run_names
from acft.ui.web.dom import text_of
from tests.ui import synthetic
from tests.ui.conftest import CONTROL, QUICK, make_bench, visit
from tests.ui.measurements import as_measurement
from tests.ui.test_filters import nodes


@pytest.fixture
def named(bench):
    """Makes a run of a title and a method, as it was asked for."""
    like = bench.reader.run(QUICK)

    def make(run_id, title="one", method="acft", **launch):
        kind = launch.get("kind", "training")
        return replace(
            like, run_id=run_id, status=replace(like.status, kind=kind),
            settings={"title": title, "method": {"name": method}},
            launch=Launch(created=1.0, **launch),
        )  # fmt: skip

    return make


def test_runs_of_one_title_are_told_apart_by_their_method_else_by_their_id(bench, named):
    found = [named("r1"), named("r2", method="sft"), named("r3", method="sft"), named("r4", "two")]
    assert run_names(bench.reader, found) == {
        "r1": "acft · one", "r2": "r2 · sft · one", "r3": "r3 · sft · one", "r4": "two",
    }  # fmt: skip


def test_runs_of_a_sweep_are_told_apart_by_the_overrides_in_which_they_differ(bench, named):
    asked = {"r1": ("seed=1", "method.kl_weight=0.2"), "r2": ("seed=1", "method.kl_weight=0.5"),
             "r3": ("seed=1",), "r4": ("seed=1", "method.kl_weight=0.5")}  # fmt: skip
    found = [named(run_id, overrides=overrides) for run_id, overrides in asked.items()]
    assert run_names(bench.reader, found[:3]) == {
        "r1": "method.kl_weight=0.2 · acft · one", "r2": "method.kl_weight=0.5 · acft · one",
        "r3": "acft · one",
    }  # fmt: skip
    assert run_names(bench.reader, found)["r4"] == "r4 · method.kl_weight=0.5 · acft · one"


def test_measurements_are_told_apart_by_the_runs_that_they_measure(bench, named):
    trained = [named("r1"), named("r2", method="sft")]
    measuring = [
        named(f"m{run.run_id}", method="evaluate", kind="evaluation", subject=run.run_id)
        for run in trained
    ]
    assert run_names(bench.reader, [*trained, *measuring]) == {
        "r1": "acft · one", "r2": "sft · one",
        "mr1": "measured: acft · one", "mr2": "measured: sft · one",
    }  # fmt: skip


def test_a_measurement_of_a_model_or_of_a_run_that_is_gone_is_called_by_its_own(bench, named):
    found = [
        named("m1", method="evaluate", kind="evaluation", subject="some/model"),
        named("m2", method="evaluate", kind="evaluation", subject="20200101-000000-gone"),
    ]
    assert run_names(bench.reader, found) == {
        "m1": "m1 · evaluate · one", "m2": "m2 · evaluate · one",
    }  # fmt: skip


MEASURED = "20261122-160000-meas"


@pytest.fixture
def several(tmp_path):
    """Two trainings of one title under different weights, and a measurement of one of them."""
    for run_id, weight in ((QUICK, 0.2), (CONTROL, 0.5)):
        folder = synthetic.write_run(tmp_path, run_id)
        launch = Launch(created=1.0, overrides=(f"method.kl_weight={weight}",))
        (folder / "launch.json").write_text(json.dumps(asdict(launch)), "utf-8")
    as_measurement(synthetic.write_run(tmp_path, MEASURED), CONTROL)
    own = make_bench(tmp_path, tmp_path)
    yield own
    own.close()


NAMES = {
    QUICK: "method.kl_weight=0.2 · acft",
    CONTROL: "method.kl_weight=0.5 · acft",
    MEASURED: "measured: acft",
}


def test_menus_tell_runs_of_one_title_apart(several):
    lines = [text_of(line) for line in nodes(menu(several, QUICK)) if line[0] == "option"]
    for run_id, name in NAMES.items():
        assert any(line.endswith(f"{name} · {run_id}") for line in lines)


def test_legends_and_the_table_of_the_trade_off_tell_runs_of_one_title_apart(several):
    shown = tradeoff.drawn(several, visit(by="run"))
    curves = runs_page.overlay(several, visit(select=",".join(NAMES)), "policy/ce")
    for figure in (curves, tradeoff.figure(shown)):
        legend = {trace["name"] for trace in figure["data"]}
        assert {name for name in NAMES.values() for own in legend if own.startswith(name)} == {
            *NAMES.values()
        }
    table = text_of(tradeoff.numbers(shown))
    assert all(name in table for name in NAMES.values())


def test_where_colours_tell_methods_apart_each_point_says_of_which_run_it_is(several):
    figure = tradeoff.figure(tradeoff.drawn(several, visit()))
    told = [data[1] for trace in figure["data"] for data in trace.get("customdata", ())]
    assert all(any(f"<br>{name}" in text for text in told) for name in NAMES.values())
