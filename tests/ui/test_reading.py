"""What the pages say about runs, without a browser."""

import gc
import importlib
import json
import re
import shlex
import shutil
import tomllib
import weakref
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import gradio as gr
import plotly.graph_objects as go
import pytest

from acft.__main__ import main
from acft.errors import DataError, RunError
from acft.eventlog import Entry, EventWriter
from acft.events import Evaluated, Scalars, Started
from acft.runs.directory import find_run
from acft.runs.process import this_boot
from acft.runs.status import RunState, Seen, run_state
from acft.runs.supervisor import Adoption, Supervisor
from acft.schema import Status
from acft.store.connection import open_memory_store
from acft.store.ingest import Ingester
from acft.store.queries.evaluations import Measure
from acft.ui.page import Visit, _in_place
from acft.ui.pages import about, compare, launch, tradeoff
from acft.ui.pages import run as run_page
from acft.ui.pages import runs as runs_page
from acft.ui.parts import alerts, frame, results, run_charts, run_details, run_facts, run_head
from acft.ui.reading.pairs import subjects
from acft.ui.reading.reader import History, Point, Reader, Run
from acft.ui.web import charts
from acft.ui.web.dom import table, text_of, view
from acft.ui.web.hot_words import is_hot
from tests.fake_runs import create
from tests.ui import synthetic
from tests.ui.conftest import (
    CONTROL,
    FAILED,
    HOSTILE,
    LIVE,
    LOST,
    PRESET,
    QUICK,
    make_bench,
    visit,
)


def read(folder: Path, run_id: str) -> Run:
    run = Reader(folder).run(run_id)
    assert run is not None
    return run


def test_events_that_a_machine_lost_with_its_power_are_forgotten(tmp_path):
    paths = create(tmp_path)
    reader = Reader(tmp_path)

    def losses() -> list[float]:
        run = reader.run(paths.root.name)
        assert run is not None
        return [point.value for point in run.history.scalars.get("loss", [])]

    def tell(*values: float) -> None:
        with closing(EventWriter(paths.events)) as events:
            for value in values:
                events.append(Scalars(1, 1, {"loss": value}))

    tell(1.0, 2.0)
    kept = paths.events.read_bytes()
    tell(3.0)
    assert losses() == [1.0, 2.0, 3.0]
    paths.events.write_bytes(kept)
    tell(2.5, 2.25, 2.125)
    assert losses() == [1.0, 2.0, 2.5, 2.25, 2.125]


def test_every_run_is_listed_with_its_true_state(bench):
    shown = text_of(runs_page.overview(bench, visit()))
    for words in ("running", "finished", "failed (oom)", "lost"):
        assert words in shown


def test_an_empty_runs_directory_offers_the_quickstart(bench, tmp_path):
    shown = text_of(runs_page.overview(replace(bench, reader=Reader(tmp_path)), visit()))
    assert "No runs yet." in shown
    assert "Start the quickstart run" in shown


def test_runs_are_found_by_any_word_of_their_row(bench):
    shown = text_of(runs_page.overview(bench, visit(find="overnight lost")))
    assert "Overnight" in shown
    assert "Batch of 64" not in shown


def test_ids_that_are_no_run_ids_open_nothing(bench):
    for name in ("../quik", "/etc", "20261122-140000-quik/..", "", "20261122-999999-zzzz"):
        assert bench.reader.run(name) is None


def test_a_link_in_the_runs_directory_is_not_followed(bench, tmp_path):
    target = bench.reader.paths(QUICK).root
    (tmp_path / "20261122-140000-link").symlink_to(target)
    reader = Reader(tmp_path)
    assert reader.run("20261122-140000-link") is None
    assert reader.runs() == []


def test_a_failed_run_shows_message_advice_and_what_is_usable(bench):
    shown = text_of(run_page.top(bench, visit(FAILED)))
    assert "ran out of memory" in shown
    assert "lower optimizer.micro_batch_size" in shown
    assert "is complete and usable" in shown


