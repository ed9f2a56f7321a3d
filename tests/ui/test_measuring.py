"""Measuring a run again: what may be chosen, what it will cost, who may start it."""

import json
import re
import shutil
from dataclasses import replace
from typing import Any, cast

import gradio as gr
import pytest

from acft.errors import ConfigError
from acft.eventlog import Entry
from acft.events import Progress
from acft.ui.pages import run as run_page
from acft.ui.parts import measuring, measuring_choice
from acft.ui.web.dom import text_of
from acft.ui.web.guard import Bind
from tests.ui import synthetic
from tests.ui.conftest import CONTROL, LOST, QUICK, WEIGHED, make_bench, visit


def progress(done, phase="evaluate", total=100):
    return Progress(phase, done, total, 3, "responses")


def entries(*pairs):
    return [Entry(n, time, event) for n, (time, event) in enumerate(pairs, 1)]


def test_the_cost_is_told_from_what_the_run_itself_took():
    found = entries(
        (0.0, progress(0, "sample")), (5.0, progress(100, "sample")),
        (10.0, progress(0)), (12.0, progress(50)), (20.0, progress(100)),
        (31.0, progress(0, "validate")), (51.0, progress(100, "validate")), (60.0, progress(0)),
    )  # fmt: skip
    assert measuring.seconds_per_response(found) == pytest.approx(30 / 200)
    assert measuring.seconds_per_response(found[:4]) is None


def test_the_form_tells_every_suite_and_the_work_and_time_of_all_who_answer(bench):
    run = bench.reader.run(QUICK)
    assert "Choose suites" in text_of(measuring.panel(bench, run))
    shown = text_of(measuring.form(bench, visit(QUICK, may_change=True), run))
    for suite in ("rtp Toxicity.", "perplexity Texts.", "fluency Natural? needs a judge"):
        assert suite in shown
    assert "At most 3,000 responses, 600 texts; about" in shown, "base, tuned policy, control"
    assert "as long as a response of this run did" in shown
    alone = visit(QUICK, may_change=True, measure_control="none")
    assert "At most 2,000 responses, 400" in text_of(measuring.form(bench, alone, run))


def test_the_time_of_the_judge_is_said_not_to_be_included():
    assert measuring._in_words({"drawn": 20, "judged": 20}, 0.5) == (
        "At most 20 responses, 20 judged responses; about 10 s if each takes as long as a "
        "response of this run did (0.500 s), plus the judge's time, and a little more to load the "
        "models."
    )
    assert measuring._in_words({"read": 20}, None) == (
        "At most 20 texts, and a little more to load the models."
    )
    assert measuring._in_words({}, 0.5) == "How much work this is cannot be told in advance."


def test_a_suite_that_cannot_be_had_here_says_why_and_cannot_be_ticked(bench):
    run = bench.reader.run(QUICK)
    seen = visit(QUICK, may_change=True, measure_harness="true")
    shown = str(measuring.form(bench, seen, run))
    assert "install it" in shown
    (box,) = [part for part in shown.split("['input'") if "measure_harness" in part]
    assert "'disabled': ''" in box
    assert "'checked'" not in box


@pytest.mark.parametrize(
    ("wrong", "what"),
    [({"measure_prompts": "0"}, "prompts = '0'"), ({"measure_continuations": "x"}, "must be a"),
     ({"measure_prompts": "²"}, "prompts = '²'"), ({"measure_documents": "9" * 5000}, "must be a"),
     ({"measure_judge": "m" * 301}, "judge: 301 letters"),
     ({"measure_set": "seed"}, "further settings 'seed' is not of the form key=value"),
     ({"measure_set": "[[a]]"}, "not of the form"), ({"measure_set": "a" * 2001}, "2,001 letters"),
     ({"measure_rtp": "false", "measure_perplexity": "false"}, "nothing to measure")],
)  # fmt: skip
def test_bad_choices_are_named_in_place_and_the_form_stays(bench, wrong, what):
    run = bench.reader.run(QUICK)
    seen = visit(QUICK, may_change=True, **wrong)
    with pytest.raises(ConfigError, match=re.escape(what)):
        measuring.chosen(seen, run)
    form = measuring.form(bench, seen, run)
    assert what in text_of(form)
    assert "rtp Toxicity." in text_of(form)
    assert all(f"'{typed}'" in str(form) for name, typed in wrong.items() if typed != "false")


def test_earlier_measurements_are_listed_with_their_true_states(tmp_path):
    synthetic.write_run(tmp_path, QUICK)
    for run_id, state in ((LOST, "lost"), (CONTROL, "finished")):
        folder = synthetic.write_run(tmp_path, run_id, synthetic.Shape(state=state))
        (folder / "launch.json").write_text(json.dumps({"created": 1.0, "subject": QUICK}))
    bench = make_bench(tmp_path, tmp_path)
    shutil.rmtree(tmp_path / CONTROL)
    run = bench.reader.run(QUICK)
    assert run is not None
    said = text_of(measuring.past(bench, run))
    bench.close()
    assert f"{LOST} lost" in said
    assert CONTROL not in said


def test_a_measurement_that_changes_its_state_is_drawn_without_the_form(tmp_path):
    synthetic.write_run(tmp_path, QUICK)
    subject = json.dumps({"created": 1.0, "subject": QUICK})
    folder = synthetic.write_run(tmp_path, CONTROL, synthetic.Shape(state="running"))
    (folder / "launch.json").write_text(subject)
    bench = make_bench(tmp_path, tmp_path)

    def drawn(seen=None):
        _, _, mark, *parts = run_page.show(bench, visit(QUICK), seen)
        return mark, parts[-6:]

    mark, (_, form, past, *_) = drawn()
    assert "Choose suites" in text_of(form)
    assert f"running {CONTROL}" in text_of(past)
    shutil.rmtree(folder)
    folder = synthetic.write_run(tmp_path, CONTROL)
    (folder / "launch.json").write_text(subject)
    _, (texts, form, past, *_) = drawn(mark)
    bench.close()
    assert texts == form == gr.skip()
    assert f"finished {CONTROL}" in text_of(past)


