"""The run that comes with the project: whole, small, real, and enough for every page."""

import dataclasses
from urllib.parse import parse_qsl

import pytest

from acft.corpora.base import PROMPT_SETS
from acft.runs import recording
from acft.store.queries.tokens import sum_check
from acft.ui import app
from acft.ui.options import DEMO_RUNS, EXPERIMENTS, Options
from acft.ui.page import PAGES
from acft.ui.pages import compare, rollouts, tokens, tradeoff
from acft.ui.pages import run as run_page
from acft.ui.pages import runs as runs_page
from acft.ui.reading import checkpoints
from acft.ui.reading.tokens import TOLERANCE
from acft.ui.web.dom import text_of
from tests.ui.conftest import make_bench, visit


@pytest.fixture(scope="module")
def demo():
    return make_bench(DEMO_RUNS, EXPERIMENTS)


@pytest.fixture(scope="module")
def run(demo):
    (only,) = demo.reader.runs()
    return only


def test_every_file_is_as_it_was_recorded_and_all_are_small():
    assert len(recording.check(DEMO_RUNS)) == 1
    size = sum(path.stat().st_size for path in DEMO_RUNS.rglob("*") if path.is_file())
    assert size <= recording.MAX_BYTES


def test_it_is_a_finished_run_of_the_settings_it_is_said_to_be(run):
    assert run.state.state == "finished"
    assert run.paths.spec.read_text() == (EXPERIMENTS / "demo.toml").read_text()
    assert recording.TAG in run.labels.tags


def test_its_prompts_are_those_written_for_this_project(demo, run):
    written = {record.text.strip() for record in PROMPT_SETS.get("demo").load()}
    asked = {a.prompt for a in demo.reader.answers(run)}
    assert asked
    assert asked <= written


def test_its_weights_are_all_there(run):
    for sealed in run.history.rounds:
        folder = run.paths.root / sealed.checkpoint
        assert (folder / "policy" / "adapter_model.safetensors").is_file()
        assert (folder / "oracle" / "oracle.safetensors").is_file()


def test_every_stored_text_passes_the_sum_check(demo, run):
    found = sum_check(demo.store, run.run_id, TOLERANCE)
    assert found["n_logged"] > 0
    assert found["n_wrong"] == 0


def test_every_page_has_something_to_show(demo, run):
    seen = visit(run.run_id)
    assert "A recorded run to explore" in text_of(runs_page.overview(demo, seen))
    assert run_page.before_after(demo, run) is not None
    assert all(figure["data"] for figure in run_page.figures(demo, seen))
    assert tokens.tokens(demo, seen)["tokens"]
    assert compare.compared(demo, seen) is not None
    assert rollouts.answer(demo, seen, run).records()


def test_a_checkpoint_that_validation_measured_leads_to_its_own_texts(demo, run):
    up = next(m for m in checkpoints.measures([run]) if m.metric == "rollout/satisfaction")
    points = tradeoff.drawn(demo, visit(y=tradeoff._key(up))).points
    assert len(points) == 4
    for point in points:
        query = dict(parse_qsl(point["texts"].removeprefix("compare?")))
        found = compare.compared(demo, visit(query.pop("run"), **query))
        assert found is not None
        assert found.split == "validation"
        assert found.pairs
        assert point["policy_version"] in (found.left.version, found.right.version)
        if point["policy_version"]:
            judged = [pair.right.satisfaction for pair in found.pairs]
            assert sum(s is not None and s > 0.5 for s in judged) / len(judged) == pytest.approx(
                point["y"]
            )
        assert "validation prompts ×" in text_of(compare.summary(demo, visit(
            run.run_id, split="validation", right=found.right.key)))  # fmt: skip


def test_the_first_home_has_one_quickstart_button_and_tells_whose_time_the_recorded_one_is(demo):
    shown = text_of(runs_page.overview(demo, visit(may_change=True)))
    assert shown.count("Start the quickstart run") == 1
    assert "The 29 min 35 s it took are by its own clock, with 1 processor core of the" in shown
    assert "five to ten minutes on two processor cores" in shown


def test_later_homes_keep_the_quickstart_among_the_tools(bench):
    shown = text_of(runs_page.overview(bench, visit(may_change=True)))
    assert shown.count("Start the quickstart run") == 1


def test_a_space_starts_with_it_and_offers_no_way_to_change_anything(
    monkeypatch, tmp_path, request
):
    monkeypatch.setenv("SPACE_ID", "somebody/acft")
    options = dataclasses.replace(Options(), runs=tmp_path / "none")
    bench = app.workbench(options)
    request.addfinalizer(bench.close)
    assert [run.title for run in bench.reader.runs()] == [
        "recorded: a better-tempered SmolLM2-135M"
    ]
    blocks = app.build(bench)
    names = {getattr(fn.fn, "__name__", "") for fn in blocks.fns.values()}
    changing = set(blocks.acft_wire.changing)  # pyright: ignore[reportAttributeAccessIssue]
    known = {"launch", "launch_grid", "quickstart", "stop", "resume", "judge", "measure", "delete"}
    assert known <= changing
    assert not names & changing
    assert len(list(PAGES.items())) == 8
    assert not (tmp_path / "none").exists()


def test_an_empty_runs_directory_gets_a_copy_once(tmp_path):
    assert len(app.bring_recorded(DEMO_RUNS, tmp_path / "runs")) == 1
    assert app.bring_recorded(DEMO_RUNS, tmp_path / "runs") == []
