"""The settings text, its form, and everything that may be done to runs."""

import itertools
import re
import threading
from dataclasses import replace
from datetime import date
from functools import partial
from threading import Lock
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge
from pydantic import BaseModel
from pydantic import Field as FromToml

from acft.config import Config, read_override
from acft.errors import AcftError, ConfigError, RunError
from acft.inference.client import NEVER
from acft.inference.fields import Field, fields_of, kind_of
from acft.inference.server import Session
from acft.inference.settings import outline
from acft.settings import OptimizerSettings, OracleSettings, RunSettings, as_asked
from acft.ui import control
from acft.ui.app import STATIC
from acft.ui.page import Visit
from acft.ui.pages import launch as page
from acft.ui.pages import runs as runs_page
from acft.ui.parts import draft, form, preflight, settings_text
from acft.ui.reading.reader import Reader
from acft.ui.web.dom import text_of
from tests.fake_runs import create
from tests.ui.conftest import CONTROL, FAILED, LOST, QUICK, REHEARSED, FakeRehearsal, visit

TEXT = '# kept\ntitle = "a"  # also kept\n\n[schedule]\nrounds = 3\n'


def test_changing_a_setting_keeps_comments_and_order():
    text = settings_text.assign(TEXT, ["optimizer", "lr"], 0.001)
    assert text.startswith('# kept\ntitle = "a"  # also kept')
    assert settings_text.parse(text)["optimizer"] == {"lr": 0.001}


def test_an_emptied_setting_goes_back_to_its_default_and_its_section_disappears():
    text = settings_text.assign(TEXT, ["schedule", "rounds"], None)
    assert "schedule" not in settings_text.parse(text)


def test_editing_a_default_list_writes_the_whole_list():
    text = settings_text.assign("", ["corpus", "1", "weight"], 2.0)
    values = settings_text.parse(text)
    assert [table["source"] for table in values["corpus"]] == ["base_rollouts", "sotu"]
    assert values["corpus"][1]["weight"] == 2.0
    RunSettings.parse(values)


def test_tables_of_a_list_are_added_and_removed():
    text = settings_text.add_table("", "constraint", {"kind": "length"})
    assert [t["kind"] for t in settings_text.parse(text)["constraint"]] == ["scorer", "length"]
    text = settings_text.remove_table(text, "constraint", 0)
    assert [t["kind"] for t in settings_text.parse(text)["constraint"]] == ["length"]
    assert settings_text.remove_table(text, "constraint", 0) == text


def test_removing_an_entry_leaves_what_is_said_of_the_others():
    text = '[[constraint]]\nkind = "length"  # short\n\n[[constraint]]\nkind = "pattern"\n'
    assert settings_text.remove_table(text, "constraint", 1) == (
        '[[constraint]]\nkind = "length"  # short\n\n'
    )


def test_a_list_written_on_one_line_stays_one():
    text = 'constraint = [{kind = "pattern", pattern = "a"}]\n'
    text = settings_text.add_table(text, "constraint", {"kind": "length"})
    assert [t["kind"] for t in settings_text.parse(text)["constraint"]] == ["pattern", "length"]
    assert text.startswith("constraint = [")


def test_the_only_entry_of_a_list_cannot_be_removed(bench):
    form, _ = page.show(bench, visit(), '[[constraint]]\nkind = "length"\nmaximum = 9\n')
    assert "Remove constraint" not in str(form)
    assert "Remove corpus 1" in str(form)


def test_a_date_and_an_emoji_survive_the_way_over_the_command_line():
    changes = settings_text.overrides(TEXT, TEXT + 'x = 2026-11-30\ny = "🚀\\u007f"\n')
    assert changes is not None
    assert [read_override(change)[1] for change in changes] == [date(2026, 11, 30), "🚀\x7f"]


def test_a_text_longer_than_any_settings_is_not_read():
    with pytest.raises(ConfigError, match="at most 100,000"):
        settings_text.parse("#" * 100_001)


def test_more_edits_than_anybody_makes_are_not_made():
    edit = {"path": ["title"], "value": "a", "kind": "text"}
    _, told = draft.answered({"text": "", "edits": [edit] * 201})
    assert not told["applied"]
    text = "#" * 90_000
    for n_edits, is_made in ((5, True), (6, False)):
        _, told = draft.answered({"text": text, "edits": [edit] * n_edits})
        assert told["applied"] is is_made