def test_a_run_whose_constraint_is_not_about_toxicity_begins_with_the_constraint(bench):
    quick = bench.reader.run(QUICK)
    words = {"kind": "forbidden_words", "words": ["red"]}
    scorer = {"kind": "not", "constraint": {"kind": "scorer", "scorer": "judge"}}
    measured = [
        Evaluated("rtp", "satisfaction", "base", 0.5, 8, policy_version=0),
        Evaluated("rtp", "satisfaction", "policy", 0.9, 8, policy_version=2),
    ]
    history = replace(quick.history, evaluations=[*quick.history.evaluations, *measured])
    firsts = []
    for constraint in (words, scorer):
        settings = {**quick.settings, "constraint": [constraint]}
        shown = text_of(run_page.facts(replace(quick, settings=settings, history=history)))
        firsts.append(shown.lstrip())
    assert firsts[0].startswith("Mean grade, test prompts")
    assert "50.0 % → 90.0 %" in firsts[0]
    assert firsts[1].startswith("Toxic responses")


def test_names_tell_the_share_of_validation_prompts_from_the_mean_grade_of_test_prompts(bench):
    quick = bench.reader.run(QUICK)
    share = "Satisfied, validation prompts"
    assert share in text_of(run_page.facts(quick))
    assert share in text_of(runs_page.overview(bench, visit()))
    assert share in [name for name, _, _ in run_page.FIGURES]
    assert run_charts.satisfaction(quick)["data"][1]["name"] == share
    measured = [
        Evaluated("rtp", "satisfaction", "base", 0.5, 8, policy_version=0),
        Evaluated("rtp", "satisfaction", "policy", 0.9, 8, policy_version=2),
    ]
    history = replace(quick.history, evaluations=measured)
    line = text_of(run_page._constraint_line(replace(quick, history=history)))
    assert line.startswith("Mean grade, test prompts, by the constraint itself: 50.0 %")
    assert "atisfied to" not in line
    shown = text_of(results.results(replace(quick, history=history)))
    assert "Mean grade by the constraint" in shown


@pytest.mark.parametrize(("version", "name"), [(0, "guided base"), (3, "guided, version 3")])
def test_a_policy_that_is_guided_while_it_draws_is_a_result_as_a_tuned_one_is(bench, version, name):
    run = bench.reader.run(QUICK)
    found = [
        Evaluated("perplexity", "perplexity/sotu", "base", 45.0, 8, policy_version=0),
        Evaluated("perplexity", "perplexity/sotu", "guided", 47.0, 8, policy_version=version),
    ]
    measured = replace(run, history=replace(run.history, evaluations=found))
    assert f"base → {name}, 8 texts each" in text_of(run_facts.facts(measured))
    answers = [
        replace(answer, subject="guided", version=version) if answer.subject != "base" else answer
        for answer in bench.reader.answers(run)
    ]
    left, right = (side for side in subjects(answers) if side.label == "base" or side.is_result)
    assert (left.label, right.label) == ("base", name)


def test_what_has_no_button_stands_as_commands_that_there_are(bench, monkeypatch):
    run = bench.reader.run(QUICK)
    shown = text_of(run_details.details(bench, visit(), run))
    folder = re.escape(str(run.paths.root.parent))
    commands = re.findall(rf"acft [a-z]+ .*?--runs {folder}", shown)
    assert [words.split()[1] for words in commands] == [
        "export", "generate", "launch", "delete", "delete",
    ]  # fmt: skip
    asked = []
    for words in commands:
        module = importlib.import_module(f"acft.commands.{words.split()[1]}")
        monkeypatch.setattr(module, "run", asked.append)
        assert main(shlex.split(words)[1:]) == 0
    assert [args.runs for args in asked] == [run.paths.root.parent.absolute()] * len(commands)


def test_curves_of_a_run_that_takes_no_steps_go_from_round_to_round(bench):
    quick = bench.reader.run(QUICK)
    scalars = {
        name: [replace(point, step=0) for point in points]
        for name, points in quick.history.scalars.items()
        if name.startswith(("rollout/", "oracle/strength"))
    }
    history = replace(quick.history, scalars=scalars, last_steps={})
    run = replace(quick, history=history)
    for draw in (run_charts.satisfaction, run_charts.steering):
        drawn = draw(run)
        assert drawn["layout"]["xaxis"]["title"]["text"] == "round"
        rounds = [trace["x"] for trace in drawn["data"] if trace.get("fill") != "toself"]
        assert rounds
        assert all(len(set(x)) == len(x) > 1 for x in rounds)
    assert "no weights are trained" in run_charts.losses(run)["empty"]


