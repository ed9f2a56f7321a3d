"""A run played as if live: what is known at a moment, the clock, the page, the first screen."""

import time
from dataclasses import replace

import gradio as gr
import pytest

from acft.runs.recording import TAG
from acft.runs.supervisor import Adoption, Supervisor
from acft.ui.page import POLL_SECONDS, REST_SECONDS, Wire
from acft.ui.pages import run as run_page
from acft.ui.pages import runs as runs_page
from acft.ui.parts import demonstration, replay
from acft.ui.parts.replay import Clock
from acft.ui.web.dom import text_of
from tests.ui import synthetic
from tests.ui.conftest import QUICK, make_bench, visit


@pytest.fixture
def recorded(bench):
    return bench.reader.run(QUICK), bench.reader.entries(QUICK)


def at(recorded, share):
    run, entries = recorded
    return replay.as_of(run, entries, share * replay.duration(entries))


def test_in_the_middle_the_run_runs_and_knows_only_the_past(recorded):
    run, middle = recorded[0], at(recorded, 0.5)
    assert middle.state.state == "running"
    assert 0 < middle.status.round < run.status.round
    assert 0 < middle.history.n_events < run.history.n_events
    assert middle.status.step < run.status.step
    assert all(e.subject == "base" for e in middle.history.evaluations)


def test_at_the_end_it_is_the_run_itself(recorded):
    assert at(recorded, 1.0) is recorded[0]


def test_what_is_known_only_grows(recorded):
    seen = [at(recorded, share / 20).history.n_events for share in range(21)]
    assert seen == sorted(seen)
    assert seen[0] >= 1


def test_the_time_left_shrinks_to_nothing(recorded):
    left = [at(recorded, share).status.seconds_left or 0.0 for share in (0.1, 0.5, 0.9)]
    assert left == sorted(left, reverse=True)


def test_a_run_that_does_not_exist_has_no_events(bench):
    assert bench.reader.entries("20200101-000000-none") == []
    assert replay.duration([]) == 0.0


def test_the_clock_runs_pauses_jumps_and_changes_speed():
    clock = Clock(since=100.0, at=0.0, speed=30.0, resume=30.0)
    assert clock.position(102.0) == 60.0
    paused = clock.changed(102.0, 1000.0, {"do": "pause"})
    assert paused.position(500.0) == 60.0
    jumped = paused.changed(500.0, 1000.0, {"do": "place", "value": "400"})
    assert jumped.position(900.0) == 400.0
    going = jumped.changed(900.0, 1000.0, {"do": "continue"})
    assert going.position(901.0) == 430.0
    faster = going.changed(901.0, 1000.0, {"do": "speed", "value": "100"})
    assert faster.position(902.0) == 530.0


@pytest.mark.parametrize("value", ["-5", "1e9", "nonsense", None])
def test_places_outside_the_recording_are_brought_inside(value):
    clock = Clock(0.0, 0.0, 30.0).changed(1.0, 200.0, {"do": "place", "value": value})
    assert 0.0 <= clock.at <= 200.0


@pytest.mark.parametrize(
    ("asked", "speed"), [("100", 100), ("30", 30), ("7", 30), ("", None), ("x", None)]
)
def test_the_address_asks_for_a_replay(asked, speed):
    clock = replay.started({"play": asked}, now=0.0)
    assert (clock.speed if clock else None) == speed


@pytest.mark.parametrize(
    ("place", "at"), [("90", 90.0), ("", 0.0), ("x", 0.0), ("-5", 0.0), ("nan", 0.0), ("inf", 0.0)]
)
def test_a_replay_goes_on_where_the_address_says(place, at):
    clock = replay.started({"play": "10", "place": place}, now=0.0)
    assert clock is not None
    assert clock.position(0.0) == at


def test_the_page_of_a_replay_offers_no_way_to_change_the_run(bench):
    clock = Clock(since=0.0, at=10.0, speed=0.0)
    parts = run_page.show(bench, visit(QUICK, may_change=True), clock=clock)
    controls, head = text_of(parts[0]), text_of(parts[1])
    assert "Replay of a recorded run" in controls
    assert "running" in head
    assert "Stop" not in head
    finished = run_page.show(bench, visit(QUICK, may_change=True))
    assert finished[0] == ""
    assert "Play as if live" in text_of(finished[1])