def test_form_contents_become_values_of_their_kind():
    assert settings_text.written("3", "int") == 3
    assert settings_text.written("0.5", "float") == 0.5
    assert settings_text.written("auto", "float") == "auto"
    assert settings_text.written(" a, b ,", "list") == ["a", "b"]
    assert settings_text.written("", "text") is None
    assert settings_text.written(False, "bool") is False


class EveryType(Config):
    """An option of each type that somebody's own method may have."""

    on: bool = True
    """H."""
    maybe: bool | None = None
    """H."""
    number: int | None = None
    """H."""
    rate: Annotated[float, Ge(0)] | None = None
    """H."""
    word: str | None = None
    """H."""
    size: Literal[1, 2] = 1
    """H."""
    side: Literal["a", "b"] | None = None
    """H."""
    share: float | Literal["auto"] = "auto"
    """H."""
    words: tuple[str, ...] | None = FromToml(None, strict=False)
    """H."""
    sizes: list[int] = [1]  # noqa: RUF012 - pydantic copies it
    """H."""
    rates: Annotated[tuple[float, ...], FromToml(strict=False)] = (0.5,)
    """H."""


@pytest.mark.parametrize(
    ("name", "typed", "value", "choices"),
    [
        ("on", False, False, ()),
        ("maybe", "false", False, ("true", "false")),
        ("number", "3", 3, ()),
        ("rate", "3", 3.0, ()),
        ("word", "3", "3", ()),
        ("size", "2", 2, ("1", "2")),
        ("side", "b", "b", ("a", "b")),
        ("share", "auto", "auto", ()),
        ("words", "a, b", ("a", "b"), ()),
        ("sizes", "4, 5", [4, 5], ()),
        ("rates", "4, 0.5", (4.0, 0.5), ()),
    ],
)
def test_options_of_every_type_can_be_set_in_the_form(name, typed, value, choices):
    (field,) = [each for each in fields_of(EveryType) if each.name == name]
    assert field.choices == choices
    written = settings_text.written(typed, field.kind)
    assert getattr(EveryType.parse({name: written}), name) == value


def test_a_menu_that_nothing_was_chosen_in_says_so():
    described = {"own": {"summary": "", "fields": [f.description() for f in fields_of(EveryType)]}}
    shown = form.form({"method": {"name": "own"}}, {"method": described}, [])
    assert text_of(shown).count("not set") == 2
    assert "not allowed" not in text_of(shown)
    assert "true, " not in text_of(shown)


def test_text_that_is_no_toml_is_an_error_with_its_place():
    with pytest.raises(ConfigError, match="line 1"):
        settings_text.parse("title = ")


def test_the_command_names_the_preset_and_only_what_differs():
    after = settings_text.assign(TEXT, ["method", "kl_weight"], 2.5)
    assert settings_text.command(after, "experiments/quickstart.toml", TEXT) == (
        "acft launch experiments/quickstart.toml \\\n  --set method.kl_weight=2.5"
    )


def test_the_command_survives_values_with_quotes_and_spaces():
    after = settings_text.assign(TEXT, ["title"], "it's; rm -rf $HOME")
    command = settings_text.command(after, "experiments/quickstart.toml", TEXT)
    import shlex

    assert shlex.split(command.replace("\\\n", ""))[-1] == 'title="it\'s; rm -rf $HOME"'


def test_changes_that_a_command_cannot_say_become_a_file():
    shown = settings_text.command("", "experiments/quickstart.toml", TEXT)
    assert shown == "acft launch settings.toml"


def test_every_setting_has_a_field_with_help():
    for section in form.ORDER:
        if section in ("corpus", "constraint", "method"):
            continue
        for field in form.section_fields(section):
            assert field.help, f"{section}.{field.name}"
            assert field.kind in ("bool", "int", "float", "text", "list")