def test_the_pairs_shown_first_are_the_worst_by_what_the_run_is_about(bench):
    quick = bench.reader.run(QUICK)
    answered = run_page.before_after(bench, quick)
    assert answered is not None
    found = answered[2]
    rude, disobedient = found[0], found[1]
    rude = replace(rude, left=replace(rude.left, scores={"judge": 1.0}, satisfaction=1.0))
    disobedient = replace(
        disobedient, left=replace(disobedient.left, scores={"judge": 0.0}, satisfaction=0.0)
    )
    words = {"constraint": [{"kind": "forbidden_words", "words": ["red"]}]}
    scorer = {"constraint": [{"kind": "scorer", "scorer": "judge"}]}
    for settings, worst in ((words, disobedient), (scorer, rude)):
        shown, _ = run_page.worst_pairs(replace(quick, settings=settings), [rude, disobedient])
        assert shown[0] is worst


def test_a_lost_run_says_so_and_can_be_resumed(bench):
    shown = text_of(run_page.top(bench, visit(LOST, may_change=True)))
    assert "lost" in shown
    assert "Resume" in shown


def test_a_run_of_several_processes_is_said_to_go_on_in_one(bench):
    run = bench.reader.run(LOST)
    alone, several = (
        str(run_head.head(replace(run, facts={"processes": n}), visit(LOST, may_change=True)))
        for n in (1, 8)
    )
    assert "--nproc-per-node 8" in several
    assert "nproc" not in alone


def test_a_run_followed_through_a_resume_reads_as_one_opened_afterwards(tmp_path):
    folder = synthetic.write_run(tmp_path, LIVE, synthetic.Shape(state="running"))
    reader = Reader(tmp_path)
    assert len(read(tmp_path, LIVE).history.rounds) == 2
    before = reader.run(LIVE)
    writer = EventWriter(folder / "events.jsonl")
    writer.append(Started(pid=7, resumed_from_round=1))
    followed = reader.run(LIVE)
    writer.append(Scalars(2, 13, {"policy/ce": 9.0}))
    assert before is not None
    assert followed is not None
    assert len(before.history.rounds) == 2, "what was read before stays as it was"
    assert len(followed.history.rounds) == 1
    history, fresh = reader.run(LIVE), read(tmp_path, LIVE)
    assert history is not None
    assert history.history == fresh.history
    assert reader.entries(LIVE) == Reader(tmp_path).entries(LIVE)
    assert reader.entries(LIVE)[-1].event == Scalars(2, 13, {"policy/ce": 9.0})


def test_nothing_is_kept_of_a_deleted_run(tmp_path):
    folder = synthetic.write_run(tmp_path, QUICK)
    reader = Reader(tmp_path)
    assert len(reader.runs()) == 1
    history = weakref.ref(reader.runs()[0].history)
    shutil.rmtree(folder)
    assert reader.runs() == []
    gc.collect()
    assert history() is None


def test_a_killed_run_says_once_what_is_left_and_promises_no_texts(bench):
    status = Status(state="running", boot_id=this_boot())
    state = run_state(status, Seen(is_here=True, is_alive=False, heartbeat_age=0.0))
    run = replace(bench.reader.run(LIVE), state=state, history=History())
    shown = text_of(run_head.head(run, visit()))
    assert "failed (killed)" in shown
    assert shown.lower().count("no round was sealed") == 1
    assert run_page.texts(bench, visit(LIVE), run) == ""


def test_why_nothing_can_be_started_is_said_beside_the_button_and_hidden_by_no_other_notice(bench):
    for shown in (runs_page.overview(bench, visit()),
                  launch.side(bench, visit(), PRESET, [], is_thorough=True)):  # fmt: skip
        assert "?token=" in text_of(shown)
    assert "?token=" not in text_of(runs_page.overview(bench, visit(may_change=True)))
    told = replace(bench, ingester=Ingester(bench.store))
    told.ingester.problem = "the disk is full"
    shown = text_of(frame._mode(told, may_change=False))
    assert "the disk is full" in shown
    assert "?token=" in shown


def test_who_may_not_change_sees_no_stop_button(bench):
    assert "Stop now" not in text_of(run_page.top(bench, visit(LIVE)))
    assert "Stop now" in text_of(run_page.top(bench, visit(LIVE, may_change=True)))


