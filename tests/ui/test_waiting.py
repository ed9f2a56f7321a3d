"""Long actions are seen to go on, can be stopped, and pages at rest ask seldom."""

import json
import re
import threading
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import gradio as gr
import pytest
from playwright.sync_api import expect

from acft.atomic import replace_json
from acft.errors import ConfigError, DataError
from acft.eventlog import EventWriter
from acft.events import Scalars
from acft.runs.directory import all_runs
from acft.store.sandbox import Result
from acft.ui.page import POLL_SECONDS, REST_SECONDS, Wire, _in_place, pace
from acft.ui.pages import rollouts, runs, tokens
from acft.ui.pages import run as run_page
from acft.ui.reading.reader import Reader
from acft.ui.web.beats import with_beats
from acft.ui.web.dom import text_of
from tests.ui import synthetic
from tests.ui.browser import Watch, ready, shoot
from tests.ui.conftest import (
    CONTROL,
    LIVE,
    LOST,
    QUICK,
    FakeModelProcess,
    FakeSettingsProcess,
    visit,
)
from tests.ui.test_stories import PATIENCE, server, state

__all__ = ["server"]
SKIPPED = gr.skip()


def questions(page: Any, seconds: float) -> int:
    """How often the page asks the server within a time."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(seconds * 1000)
    return sum("/run/predict" in url for url in asked)


def test_a_page_about_a_run_at_work_asks_more_often_than_one_about_a_finished_run(bench):
    live, over = bench.reader.run(LIVE), bench.reader.run(QUICK)
    assert pace([over, live]) == POLL_SECONDS
    assert pace([over]) == pace([]) == REST_SECONDS


def test_the_timer_of_a_run_changes_only_with_its_pace(bench):
    timer, now = run_page.paced(bench, visit(QUICK), POLL_SECONDS)
    assert (timer.value, now) == (REST_SECONDS, REST_SECONDS)
    assert run_page.paced(bench, visit(QUICK), REST_SECONDS) == [SKIPPED] * 2
    assert run_page.paced(bench, visit(LIVE), REST_SECONDS)[1] == POLL_SECONDS


def test_a_table_that_has_not_changed_is_not_sent_again(bench):
    table, timer, seen = runs.news(bench, visit(find="quickstart"), None)
    assert "Detoxify" in text_of(table)
    assert timer.value == POLL_SECONDS
    assert runs.news(bench, visit(find="quickstart"), seen) == [SKIPPED] * 3
    again, same, _ = runs.news(bench, visit(find="Control"), seen)
    assert "Control" in text_of(again)
    assert same == SKIPPED


def test_a_tick_of_a_runs_page_reads_no_other_run_and_sends_its_head_once(bench, monkeypatch):
    monkeypatch.setattr(bench.reader, "runs", lambda: pytest.fail("all runs were read"))
    _, head, mark, *_ = run_page.show(bench, visit(QUICK))
    assert "Detoxify" in text_of(head)
    assert CONTROL not in text_of(head)
    _, head, *_ = run_page.show(bench, visit(QUICK), mark)
    assert head == SKIPPED
    _, head, *_ = run_page.show(bench, visit(QUICK, may_change=True), mark)
    assert "Launch again" in text_of(head)


def test_curves_of_compared_runs_follow_those_that_train_and_rest_with_the_others(bench, tmp_path):
    for run_id, end in ((LIVE, "running"), (QUICK, "finished")):
        synthetic.write_run(tmp_path, run_id, synthetic.Shape(state=end))
    mine = replace(bench, reader=Reader(tmp_path))
    both = visit(select=f"{LIVE},{QUICK}")
    before, row, *_ = runs.compare(mine, both)
    assert row.visible
    assert runs.compare(mine, both, before) == [SKIPPED] * (3 + len(runs.OVERLAID))
    [live] = [p for p in all_runs(tmp_path) if p.root.name == LIVE]
    writer = EventWriter(live.events)
    for step in range(100, 160):
        writer.append(Scalars(2, step, {"policy/ce": 1.5}))
    now, _, _, _, ce, _ = runs.compare(mine, both, before)
    assert now != before
    assert 159 in ce["data"][0]["x"]
    replace_json(live.status, json.loads(live.status.read_text()) | {"state": "finished"})
    assert runs.compare(mine, both, now)[0] != SKIPPED, "the end is drawn too"


def test_curves_that_are_not_there_are_not_sent(bench):
    one = visit(select=LIVE)
    seen, row, *_ = runs.compare(bench, one)
    assert not row.visible
    assert seen == runs.progress(bench, visit())
    assert runs.compare(bench, one, seen) == [SKIPPED] * (3 + len(runs.OVERLAID))


def test_the_menu_of_a_runs_page_leads_to_every_run(bench):
    menu = str(run_page.ways(bench, visit(QUICK)))
    assert all(run_id in menu for run_id in (QUICK, CONTROL, LIVE))
    assert run_page.ways(bench, visit("20200101-000000-aaaa")) == ""


def test_an_error_while_a_runs_page_opens_goes_with_the_next_tick(bench):
    wired = {}

    class Recorder(Wire):
        def read(self, event, callback, inputs=(), outputs=(), **options):
            wired[callback.__name__] = callback, outputs

    with gr.Blocks():
        run_page._build(bench, Recorder(bench))
    _, opened = wired["opened"]
    notice = [part != SKIPPED for part in _in_place(DataError("torn"), opened)].index(True)
    tick, outputs = wired["tick"]
    again = tick(visit(QUICK), None, None, REST_SECONDS)
    assert again[outputs.index(opened[notice])] != SKIPPED
    assert CONTROL in str(again[outputs.index(opened[-1])]), "the menu is there as well"
    assert tick(visit(QUICK), run_page.Marks(head=1), None, REST_SECONDS)[-1] == SKIPPED


@pytest.mark.parametrize("broken", ["news", "compare"])
def test_an_error_in_the_place_of_the_table_goes_with_the_next_tick(bench, monkeypatch, broken):
    wired = {}

    class Recorder(Wire):
        def read(self, event, callback, inputs=(), outputs=(), **options):
            wired[callback.__name__] = callback

    def fail(*_):
        raise DataError("torn")

    with gr.Blocks():
        runs._build(bench, Recorder(bench))
    table, _, seen, before, *_ = wired["tick"](visit(), None, None)
    with monkeypatch.context() as torn:
        torn.setattr(runs, broken, fail)
        notice, _, known, *rest = wired["tick"](visit(), seen, before)
    assert "torn" in text_of(notice)
    assert rest == [SKIPPED] * len(rest)
    again, *_ = wired["tick"](visit(), known, before)
    assert text_of(again) == text_of(table)


def test_a_lost_run_is_read_once_until_one_of_its_files_changes(bench):
    assert bench.reader.run(LOST).state.state == "lost"
    assert bench.reader.run(LOST) is bench.reader.run(LOST)


def test_scoring_says_first_what_it_does_and_offers_to_stop(bench):
    def work(_: Any) -> Any:
        raise AssertionError("not before the reader was told")

    first = next(tokens.computed(bench, visit(QUICK, may_change=True), {}, work))
    assert "Opening the models" in text_of(first[0])
    assert "Stop" in text_of(first[0])
    process: Any = FakeModelProcess()
    process.has_opened = [QUICK].__contains__
    opened = replace(bench, model_process=process)
    seen = [next(tokens.computed(opened, visit(run), {}, work))[0] for run in (QUICK, LIVE)]
    assert ["Opening" in text_of(node) for node in seen] == [False, True]


@pytest.mark.parametrize(("name", "mode"), [("judge", "multiple"), ("run_sql", "always_last")])
def test_what_is_asked_while_the_last_answer_is_awaited_is_not_dropped(served, name, mode):
    [asked] = [fn for fn in served.blocks.fns.values() if fn.name == name]
    assert asked.trigger_mode == mode


def test_parts_come_in_order_with_beats_between_and_an_error_at_the_end():
    gate, over = threading.Event(), threading.Event()

    def parts() -> Generator[str]:
        yield "one"
        gate.wait(30)
        yield "two"
        raise ConfigError("three")

    shown = with_beats(parts(), "beat", over, seconds=0.01)
    assert [next(shown), next(shown)] == ["one", "beat"]
    gate.set()
    rest = (part for part in shown if part != "beat")
    assert next(rest) == "two"
    with pytest.raises(ConfigError, match="three"):
        next(rest)


def test_closing_does_not_wait_for_a_part_and_closes_the_generator_when_it_comes():
    gate, closed, over = threading.Event(), threading.Event(), threading.Event()

    def parts() -> Generator[str]:
        try:
            yield "one"
            gate.wait(30)
            yield "two"
        finally:
            closed.set()

    shown = with_beats(parts(), "beat", over, seconds=0.01)
    assert next(shown) == "one"
    shown.close()
    assert over.is_set()
    assert not closed.is_set()
    gate.set()
    assert closed.wait(30)


@pytest.mark.ui
def test_a_finished_run_is_asked_about_seldom(page, served):
    page.goto(served.link(f"/run?run={QUICK}"))
    ready(page)
    page.wait_for_timeout(2.5 * POLL_SECONDS * 1000)
    assert questions(page, 3 * POLL_SECONDS) <= 1
    page.goto(served.link(f"/run?run={LIVE}"))
    ready(page)
    page.wait_for_timeout(POLL_SECONDS * 1000)
    assert questions(page, 3 * POLL_SECONDS) >= 2


@pytest.mark.ui
def test_a_query_says_what_it_waits_for_with_a_clock_until_its_result_is_there(
    page, served, monkeypatch
):
    go_on = threading.Event()

    def slow(*_: Any, **__: Any) -> Result:
        go_on.wait(60)
        return Result(["n"], [[41]], is_cut=False, seconds=0.5)

    monkeypatch.setattr(rollouts, "run_query", slow)
    page.goto(served.link(f"/rollouts?run={QUICK}"))
    ready(page)
    page.get_by_role("button", name="Run query").click()
    told = page.get_by_text("then the query has 10 seconds")
    told.wait_for(timeout=PATIENCE)
    expect(told.locator("xpath=..").locator("[data-ticking]")).to_have_text(
        re.compile(r"\d+ s"), timeout=PATIENCE
    )
    go_on.set()
    expect(page.get_by_role("cell", name="41", exact=True)).to_be_visible(timeout=PATIENCE)
    expect(told).to_be_hidden()


@pytest.mark.ui
@pytest.mark.parametrize("route", ["/", f"/run?run={QUICK}"])
def test_who_comes_back_to_a_page_that_asks_seldom_sees_it_as_it_is_now(page, served, route):
    page.goto(served.link(route))
    ready(page)
    page.wait_for_timeout(2.5 * POLL_SECONDS * 1000)
    page.evaluate("document.title = 'hidden'")
    with page.expect_request(lambda request: "/run/" in request.url or "predict" in request.url,
                             timeout=2000):  # fmt: skip
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


@pytest.mark.ui
def test_a_button_whose_answer_takes_long_shows_a_clock_until_it_is_there(
    page, served, monkeypatch
):
    gate, call = threading.Event(), FakeSettingsProcess.call

    def slow(process: Any, operation: str, seconds: float = 1.0, **arguments: Any) -> Any:
        if operation == "weigh":
            gate.wait(60)
        return call(process, operation, seconds, **arguments)

    monkeypatch.setattr(FakeSettingsProcess, "call", slow)
    page.goto(served.link(f"/run?run={QUICK}"))
    ready(page)
    page.get_by_text("Measure this policy again").click()
    button = page.get_by_role("button", name="Choose suites and see the cost")
    button.click()
    expect(button).to_have_attribute("data-waited", re.compile(r"^\d+ s$"), timeout=PATIENCE)
    page.wait_for_timeout(8500)
    expect(button).to_have_attribute("aria-busy", "true")
    gate.set()
    page.get_by_text("At most 3,000 responses").wait_for(timeout=PATIENCE)
    expect(button).to_have_count(0)


@pytest.mark.ui
def test_notices_about_something_else_free_no_button(page, served, monkeypatch):
    gate, call = threading.Event(), FakeSettingsProcess.call

    def slow(process: Any, operation: str, seconds: float = 1.0, **arguments: Any) -> Any:
        gate.wait(60)
        return call(process, operation, seconds, **arguments)

    monkeypatch.setattr(FakeSettingsProcess, "call", slow)
    monkeypatch.setattr(runs, "news", lambda *_: [gr.skip()] * 3)  # it frees every button
    page.goto(served.link("/"))
    ready(page)
    notice = (
        "(kind) => { const box = document.createElement('div');"
        " box.className = `toast-body ${kind}`; box.append(document.createElement('div'));"
        " box.firstChild.className = 'toast-message-item'; document.body.append(box); }"
    )
    page.evaluate(notice, "error")
    button = page.get_by_role("button", name="Start the quickstart run").first
    button.click()
    page.evaluate(notice, "info")
    page.wait_for_timeout(2500)  # notices are looked at every second
    expect(button).to_have_attribute("aria-busy", "true")
    gate.set()


@pytest.mark.ui
def test_a_refused_button_is_free_again_at_once(page, served, monkeypatch):
    def refuse(*_: Any, **__: Any) -> Any:
        raise ConfigError("not today")

    monkeypatch.setattr(FakeSettingsProcess, "call", refuse)
    page.goto(served.link("/"))
    button = page.get_by_role("button", name="Start the quickstart run").first
    button.click()
    page.get_by_text("not today").first.wait_for(timeout=PATIENCE)
    expect(button).not_to_have_attribute("aria-busy", "true", timeout=3000)


ASKED_TWICE = """() => {
  const element = document.createElement("div");
  element.append(document.createElement("div"));
  document.body.append(element);
  const node = ["button", { "data-act": "x", id: "twice" }, "Ask"];
  let answer = null;
  const watch = (_, draw) => { answer = draw; };
  window.acft.view(element, { value: JSON.stringify(node) }, () => {}, watch, ["x"], false);
  const button = document.getElementById("twice");
  button.click();
  answer();
  setTimeout(() => button.click(), 4000);
}"""


@pytest.mark.ui
def test_a_button_that_asks_again_does_not_share_the_patience_of_its_first_question(page, served):
    page.goto(served.link("/about"))
    ready(page)
    page.evaluate(ASKED_TWICE)
    button = page.locator("#twice")
    expect(button).not_to_have_attribute("aria-busy", "true")
    page.wait_for_timeout(9000)
    expect(button).to_have_attribute("aria-busy", "true")


@pytest.mark.ui
def test_scoring_a_typed_text_shows_a_clock_and_can_be_stopped_and_begun_again(page, server):
    watch = Watch(page, server.address)
    server.open_gate()
    page.goto(server.link("/"))
    page.get_by_role("button", name="Start the quickstart run").first.click()
    page.wait_for_url(re.compile(r"/run\?run="), timeout=PATIENCE)
    state(page, "finished")
    page.goto(page.url.replace("/run?", "/tokens?") + "&prompt=slow&response=two")
    expect(page.get_by_label("Prompt")).to_have_value("slow", timeout=PATIENCE)
    page.locator(".tok").first.wait_for(timeout=PATIENCE)
    score = page.get_by_role("button", name="Score", exact=True)
    score.click()
    page.get_by_role("status").filter(has_text="Opening the models").wait_for(timeout=PATIENCE)
    clock = page.locator(".underway [data-ticking]")
    expect(clock).to_have_text(re.compile(r"^[2-9]\d* s|^1\d+ s"), timeout=PATIENCE)
    shoot(page, "story-scoring")
    page.locator(".underway").get_by_role("button", name="Stop").click()
    page.get_by_role("heading", name="The chosen text").wait_for(timeout=PATIENCE)
    assert page.locator(".underway").count() == 0
    (server.experiments / "values").touch()
    score.click()
    page.get_by_role("heading", name="A text computed now").wait_for(timeout=PATIENCE)
    watch.check()


@pytest.mark.ui
def test_a_live_comparison_that_is_stopped_keeps_its_texts_and_can_be_begun_again_at_once(
    page, server
):
    watch = Watch(page, server.address)
    synthetic.write_run(server.runs, QUICK)
    page.goto(server.link(f"/compare?run={QUICK}"))
    answer = page.get_by_role("button", name="Answer", exact=True)
    stop = page.get_by_role("button", name="Stop", exact=True)
    page.get_by_label("Prompt", exact=True).fill("slow")
    answer.click()
    page.get_by_role("status").filter(has_text="Answering").wait_for(timeout=PATIENCE)
    text = page.locator(".live-text")
    text.first.wait_for(timeout=PATIENCE)
    stop.click()
    page.get_by_role("status").filter(has_text="Stopped.").wait_for(timeout=PATIENCE)
    assert text.count() == 2  # samples of the first side
    shoot(page, "story-stopped-answers")
    answer.click()
    page.get_by_role("status").filter(has_text="Answering").wait_for(timeout=PATIENCE)
    (server.experiments / "values").touch()
    stop.click()
    answer.click()
    page.get_by_role("status").filter(has_text="Done.").wait_for(timeout=PATIENCE)
    watch.check()


@pytest.mark.ui
@pytest.mark.parametrize(("name", "button"), [("tokens", "Score"), ("compare", "Answer")])
def test_who_waits_for_another_tab_is_told_may_stop_and_asks_once(context, server, name, button):
    synthetic.write_run(server.runs, QUICK)
    first, second = context.new_page(), context.new_page()
    watch = Watch(second, server.address)
    first.goto(server.link(f"/tokens?run={QUICK}&prompt=slow&response=two"))
    expect(first.get_by_label("Prompt")).to_have_value("slow", timeout=PATIENCE)
    first.locator(".tok").first.wait_for(timeout=PATIENCE)
    first.get_by_role("button", name="Score", exact=True).click()
    first.get_by_role("status").filter(has_text="Opening the models").wait_for(timeout=PATIENCE)
    second.goto(server.link(f"/{name}?run={QUICK}"))
    ready(second)
    second.get_by_label("Prompt", exact=True).fill("fast")
    if name == "tokens":
        second.get_by_label("Response").fill("two")
    ask = second.get_by_role("button", name=button, exact=True)
    waiting = second.get_by_role("status").filter(has_text="Waiting for the models to be free")
    ask.click()
    waiting.wait_for(timeout=PATIENCE)
    shoot(second, f"story-waiting-{name}")
    ask.click()
    second.get_by_text("is still waiting or being answered").first.wait_for(timeout=PATIENCE)
    assert waiting.count() == 1
    second.get_by_role("button", name="Stop", exact=True).click()
    expect(waiting).to_have_count(0, timeout=PATIENCE)
    ask.click()
    waiting.wait_for(timeout=PATIENCE)
    (server.experiments / "values").touch()
    first.get_by_role("heading", name="A text computed now").wait_for(timeout=PATIENCE)
    over = second.get_by_text("A text computed now" if name == "tokens" else "Done.")
    over.wait_for(timeout=PATIENCE)
    watch.check()


@pytest.mark.ui
def test_a_text_computed_now_stays_while_the_vocabulary_is_chosen(page, server):
    synthetic.write_run(server.runs, QUICK)
    page.goto(server.link(f"/tokens?run={QUICK}"))
    ready(page)
    page.get_by_label("Response").fill("two")
    page.get_by_role("button", name="Score", exact=True).click()
    computed = page.get_by_role("heading", name="A text computed now")
    computed.wait_for(timeout=PATIENCE)
    before = page.evaluate("Number(document.body.dataset.drawn)")
    page.get_by_label("Among").select_option("violated")
    page.wait_for_function(f"Number(document.body.dataset.drawn) > {before}")
    assert computed.is_visible()


@pytest.mark.ui
def test_cancelling_in_one_tab_leaves_the_step_of_another_alone(context, server):
    (server.experiments / "quickstart.toml").write_text('title = "slow"\n', "utf-8")
    first, second = context.new_page(), context.new_page()
    for tab in (first, second):
        tab.goto(server.link("/launch?preset=quickstart"))
        tab.get_by_text("Ready.").wait_for(timeout=PATIENCE)
    try_first, try_second = (tab.get_by_role("button", name="Try it out first")
                             for tab in (first, second))  # fmt: skip
    try_first.click()
    first.get_by_role("status").filter(has_text="opening the model").wait_for(timeout=PATIENCE)
    try_second.click()
    second.get_by_role("status").filter(has_text="waiting for the models").wait_for(
        timeout=PATIENCE
    )
    cancelled = second.get_by_text("Cancelled; nothing was kept.")
    second.get_by_role("button", name="Cancel", exact=True).click()
    cancelled.wait_for(timeout=PATIENCE)
    first.get_by_role("button", name="Cancel", exact=True).wait_for()
    (server.experiments / "step").touch()
    first.get_by_role("heading", name="One step, measured").wait_for(timeout=PATIENCE)
    assert cancelled.is_visible()

    (server.experiments / "step").unlink()
    try_second.click()
    second.get_by_role("status").filter(has_text="opening the model").wait_for(timeout=PATIENCE)
    second.get_by_role("button", name="Cancel", exact=True).click()
    cancelled.wait_for(timeout=PATIENCE)
    second.get_by_role("heading", name="What it will read").wait_for()
    (server.experiments / "step").touch()
    try_second.click()
    second.get_by_role("heading", name="One step, measured").wait_for(timeout=PATIENCE)