def test_the_form_has_every_setting_but_those_that_no_browser_may_give(bench):
    shown = form.form({}, page.described(bench.settings_process), [])
    ids = re.findall(r"'id': 'f-([\w.]+)'", str(shown))
    for name, info in RunSettings.model_fields.items():
        if name in form.CHOSEN:
            assert any(each.startswith(f"{name}.") for each in ids), name
            continue
        inner = info.annotation
        names = inner.model_fields if isinstance(inner, type) and issubclass(
            inner, BaseModel) else None  # fmt: skip
        for key in [name] if names is None else [f"{name}.{field}" for field in names]:
            assert (key in ids) != (key in ("engine.address", "engine.folder")), key


@pytest.mark.parametrize(("key", "place"), [("temperature", "[oracle]"), ("top_p", "[evaluation]")])
def test_a_setting_that_takes_one_value_only_says_so_and_where_the_other_is(key, place):
    [field] = [f for f in form.section_fields("sampling") if f.name == key]
    assert "must" in field.help
    assert place in field.help
    section = form._section("sampling", {"sampling": {key: 0.5}}, {}, [])
    assert field.help.split(";")[0].split("``")[0] in text_of(section)


def test_fields_know_choices_and_unions_with_words():
    oracle = {field.name: field for field in fields_of(OracleSettings)}
    assert oracle["labels"].choices == ("hard", "soft")
    assert oracle["strength"].kind == "float"
    assert kind_of(OptimizerSettings.model_fields["lr"].annotation) == "float"


def test_a_field_survives_the_way_through_json():
    field = Field("a", "int", "Help.", 3, ("3", "4"))
    assert Field.from_description(field.description()) == field


def test_the_form_marks_sections_with_problems(bench):
    problems = ["[schedule] rounds = 0: must be at least 1"]
    shown = text_of(
        form.form({"schedule": {"rounds": 0}}, bench.settings_process.call("describe"), problems)
    )
    assert "1 to fix" in shown
    assert "kl_weight" in shown


def test_a_broken_text_is_reported_and_cannot_be_launched(bench):
    bench.settings_process.problems = [
        "[schedule] roundz = 3: no such setting; did you mean 'rounds'?"
    ]
    _, aside = page.show(bench, visit(may_change=True), "[schedule]\nroundz = 3\n")
    assert "did you mean 'rounds'" in text_of(aside)
    assert _button(aside, "Launch")[1].get("disabled") == ""


def test_a_valid_text_can_be_launched_by_who_holds_the_token(bench):
    _, aside = page.show(bench, visit(may_change=True), TEXT)
    assert "disabled" not in _button(aside, "Launch")[1]
    _, aside = page.show(bench, visit(), TEXT)
    assert _button(aside, "Launch")[1].get("disabled") == ""


def test_the_plan_counts_rollouts_steps_and_judged_responses(bench):
    _, aside = page.show(bench, visit(), TEXT)
    assert "3 rounds" in text_of(aside)
    assert "2,100 rollouts" in text_of(aside)


@pytest.mark.parametrize(
    ("method", "shown", "hidden"),
    [
        ("sft", "90 steps in all", ("rollouts", "beside this")),
        ("acft", "2,100 rollouts and 90 steps in all", ("beside this",)),
        ("nado_decoding", "rollouts in all", ("optimiser steps",)),
        ("rl", "what rl draws or measures beside this is not counted", ("rollouts",)),
        ("dapt", "what dapt draws or measures beside this is not counted", ("rollouts",)),
        ("evaluate", "what evaluate draws or measures beside this", ("round", "before and after")),
    ],
)
def test_the_plan_counts_what_the_method_does(bench, monkeypatch, method, shown, hidden):
    text = f'[schedule]\nrounds = 3\n\n[method]\nname = "{method}"\n'
    monkeypatch.setattr(bench.control, "outline", partial(outline, Session("cpu")))
    plan = text_of(page._plan(bench, text))
    assert shown in plan
    assert not [words for words in hidden if words in plan]


def test_a_run_can_be_opened_with_the_changes_that_may_save_it(bench):
    changes = "optimizer.micro_batch_size=4,optimizer.max_tokens=64"
    retry = Visit({"from": FAILED, "with": changes})
    text = page.opened(bench, retry, "").text
    assert settings_text.parse(text)["optimizer"]["micro_batch_size"] == 4
    assert settings_text.parse(text)["optimizer"]["max_tokens"] == 64