def test_what_the_choice_lacks_is_told_and_nothing_can_be_started(bench, monkeypatch):
    lacking = WEIGHED | {"problems": ["fluency: name a judge"], "work": {}}
    monkeypatch.setattr(bench.control, "weigh", lambda *_, **__: lacking)
    run = bench.reader.run(QUICK)
    seen = visit(QUICK, may_change=True, measure_fluency="true")
    shown = measuring.form(bench, seen, run)
    assert "fluency: name a judge" in text_of(shown)
    assert "'disabled': ''" in str(shown)


def test_a_measurement_is_queued_with_the_choices(bench):
    choice = measuring.chosen(
        visit(QUICK, measure_perplexity="false", measure_fluency="true", measure_judge=" m "),
        bench.reader.run(QUICK),
    )
    assert bench.control.measure(QUICK, choice, "once") == CONTROL
    (asked,) = bench.settings_process.launched
    assert asked["suites"] == ("rtp", "fluency")
    assert asked["numbers"] == {"prompts": 40, "continuations": 25, "documents": 100}
    assert asked["judge"] == "m"


def test_who_only_looks_sees_the_cost_and_no_working_button(bench):
    run = bench.reader.run(QUICK)
    assert "'disabled': ''" in str(measuring.form(bench, visit(QUICK), run))
    demo = replace(bench, bind=Bind(is_demo=True))
    assert measuring.panel(demo, run) == ""
    assert measuring.form(demo, visit(QUICK, may_change=True), run) == ""


FURTHER = """
seed=1
# a comment
[method.options.rtp]
horizon = 30  # tokens
"""


def test_control_scorers_and_further_settings_go_from_the_address_to_the_measurement(bench):
    run = bench.reader.run(QUICK)
    seen = visit(
        QUICK, may_change=True, measure_control=CONTROL, measure_set=FURTHER,
        measured_by_jigsaw_tcc="true", measured_by_profanity_svm="false",
    )  # fmt: skip
    bench.control.measure(QUICK, measuring.chosen(seen, run), "once")
    (asked,) = bench.settings_process.launched
    assert asked["control"] == CONTROL
    assert "jigsaw_tcc" in asked["scorers"]
    assert "profanity_svm" not in asked["scorers"]
    changes = ("seed=1", "method.options.rtp.horizon = 30  # tokens")
    assert asked["changes"] == changes
    shown = text_of(measuring.form(bench, seen, run))
    assert f"acft evaluate {QUICK} --suite rtp --suite perplexity --control {CONTROL}" in shown
    assert all(f"--set '{change}'" in shown or f"--set {change}" in shown for change in changes)


def test_the_only_control_of_the_same_settings_is_chosen_until_the_reader_takes_none(bench):
    run = bench.reader.run(QUICK)
    form = measuring.form(bench, visit(QUICK, may_change=True), run)
    assert f"--control {CONTROL}" in text_of(form)
    assert json.dumps({"run": QUICK, "control": CONTROL}) in str(form)
    assert "beyond the control's" in text_of(form)
    none = visit(QUICK, may_change=True, measure_control="none")
    assert "--control" not in text_of(measuring.form(bench, none, run))
    assert measuring.chosen(none, run).control == ""
    pressed = visit(QUICK, data={"run": QUICK, "control": CONTROL})
    assert measuring.chosen(pressed, run).control == CONTROL


def test_a_control_that_cannot_serve_stays_in_the_menu_and_says_so(bench):
    form = measuring.form(bench, visit(QUICK, measure_control=LOST), bench.reader.run(QUICK))
    assert f"{LOST} (cannot serve)" in text_of(form)


@pytest.mark.parametrize(
    "key", [measuring.JUDGE, measuring_choice.CONTROL, measuring_choice.CHANGES]
)
def test_what_else_the_address_says_of_a_measurement_is_taken_for_no_suite(bench, key):
    run, seen = bench.reader.run(QUICK), visit(QUICK, **cast("dict[str, Any]", {key: "true"}))
    assert measuring.chosen(seen, run).suites == measuring.DEFAULT_SUITES


def test_the_runs_own_scorers_are_not_named_however_they_came_to_be_ticked(bench):
    judged = {"evaluation": {"scorers": ["a", "b"]}}
    run = replace(bench.reader.run(QUICK), settings=judged)

    def scorers(**ticked):
        boxes = {f"{measuring_choice.SCORER}{name}": is_on for name, is_on in ticked.items()}
        return measuring.chosen(visit(QUICK, **boxes), run).scorers

    assert scorers() is scorers(b="true", a="true") is scorers(c="false") is None
    assert scorers(a="false") == ("b",)
    assert scorers(c="true") == ("a", "b", "c")


def test_who_only_looks_has_further_settings_neither_read_nor_looked_up(bench):
    seen = visit(QUICK, measure_set='method.options.rtp.source="/etc/passwd"')
    assert measuring.chosen(seen, bench.reader.run(QUICK)).changes == ()


def test_a_scorer_that_is_not_here_cannot_be_ticked_and_says_why(bench):
    form = str(measuring.form(bench, visit(QUICK, may_change=True), bench.reader.run(QUICK)))
    (box,) = [part for part in form.split("['input'") if "measured_by_detoxify" in part]
    assert "'disabled': ''" in box
    assert "obtain it" in box