def test_a_run_that_ends_its_step_can_still_be_stopped_now(bench):
    ending = replace(bench.reader.run(LIVE), state=RunState("stopping"))
    shown = text_of(run_head.head(ending, visit(LIVE, may_change=True)))
    assert "Stop now" in shown
    assert "Stop after this step" not in shown
    assert "Stop now" not in text_of(run_head.head(ending, visit(LIVE)))


def test_a_run_taken_over_after_a_restart_shows_the_proof(bench, tmp_path):
    supervisor = Supervisor(tmp_path)
    supervisor.adoptions = [Adoption(LIVE, 4711, 0.0, 1234, 0)]
    again = replace(bench, supervisor=supervisor)
    shown = text_of(run_page.top(again, visit(LIVE)))
    assert "process 4711" in shown
    assert "1,234 events were read and 0 lost" in shown
    assert "4711" not in text_of(run_page.top(again, visit(QUICK)))


def test_an_unknown_run_leads_back_to_the_list(bench):
    assert "There is no run" in text_of(run_page.top(bench, visit("20200101-000000-aaaa")))


def test_all_figures_of_a_finished_run_have_data(bench):
    for figure in run_page.figures(bench, visit(QUICK)):
        assert figure["data"], figure["summary"]


def test_plotly_knows_every_property_of_every_figure(bench):
    point = {"run_id": QUICK, "texts": "", "name": "a", "method": "acft", "subject": "base",
             "family": "base", "policy_version": 0, "x": 1.0, "x_low": 0.5, "x_high": 2.0, "x_n": 3,
             "y": 1.0, "y_low": None, "y_high": None, "y_n": None}  # fmt: skip
    line = charts.Line("a", [0, 1], [1.0, 2.0])
    drawn = [
        *run_page.figures(bench, visit(QUICK)),
        charts.trade_off([point, point | {"run_id": CONTROL}], "x", "y"),
        charts.trade_off([point], "x", "y", frontiers={"base": [(1.0, 1.0), (2.0, 0.5)]}),
        charts.heatmap([{"round": 1, "bin": 2, "n": 3}], "toxicity"),
        charts.lines([line], "y", rounds=[1], target=0.5, share=True, until=4),
    ]
    for figure in drawn:
        assert figure["data"]
        go.Figure({"data": figure["data"], "layout": figure["layout"]})


def test_a_run_that_rests_is_read_once_and_again_when_a_file_changes(bench):
    run = bench.reader.run(QUICK)
    assert bench.reader.run(QUICK) is run
    bench.control.label(QUICK, notes="changed")
    changed = bench.reader.run(QUICK)
    assert changed.labels.notes == "changed"
    with run.paths.events.open("ab") as file:
        file.write(b"\n")
    assert bench.reader.run(QUICK) is not changed
    assert bench.reader.run(LIVE) is not bench.reader.run(LIVE)


def test_a_waiting_run_shows_the_settings_it_was_asked_for(tmp_path):
    paths = create(tmp_path, 'method={name = "evaluate"}', "title='measured'")
    run = read(tmp_path, paths.root.name)
    assert (run.title, run.method) == ("measured", "evaluate")
    paths.launch.write_text("{")
    assert read(tmp_path, paths.root.name).title == "fake"


@pytest.mark.parametrize(
    "wrong",
    ["evaluation = 3\nmodel = 'x'\nmethod = []", "evaluation.scorers = 3"],
)
def test_a_run_whose_settings_hold_what_is_no_table_is_shown_all_the_same(bench, wrong):
    settings = {**bench.reader.run(QUICK).settings, **tomllib.loads(wrong)}
    run = replace(bench.reader.run(QUICK), settings=settings)
    assert run.title in text_of(run_head.head(run, visit(QUICK)))
    assert run_facts.facts(run)
    assert run_charts.satisfaction(run)["data"]
    assert about._facts(run)
    assert compare._default_scorer(run, ["b", "a"]) == "b"