@pytest.mark.parametrize("text", ["", TEXT, 'method = {name = "sft"}\n'])
@pytest.mark.parametrize(
    "overrides",
    [
        ["method.kl_weight=0.2", "schedule.rounds=5"],
        ["corpus.1.weight=2.5", "constraint.0.scorer='x'"],
        ['method={name = "evaluate", suites = ["rtp"], subjects = {base = {}}}', "title='a: b'"],
        ["evaluation.scorers=['a', 'b']", "title=unquoted words", 'model.name="org/model"'],
    ],
)
def test_changes_written_into_a_text_say_what_the_launch_was_asked(text, overrides):
    written = RunSettings.parse(settings_text.parse(settings_text.with_overrides(text, overrides)))
    assert written == RunSettings.parse(as_asked(settings_text.parse(text), overrides))


@pytest.mark.parametrize("override", ["title", "title.a=1", "corpus.9.weight=2"])
def test_a_change_that_cannot_be_made_is_named(override):
    with pytest.raises(ConfigError, match=override):
        settings_text.with_overrides(TEXT, [override])


def test_a_run_is_opened_with_the_changes_it_was_launched_with(bench, tmp_path):
    paths = create(tmp_path, "optimizer.lr=0.25", "title='changed'")
    here = replace(bench, reader=Reader(tmp_path))
    again = Visit({"from": paths.root.name, "with": "optimizer.micro_batch_size=4"})
    values = settings_text.parse(page.opened(here, again, "").text)
    assert values["title"] == "changed"
    assert values["optimizer"]["lr"] == 0.25
    assert values["optimizer"]["micro_batch_size"] == 4
    paths.launch.write_text("{")
    assert "launch.json" in page.opened(here, again, "").problem


def test_a_draft_of_the_tab_comes_back(bench):
    assert page.opened(bench, visit(), "title = 'mine'").text == "title = 'mine'"


def test_only_who_may_launch_is_told_whether_files_are_there(bench, monkeypatch):
    asked = []
    monkeypatch.setattr(
        bench.settings_process,
        "call",
        lambda *_, **sent: asked.append(sent["has_files"]) or [],
    )
    page.problems(bench, visit(), TEXT)
    page.problems(bench, visit(may_change=True), TEXT)
    assert asked == [False, True]


@pytest.mark.parametrize(
    ("problem", "place"),
    [
        ("[schedule] rounds = 0: must be at least 1", ("schedule", "rounds")),
        ("[corpus.1] source = 'x': no such file", ("corpus.1", "source")),
        ("[model] name = 'x' is no directory", ("model", "name")),
        ("[constraint.0] scorer: field required", ("constraint.0", "scorer")),
        ("title = 3: should be a valid string", ("", "title")),
        ("[] dtype = 'bfloat16': is not supported", ("", "dtype")),
        ("[schedule] executor 'ray' does the oracle's job", ("schedule", "")),
        (
            "optimizer: batch_size 4 is not a multiple of micro_batch_size 8",
            ("optimizer", "batch_size"),
        ),
        ("model = 3: should be a table", ("model", "")),
        ("constraint = 3: should be a list", ("constraint", "")),
        ("the settings are not valid TOML: at line 1", ("", "")),
    ],
)
def test_a_problem_leads_to_its_field(problem, place):
    assert form.place_of(problem) == place


def test_a_field_with_a_problem_is_marked_with_it():
    line = "[sampling] horizon = 0: must be at least 1"
    shown = form.form({"sampling": {"horizon": 0}}, {}, [line])
    assert "'class': 'field set wrong'" in str(shown)
    assert line in text_of(shown)
    assert "'aria-invalid': 'true'" in str(shown)


def test_every_attribute_of_a_field_is_one_that_the_page_sets():
    source = (STATIC / "acft.js").read_text("utf-8")
    allowed = re.compile(re.search(r"ATTRIBUTE = /(\^\(.*\)\$)/;", source)[1])  # pyright: ignore
    section = form.form({"sampling": {"horizon": 4}}, {}, [])
    assert "'inputmode': 'decimal'" in str(section)
    assert not [name for name in _attributes(section) if not allowed.match(name)]