def test_a_replay_tells_nothing_that_is_known_of_the_present_alone(bench, tmp_path):
    supervisor = Supervisor(tmp_path)
    supervisor.adoptions = [Adoption(QUICK, 4711, 0.0, 1234, 0)]
    bench, clock = replace(bench, supervisor=supervisor), Clock(since=0.0, at=10.0, speed=0.0)
    _, head, *_, rest, log = run_page.show(bench, visit(QUICK), clock=clock)
    assert "running" in text_of(head)
    assert "4711" not in text_of(head)
    assert "Audit" not in text_of(rest)
    assert log == ""
    *_, rest, log = run_page.show(bench, visit(QUICK))
    assert "Audit" in text_of(rest)
    assert "Log of the worker" in text_of(log)


@pytest.mark.parametrize("clock", [None, Clock(since=0.0, at=10.0, speed=0.0)])
def test_the_run_is_read_once_for_all_parts_of_its_page(bench, monkeypatch, clock):
    read, run_of = [], bench.reader.run
    monkeypatch.setattr(bench.reader, "run", lambda name: read.append(name) or run_of(name))
    run_page.show(bench, visit(QUICK), clock=clock)
    assert read.count(QUICK) == 1


def test_an_unchanged_moment_is_not_drawn_again(bench):
    clock = Clock(since=0.0, at=10.0, speed=0.0)
    first = run_page.show(bench, visit(QUICK), clock=clock)
    again = run_page.show(bench, visit(QUICK), first[2], clock)
    assert all(isinstance(part, dict) and part.get("__type__") for part in again[2:])


def test_a_replay_asks_often_while_it_moves_and_rests_while_paused_and_when_over(bench, recorded):
    length = replay.duration(recorded[1])
    moving, since = Clock(time.monotonic(), 0.0, 0.001), time.monotonic()
    timer, frame = run_page.paced(bench, visit(QUICK), POLL_SECONDS, moving)
    assert (timer.value, frame) == (replay.FRAME_SECONDS, replay.FRAME_SECONDS)
    assert run_page.paced(bench, visit(QUICK), frame, moving) == [gr.skip()] * 2
    for still in (Clock(since, 1.0, 0.0), Clock(since, length, 30.0)):
        timer, rest = run_page.paced(bench, visit(QUICK), frame, still)
        assert (timer.value, rest) == (REST_SECONDS, REST_SECONDS)
        assert run_page.paced(bench, visit(QUICK), rest, still) == [gr.skip()] * 2
    assert run_page.paced(bench, visit(QUICK), rest, moving)[1] == replay.FRAME_SECONDS


@pytest.mark.parametrize("data", [{"do": "continue"}, {"do": "place", "value": 1},
                                  {"do": "speed", "value": 10}])  # fmt: skip
def test_whoever_moves_a_resting_replay_makes_it_ask_often_at_once(bench, recorded, data):
    turns = {}

    class Recorder(Wire):
        def read(self, event, callback, inputs=(), outputs=(), **options):
            turns[callback.__name__] = callback

    with gr.Blocks():
        run_page._build(bench, Recorder(bench))
    speed = 0.0 if data["do"] == "continue" else 0.001
    at = 0.0 if data["do"] == "speed" else replay.duration(recorded[1]) / 2
    still = Clock(time.monotonic(), at, speed, 10.0)
    _, timer, tempo, *_ = turns["turn"](visit(QUICK, data=data), None, still, REST_SECONDS)
    assert (timer.value, tempo) == (replay.FRAME_SECONDS, replay.FRAME_SECONDS)


def test_a_machine_with_recorded_runs_alone_is_led_to_them(tmp_path, experiments):
    synthetic.write_run(tmp_path, QUICK)
    (tmp_path / QUICK / "labels.json").write_text(f'{{"tags": ["{TAG}"]}}')
    bench = make_bench(tmp_path, experiments)
    assert all(map(demonstration.is_recorded, bench.reader.runs()))
    shown = runs_page.overview(bench, visit(may_change=True))
    assert "A recorded run to explore" in text_of(shown)
    assert "Your first own run" in text_of(shown)
    assert f"run?run={QUICK}&play=30" in str(shown)