def test_parts_of_the_page_are_made_anew_when_what_they_show_has_changed(bench):
    run = bench.reader.run(LIVE)
    few, more, many = (
        replace(run, history=replace(run.history, n_events=number)) for number in (70, 71, 10_001)
    )
    beside = replace(run, history=replace(run.history, n_events=10_002))
    marks = [run_page.marks_of(bench, r) for r in (few, more, many, beside)]
    assert marks[0].curves != marks[1].curves
    assert marks[2].curves == marks[3].curves
    assert len({mark.texts for mark in marks}) == 1
    ended = replace(beside, state=RunState("finished"))
    assert run_page.marks_of(bench, ended).curves != marks[3].curves
    with run.paths.log.open("a") as file:
        file.write("a line\n")
    assert run_page.marks_of(bench, run).log != marks[0].log


@pytest.mark.parametrize("run_id", [QUICK, LIVE])
def test_sums_of_a_run_are_shown_once_the_database_has_read_it(bench, run_id):
    run, empty = bench.reader.run(run_id), open_memory_store(bench.reader.runs_dir)
    unread = replace(bench, store=empty)
    said, mark = (
        text_of(run_details.details(unread, visit(), run)),
        run_page.marks_of(unread, run).texts,
    )
    assert "not read all of this run yet: 0 of " in said
    assert "agrees" not in said
    Ingester(empty).poll()
    assert run_page.marks_of(unread, run).texts != mark
    assert "agrees" in text_of(run_details.details(unread, visit(), run))
    more = replace(run, history=replace(run.history, n_events=10_000))
    assert ("yet: " in text_of(run_details.details(unread, visit(), more))) == (run_id == QUICK)
    empty.close()


def test_the_sums_of_a_run_that_recorded_nothing_are_not_called_right(bench, tmp_path):
    waiting = read(tmp_path, create(tmp_path).root.name)
    assert "recorded nothing yet" in text_of(run_details.details(bench, visit(), waiting))


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(b"PAR1")])
def test_a_damaged_shard_is_named_and_takes_no_other_part_of_the_page_along(tmp_path, damage):
    synthetic.write_run(tmp_path, QUICK)
    shard = min((tmp_path / QUICK / "shards").glob("rollouts-*"))
    damage(shard)
    bench = make_bench(tmp_path, tmp_path)
    with pytest.raises(DataError, match=f"shard {shard.name} of run {QUICK} cannot be read"):
        bench.reader.answers(read(tmp_path, QUICK))
    shown = run_page.show(bench, visit(QUICK))
    bench.close()
    assert "finished" in text_of(shown[1])
    assert f"shard {shard.name} of run {QUICK} cannot be read" in text_of(shown[-6])
    assert "Settings as written" in text_of(shown[-2])


def test_hashes_that_a_run_records_as_parts_of_a_page_stay_text(bench):
    part = ["a", {"data-save": "a.sh\nrm"}, "x"]
    run = replace(bench.reader.run(QUICK), facts={"model_sha256": part, "dtype": part})
    shown = table(["Run", "Part", "Name", "Version", "SHA-256"], about._facts(run))
    assert "data-save" in text_of(shown)
    assert not any("data-save" in node[1] for node in _nodes(shown))