def _attributes(node: Any) -> set[str]:
    if isinstance(node, str):
        return set()
    return set(node[1]).union(*map(_attributes, node[2:]))


def test_all_edits_of_a_question_are_made_in_its_text():
    edits = [
        {"path": ["title"], "kind": "text", "value": "b"},
        {"path": ["schedule", "rounds"], "kind": "int", "value": "5"},
        {"list": "constraint", "table": {"kind": "length"}},
        {"path": ["schedule", "rounds"]},
    ]
    text, told = draft.answered({"number": 7, "text": TEXT, "edits": edits})
    values = settings_text.parse(text)
    assert values["title"] == "b"
    assert "schedule" not in values
    assert len(values["constraint"]) == 2
    assert told == {"number": 7, "applied": True, "text": text}


def test_an_edit_whose_place_is_gone_does_not_hold_up_the_others():
    edits = [
        {"path": ["corpus", "7", "weight"], "kind": "float", "value": "2"},
        {"path": ["title"], "kind": "text", "value": "b"},
    ]
    text, told = draft.answered({"number": 9, "text": TEXT, "edits": edits})
    assert settings_text.parse(text)["title"] == "b"
    assert told["applied"]


def test_edits_of_a_text_that_is_no_toml_wait():
    edits = [{"path": ["title"], "kind": "text", "value": "b"}]
    text, told = draft.answered({"number": 8, "text": "title = ", "edits": edits})
    assert text == "title = "
    assert told == {"number": 8, "applied": False}


def test_only_listed_presets_are_read(bench, tmp_path):
    (bench.experiments / "secret.txt").write_text("x")
    for name in ("../secret", "secret.txt", "/etc/passwd", "quickstart.toml"):
        with pytest.raises(RunError, match="no preset"):
            control.preset(bench.experiments, name)


def test_the_quickstart_is_launched_once_for_a_double_click(bench):
    shown: Any = [runs_page.start_quickstart(bench, visit(may_change=True)) for _ in range(2)]
    requests = {launch["request_id"] for launch in bench.settings_process.launched}
    assert len(requests) == 1
    assert {launch["experiment"] for launch in bench.settings_process.launched} == {"quickstart"}
    assert shown[0][1]["data-goto"] == f"run?run={QUICK}"


def test_a_launch_after_its_run_is_there_is_another_though_a_run_was_deleted_meanwhile(
    bench, monkeypatch
):
    for run_ids in ([CONTROL, LOST], [QUICK, CONTROL]):
        monkeypatch.setattr(bench.reader, "run_ids", lambda known=run_ids: known)
        runs_page.start_quickstart(bench, visit(may_change=True))
    first, second = bench.settings_process.launched
    assert first["request_id"] != second["request_id"]


def test_nothing_is_changed_while_another_process_supervises(bench):
    bench.control.owner = lambda: "the workbench with pid 7"
    for attempt in (
        lambda: bench.control.launch(TEXT),
        lambda: bench.control.stop(QUICK),
        lambda: bench.control.resume(FAILED),
    ):
        with pytest.raises(RunError, match="pid 7"):
            attempt()
    assert bench.settings_process.launched == []


def test_huge_settings_are_refused_before_anything_reads_them(bench):
    with pytest.raises(ConfigError, match="letters"):
        bench.control.launch("#" * 200_000)


def test_launches_are_limited_by_the_hour(bench, monkeypatch):
    names = (f"20261122-15{n // 60:02d}{n % 60:02d}-aaaa" for n in itertools.count())
    monkeypatch.setattr(bench.settings_process, "call", lambda *_, **__: next(names))
    for _ in range(control.MAX_PER_HOUR):
        bench.control.launch(TEXT)
    with pytest.raises(RunError, match="within the hour"):
        bench.control.launch(TEXT)


def test_only_new_runs_count_towards_the_limit(bench, monkeypatch):
    for _ in range(control.MAX_PER_HOUR):
        bench.control.launch(TEXT)  # one that is there: a click that was repeated
    monkeypatch.setattr(
        bench.settings_process, "call", lambda *_, **__: throw(ConfigError("refused"))
    )
    for _ in range(control.MAX_PER_HOUR):
        with pytest.raises(ConfigError, match="refused"):
            bench.control.launch(TEXT)
    monkeypatch.setattr(bench.settings_process, "call", lambda *_, **__: "20261122-150000-aaaa")
    for _ in range(control.MAX_PER_HOUR):
        bench.control.launch(TEXT)
    bench.control.launch(TEXT)


def throw(error: Exception) -> Any:
    raise error


def test_stopping_a_finished_run_says_that_there_is_nothing_to_stop(bench):
    with pytest.raises(AcftError, match="nothing to stop"):
        bench.control.stop(QUICK)


def test_run_ids_from_the_browser_cannot_leave_the_runs_directory(bench):
    for name in ("../../etc", "a/b", "20261122-140000-quik/../x"):
        with pytest.raises(AcftError, match="no run"):
            bench.control.stop(name)


def _button(node: Any, label: str) -> Any:
    if isinstance(node, list):
        if node[0] == "button" and text_of(node) == label:
            return node
        for child in node[2:]:
            found = _button(child, label)
            if found is not None:
                return found
    return None


def test_what_a_run_will_read_is_shown_with_its_loss_mask(bench):
    shown = preflight.shown(bench.control.preflight("title = 'x'", FakeRehearsal(), NEVER))
    assert "6 train, 2 validation, 2 test" in text_of(shown)
    assert "written by the policy" in text_of(shown)
    assert "'class': 'seen kl'}, ' year'" in str(shown)
    assert "'class': 'seen read'}, 'A'" in str(shown)


def test_problems_with_the_data_are_told_before_the_launch():
    shown = preflight.shown({"problems": ["[corpus.0] source = 'x': no such file"]})
    assert "could not start" in text_of(shown)
    assert "no such file" in text_of(shown)


def flown(bench, text=TEXT):
    parts = preflight.flight(bench, visit(may_change=True), text, Lock())
    return [text_of(node) for node, _ in parts]


def test_a_measured_step_tells_seconds_whole_time_and_memory(bench):
    steps = flown(bench)
    assert "reading prompts and texts" in steps[0]
    assert any("taking one optimiser step …" in step for step in steps)
    assert "4.2 s" in steps[-1]
    assert "5 min 12 s to 9 min 12 s" in steps[-1]
    assert "1.4 GiB" in steps[-1]
    assert "19% of 7.45 GiB" in steps[-1]
    assert "6 train, 2 validation, 2 test" in steps[-1]


def test_a_measured_step_is_said_to_be_of_other_settings_when_they_change(bench):
    seen = visit(may_change=True)
    first, *later = preflight.tried_out(bench, seen, TEXT, Lock())
    tried = first[2]
    assert first[3] == ""
    assert not [value for step in later for value in step[2:] if isinstance(value, str)]

    def told(text: str) -> str:
        asked = replace(seen, data={"text": text, "number": 1})
        return text_of(page.answer(bench, asked, tried)[-1])

    assert "measured for other settings" in told(TEXT.replace("3", "500"))
    assert "measured for other settings" in told("[schedule")
    assert told(TEXT.replace("kept", "a comment").replace('"a"', '"another title"')) == ""
    chosen = replace(seen, query={"preset": "quickstart"})
    assert "other settings" in text_of(page.take_preset(bench, chosen, TEXT, "another")[-1])
    file = {"name": "a.toml", "size": 9, "text": "seed = 8"}
    opened = replace(seen, data={"value": file})
    assert "measured for other settings" in text_of(page.take_file(bench, opened, tried)[-1])
    assert page.answer(bench, replace(seen, data={"text": "seed = 8"}))[-1] == ""


def test_parts_that_do_not_fit_together_are_marked(bench):
    shown = flown(bench)[-1]
    assert "fits Tokenizer and model: token ids up to 48" in shown
    assert "problem Length: the model reads 32" in shown


def test_a_step_that_fails_is_told_as_the_sentence_it_failed_with(bench):
    broken = replace(
        bench, rehearsal_process=FakeRehearsal(AcftError("the device ran out of memory"))
    )
    broken.rehearsal_process._process = object()  # it ended by itself
    with pytest.raises(AcftError, match="out of memory"):
        flown(broken)