def test_a_link_in_the_folder_of_a_run_shows_nobody_what_it_leads_to(tmp_path):
    folder, own = synthetic.write_run(tmp_path, QUICK), tmp_path / "own.toml"
    own.write_text('title = "mine alone"\n')
    for name in ("spec.toml", "stdout.log", "resolved.json"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(own)
    bench = make_bench(tmp_path, tmp_path)
    run, taken = read(tmp_path, QUICK), launch.opened(bench, Visit({"from": QUICK}), "")
    shown = [run_details.details(bench, visit(), run), run_details.log(bench, run), *run_page.show(
        bench, visit(QUICK)), runs_page.overview(bench, visit())]  # fmt: skip
    rows = bench.store.rows("SELECT * FROM runs")
    bench.close()
    assert "cannot be read" in taken.problem
    assert "the settings file cannot be read" in text_of(shown[0])
    assert "mine alone" not in str((shown, rows, taken, run.title))


@pytest.mark.parametrize(
    ("launch", "link"),
    [
        ({"created": 1.0, "subject": QUICK}, f"run?run={QUICK}"),
        ({"created": 1.0, "subject": "org/model?x"}, ""),
        ({"subject": QUICK}, ""),
    ],
)
def test_a_measurement_leads_to_its_run_and_a_model_is_only_named(tmp_path, launch, link):
    folder = synthetic.write_run(tmp_path, CONTROL)
    (folder / "launch.json").write_text(json.dumps(launch))
    run = read(tmp_path, CONTROL)
    run = replace(run, status=replace(run.status, kind="evaluation"))
    shown = run_head.measured_run(run)
    assert ("'href'" in str(shown)) == bool(link)
    assert link in str(shown)
    assert bool(shown) == ("created" in launch)


def test_an_error_is_shown_in_the_first_part_of_the_page_whatever_else_a_callback_sets():
    error = DataError("a file is torn")
    clock, timer = gr.State(None), gr.Timer(3.0)
    with gr.Blocks():
        head, below = view(), view()
    shown = _in_place(error, [clock, timer, head, below])
    assert text_of(shown[2]) == "a file is torn"
    assert shown[0] == shown[1] == shown[3] == gr.skip()
    assert text_of(_in_place(error, [head])) == "a file is torn"
    with pytest.raises(gr.Error, match="torn"):
        _in_place(error, [clock])


def test_a_figure_spans_all_steps_of_the_run_from_the_start(bench):
    run = bench.reader.run(LIVE)
    layout = run_charts.divergences(run)["layout"]
    assert layout["xaxis"]["range"] == pytest.approx(
        [-0.01 * run.status.steps, 1.02 * run.status.steps]
    )
    assert layout["yaxis"]["rangemode"] == "tozero"


def test_speed_memory_and_the_oracles_accuracy_are_drawn_as_the_run_recorded_them(bench):
    run = bench.reader.run(QUICK)
    tests = run.history.calibrations
    drawn = {trace["name"]: trace for _, _, draw in run_page.FIGURES for trace in draw(run)["data"]
             if "name" in trace}  # fmt: skip
    for name, metric in (
        ("AUC", "auc"), ("Brier", "brier"), ("Brier of a constant", "brier_constant"),
    ):  # fmt: skip
        assert drawn[name]["x"] == [test.round for test in tests] == [1, 2, 3]
        assert drawn[name]["y"] == [test.metrics[metric] for test in tests]
    speeds = run.history.scalars["time/tokens_per_second"]
    assert drawn["Throughput"]["y"] == [point.value for point in speeds]
    assert drawn["Peak memory"]["y"] == pytest.approx([1.4e9 / 2**30] * 3)


def test_figures_of_a_queued_run_say_that_nothing_is_measured(bench, tmp_path):
    run = bench.reader.run(QUICK)
    from acft.ui.reading.reader import History

    empty = replace(run, history=History())
    assert run_charts.losses(empty)["data"] == []
    for _, _, draw in run_page.FIGURES:
        assert draw(empty)["data"] == []
    assert "not been tested" in run_charts.reliability(empty)["empty"]


def test_texts_before_and_after_come_from_the_same_prompts_and_samples(bench):
    found = run_page.before_after(bench, bench.reader.run(QUICK))
    assert found is not None
    left, right, pairs, verdicts = found
    assert (left.label, right.label) == ("base", "tuned, version 3")
    assert all(p.left.prompt_id == p.right.prompt_id for p in pairs)
    assert all(p.left.sample == p.right.sample for p in pairs)
    assert {v.scorer for v in verdicts} == {"jigsaw_tcc", "jigsaw_toxblock", "profanity_svm"}


def test_toxic_texts_are_veiled_and_calm_ones_are_not(bench):
    shown = run_page.texts(bench, visit(QUICK))
    veils = [node for node in _nodes(shown) if node[0] == "veil"]
    assert veils
    scored = [node for node in veils if node[1]["score"]]
    assert scored
    assert all(float(node[1]["score"]) >= 0.5 for node in scored)
    assert all(is_hot(text_of(node)) for node in veils if node not in scored)  # prompts


def test_numbers_of_the_head_have_units_and_n(bench):
    shown = text_of(run_page.facts(bench.reader.run(QUICK)))
    assert "base → version 3, 40 test prompts each" in shown
    assert "base → round 3 (latest)" in shown
    assert "nats per token" in shown


def test_perplexity_of_validation_and_of_test_texts_are_told_apart_wherever_they_stand(bench):
    shown = text_of(run_page.facts(bench.reader.run(QUICK)))
    assert "Perplexity, validation texts21.1 → 21.3base → round 3 (latest)" in shown
    assert "Perplexity, test texts21.0 → 21.4sotu, base → version 3, 32 texts each" in shown
    options = [text_of(node) for node in _nodes(tradeoff.menus(tradeoff.drawn(bench, visit())))
               if node[0] == "option"]  # fmt: skip
    named = [text for text in options if "Perplexity" in text]
    assert {"test texts", "validation texts"} == {
        kind for text in named for kind in ("test texts", "validation texts") if kind in text
    }
    assert all("texts" in text for text in named)


def test_a_run_without_tokens_in_the_cross_entropy_shows_no_speed(bench):
    run = bench.reader.run(QUICK)
    assert "Speed0.00" not in text_of(run_page.facts(_with_speed(run, 0.0)))
    assert "Speed12.0" in text_of(run_page.facts(_with_speed(run, 12.0)))


def _with_speed(run: Run, value: float) -> Run:
    scalars = {**run.history.scalars, "time/tokens_per_second": [Point(1, 1, 0.0, value)]}
    return replace(run, history=replace(run.history, scalars=scalars))


def test_what_a_run_spent_is_the_sum_over_its_rounds(bench):
    shown = text_of(run_page.facts(bench.reader.run(QUICK)))
    assert "2,400 texts judged" in shown
    assert "48,000 tokens drawn, 15,000 tokens trained on" in shown
    assert "Peak memory" in shown


def test_settings_that_differ_between_ticked_runs_are_listed(bench):
    shown = text_of(runs_page.differences(bench, visit(select=f"{QUICK},{CONTROL}")))
    assert "seed" in shown
    assert "schedule.rounds" not in shown


def test_a_run_that_waits_does_not_seem_to_differ_in_every_default(tmp_path):
    synthetic.write_many(tmp_path)
    waits = find_run(tmp_path, CONTROL)
    waits.resolved.unlink()
    bench = make_bench(tmp_path, tmp_path)
    shown = text_of(runs_page.differences(bench, visit(select=f"{QUICK},{LOST},{CONTROL}")))
    bench.close()
    assert f"{CONTROL} will be compared when started" in shown
    assert shown.count(CONTROL) == 1


def test_hostile_titles_stay_strings_in_the_tree(bench):
    shown = runs_page.overview(bench, visit())
    assert all(node[0] in ("veil",) or node[0].isalnum() for node in _nodes(shown))
    assert "onerror" in text_of(shown)
    assert bench.reader.run(HOSTILE) is not None


SCORER = {"kind": "scorer", "scorer": "a"}


@pytest.mark.parametrize(
    "constraint", [SCORER, {"kind": "all_of", "constraints": [{"kind": "length"}, SCORER]}]
)
def test_a_run_judged_by_the_scorer_that_trained_it_is_marked_first(bench, constraint):
    run = bench.reader.run(QUICK)
    settings = {"constraint": [constraint], "evaluation": {"scorers": ["a", "b"]}}
    first, *_ = alerts.alerts(replace(run, settings=settings))
    assert "a both trains and judges" in first.text


def test_a_judge_that_is_part_of_the_scorer_that_trained_is_marked_too(bench):
    run = bench.reader.run(QUICK)
    constraint = [{"kind": "scorer", "scorer": "offline_mean"}]
    settings = {"constraint": constraint, "evaluation": {"scorers": ["jigsaw_tcc"]}}
    first, *_ = alerts.alerts(replace(run, settings=settings))
    assert "jigsaw_tcc shares a part with offline_mean, which trains this run" in first.text


def test_what_does_not_count_steps_of_the_policy_lies_where_the_policy_was():
    history = History()
    steps = [Scalars(1, 0, {"oracle/strength": 3.0}), Scalars(1, 20, {"policy/loss": 1.0}),
             Scalars(2, 0, {"oracle/strength": 2.0}), Scalars(2, 46, {"oracle/bce": 0.1}),
             Scalars(2, 40, {"policy/loss": 0.9})]  # fmt: skip
    for seq, event in enumerate(steps, 1):
        history.take(Entry(seq, float(seq), event))
    assert [point.step for point in history.scalars["oracle/strength"]] == [0, 20]
    assert history.last_steps == {1: 20, 2: 40}


def test_notes_of_the_run_come_with_their_step(bench):
    found = alerts.alerts(bench.reader.run(QUICK))
    assert any(alert.step == 24 and "doubled" in alert.text for alert in found)


def _nodes(node):
    if isinstance(node, list):
        yield node
        for child in node[2:]:
            yield from _nodes(child)


def test_axes_are_named_in_words():
    assert tradeoff._label(Measure("rtp/jigsaw_tcc", "toxic_share")) == (
        "Toxic share (rtp/jigsaw_tcc)"
    )
    assert tradeoff._label(Measure("perplexity", "perplexity/sotu")) == (
        "Perplexity on sotu, test texts"
    )
    assert tradeoff._label(Measure("held out", "perplexity/sotu")) == (
        "Perplexity on sotu, test texts (held out)"
    )


def test_a_finished_run_is_not_resumed_and_the_way_to_another_is_told(bench):
    with pytest.raises(RunError, match="'Launch again with changes' begins a new run"):
        bench.control.resume(QUICK)


LEAPS = [0.001, 0.7, 0.001, 0.3, 0.002, 0.001, 0.02, 0.001, 0.001, 0.01]


@pytest.mark.parametrize(
    ("kls", "is_warned"),
    [
        ([*LEAPS, *[0.05] * 10], False),  # above the median before, and far below what it was
        ([*LEAPS, *[0.001] * 10, *[0.3] * 10], False),  # a new round, as far as the one before
        ([*LEAPS, *[0.8] * 4, *[0.9] * 6], True),
        ([*[0.5] * 10, *[0.6] * 10], False),  # it creeps
        ([*LEAPS, *[9.0] * 9], False),  # too few steps to tell
    ],
)
def test_a_kl_explodes_when_it_stays_above_all_that_it_was(bench, kls, is_warned):
    run = bench.reader.run(QUICK)
    points = [Point(step, 1, 0.0, value) for step, value in enumerate(kls, start=1)]
    history = replace(run.history, scalars={"policy/kl_guided_policy": points})
    found = alerts.alerts(replace(run, history=history))
    assert any("lower learning rate" in alert.text for alert in found) == is_warned


def test_guidance_is_absorbed_only_where_several_steps_say_so(bench):
    run = bench.reader.run(QUICK)
    point = run.history.scalars["policy/kl_guided_policy"][0]

    def warns(*values: float) -> bool:
        kls = [replace(point, value=value) for value in values]
        satisfied = [replace(point, value=0.9)]
        scalars = {"policy/kl_guided_policy": kls, "rollout/satisfaction": satisfied}
        found = alerts.alerts(replace(run, history=replace(run.history, scalars=scalars)))
        return any("guidance is absorbed" in alert.text for alert in found)

    assert warns(*[0.2] * 3, *[5e-4] * 10)
    assert not warns(*[0.2] * 12, 5e-4), "one step's texts may hold nothing to guide away from"
    assert not warns(5e-4, 5e-4)


@pytest.mark.parametrize("is_recorded", [True, False])
def test_a_method_without_an_oracle_shows_nothing_that_an_oracle_would_measure(bench, is_recorded):
    quick = bench.reader.run(QUICK)
    settings = {**quick.settings, "method": {"name": "sft"}}
    facts = {**quick.facts, "has_oracle": False} if is_recorded else quick.facts
    history = History() if is_recorded else History(rounds=quick.history.rounds)
    sft = replace(quick, settings=settings, facts=facts, history=history)
    for draw in (run_charts.reliability, run_charts.by_position, run_charts.divergences,
                 run_charts.steering):  # fmt: skip
        assert draw(sft)["empty"] == "Not measured: the method sft has no oracle."
    unbegun = replace(sft, history=History())
    assert run_charts.losses(unbegun)["empty"] == "Nothing measured yet."
    shown = text_of(run_facts.facts(sft))
    assert "KL(guided" not in shown
    assert "Satisfaction" not in shown
    assert "KL(guided" in text_of(run_facts.facts(replace(quick, history=History())))


def test_a_queued_run_can_be_taken_out_of_the_queue_and_tells_its_rounds(bench):
    live = bench.reader.run(LIVE)
    queued = replace(live, state=RunState("queued"), status=Status(state="queued"),
                     settings={"schedule": {"rounds": 7}})  # fmt: skip
    shown = text_of(run_head.head(queued, visit(LIVE, may_change=True)))
    assert "Remove from queue" in shown
    assert "Stop" not in shown
    assert runs_page._rounds(queued) == "7"