@pytest.mark.parametrize(
    "rehearsal",
    [FakeRehearsal(AcftError("out of memory")), FakeRehearsal()],
)
def test_a_step_that_fails_is_told_where_ready_stood(bench, rehearsal):
    if rehearsal.error is None:
        rehearsal.read = {"problems": ["out of memory"]}
    broken = replace(bench, rehearsal_process=rehearsal)
    *_, (shown, *_) = preflight.tried_out(broken, visit(may_change=True), TEXT, Lock())
    assert shown[1]["class"] == "notice bad failed"
    assert "out of memory" in text_of(shown)
    _, aside = page.show(bench, visit(may_change=True), TEXT)
    assert "trying it out failed" in text_of(aside)


def test_who_cancels_a_step_ends_its_process_and_keeps_what_was_read(bench):
    rehearsal, seen = FakeRehearsal(), visit(may_change=True)
    rehearsal.hold.clear()
    steps = preflight.flight(replace(bench, rehearsal_process=rehearsal), seen, TEXT, Lock())
    shown, read = "", ""
    while "taking one optimiser step" not in shown:
        node, read = next(steps)
        shown = text_of(node)
    assert "Cancel" in shown
    seen.withdrawn.set()
    with pytest.raises(AcftError, match="withdrawn"):
        next(steps)
    assert rehearsal.hold.is_set()
    last = text_of(preflight.withdrawn(read))
    assert "Cancelled; nothing was kept." in last
    assert "6 train" in last


def test_a_step_begins_when_the_one_before_has_left(bench):
    turn, rehearsal = Lock(), FakeRehearsal()
    steps = preflight.flight(replace(bench, rehearsal_process=rehearsal), visit(may_change=True),
                             TEXT, turn)  # fmt: skip
    thread = threading.Thread(target=list, args=(steps,))
    with turn:
        thread.start()
        thread.join(0.2)
        assert rehearsal.asked == []
    thread.join(30)
    assert rehearsal.asked == [TEXT]


def test_who_cancels_while_texts_are_read_opens_no_model(bench):
    rehearsal = FakeRehearsal()
    steps = preflight.flight(replace(bench, rehearsal_process=rehearsal), visit(may_change=True),
                             TEXT, Lock())  # fmt: skip
    next(steps)
    next(steps)
    steps.close()
    assert rehearsal.asked == []


def test_who_cancels_while_texts_are_read_ends_the_process_that_reads_them(bench):
    class Reading(FakeRehearsal):
        def stream(self, operation: str, *_: Any, **__: Any) -> Any:
            assert operation == "preflight"
            raise AcftError("it was withdrawn")
            yield

    rehearsal = Reading()
    rehearsal.hold.clear()
    with pytest.raises(AcftError, match="withdrawn"):
        flown(replace(bench, rehearsal_process=rehearsal))
    assert rehearsal.hold.is_set()


def test_who_only_looks_gets_no_step(bench):
    with pytest.raises(AcftError, match="may look"):
        next(preflight.flight(bench, visit(), TEXT, Lock()))


def test_no_step_is_tried_where_the_data_have_problems(bench):
    rehearsal = FakeRehearsal()
    rehearsal.read = {"problems": ["no such file"]}
    assert "no such file" in flown(replace(bench, rehearsal_process=rehearsal))[-1]
    assert rehearsal.asked == []


def test_a_method_that_computes_more_is_said_to(bench):
    shown = text_of(preflight.measured({**REHEARSED, "is_whole": False, "method": "rl"}, ["Other"]))
    assert "over 5 min 12 s" in shown
    assert "rl draws or computes more than this" in shown
    assert "while Other was at work" in shown


def test_a_step_that_needs_more_memory_than_is_free_is_warned_of():
    enough = text_of(preflight.measured(REHEARSED))
    assert "of which 5.59 GiB were free" in enough
    assert "out of memory" not in enough
    scarce = text_of(preflight.measured({**REHEARSED, "free_bytes": 1_200_000_000}))
    assert "took 1.4 GiB at its peak, and 1.12 GiB were free on cpu" in scarce
    assert "the run may end out of memory" in scarce


def test_looking_at_the_data_is_only_for_who_may_launch(bench):
    assert "'disabled': ''" in str(preflight.button(visit()))
    assert "disabled" not in str(preflight.button(visit(may_change=True)))
