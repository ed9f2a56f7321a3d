"""Launch: one settings text, edited as text or by a form from the schema, checked as you type."""

import functools
import json
from collections.abc import Iterator
from typing import Any

import gradio as gr

from acft.errors import AcftError, ConfigError
from acft.inference.client import Inference
from acft.settings import RunSettings
from acft.ui import preflight, settings_text, words
from acft.ui.control import preset, preset_names
from acft.ui.demonstration import reason, way_out
from acft.ui.dom import Node, act, el, view
from acft.ui.form import form
from acft.ui.frame import title
from acft.ui.page import PAGES, Page, Visit, Wire, Workbench

START = 'title = ""\n\n[method]\nname = "acft"\n'
RESTORE = "() => [sessionStorage.getItem('acft-draft') || '']"
KEEP = "(text) => { sessionStorage.setItem('acft-draft', text); return [text]; }"


@functools.lru_cache(maxsize=4)
def described(desk: Inference) -> dict[str, Any]:
    """Methods and constraints with their settings; asked for once."""
    return desk.call("describe")


def opened(bench: Workbench, visit: Visit, draft: str) -> str:
    """The text a visit starts with: a run's, a preset's, the tab's draft, or the shortest one."""
    source = visit.query.get("from", "")
    if source:
        run = bench.reader.run(source)
        text = run.paths.spec.read_text(encoding="utf-8") if run else START
        return with_changes(text, visit.query.get("with", ""))
    names = preset_names(bench.experiments)
    if visit.query.get("preset", "") in names:
        return preset(bench.experiments, visit.query["preset"])
    if draft:
        return draft
    return preset(bench.experiments, "quickstart") if "quickstart" in names else START


def with_changes(text: str, changes: str) -> str:
    """The text with ``a.b=c`` changes, separated by commas, written into it."""
    for change in filter(None, changes.split(",")):
        key, equals, value = change.partition("=")
        if not equals:
            raise ConfigError(f"{change!r} is not of the form section.key=value")
        try:
            parsed: Any = json.loads(value)
        except ValueError:
            parsed = value
        text = settings_text.assign(text, key.split("."), parsed)
    return text


def edited(text: str, data: dict[str, Any]) -> str:
    """The text after one action of the form."""
    if "table" in data:
        return settings_text.add_table(text, str(data["list"]), dict(data["table"]))
    if "index" in data:
        return settings_text.remove_table(text, str(data["list"]), int(data["index"]))
    path = [str(part) for part in data["path"]]
    value = settings_text.written(data["value"], data["kind"]) if "value" in data else None
    return settings_text.assign(text, path, value)


def problems(bench: Workbench, text: str, *, is_thorough: bool = True) -> list[str]:
    """What is wrong with a settings text, one line each; unless thorough, shared settings only."""
    try:
        if is_thorough:
            return bench.control.check(text)
        RunSettings.parse(settings_text.parse(text))
    except AcftError as error:
        return str(error).splitlines()
    return []


def side(bench: Workbench, visit: Visit, text: str, found: list[str], *, is_thorough: bool) -> Node:
    """Verdict, what the run will do, the command, and the launch button."""
    checking = el("div.notice", "Checking the method's and constraints' own settings …")
    return el(
        "div",
        _verdict(found) if is_thorough or found else checking,
        _plan(text) if not found else None,
        preflight.button(visit) if not found and not bench.bind.is_demo else None,
        _command(bench, visit, text),
        _launch_button(bench, visit, is_ready=is_thorough and not found),
    )


def _verdict(found: list[str]) -> Node:
    if not found:
        return el("div.notice.good", el("b", "Ready. "), "Every setting is valid.", role="status")
    number = words.count(len(found), "problem")
    items = [el("li", line) for line in found[:20]]
    return el("div.notice.bad", el("b", f"{number} to fix"), el("ul", items), role="status")


def _plan(text: str) -> Node:
    """The work the settings ask for, in numbers."""
    try:
        settings = RunSettings.parse(settings_text.parse(text))
    except ConfigError:
        return el("div")
    rounds, steps = settings.schedule.rounds, settings.optimizer.steps_per_round
    rollouts = settings.oracle.rollouts_per_round
    judged = 2 * settings.evaluation.test_prompts * settings.evaluation.continuations
    judges = ", ".join(settings.evaluation.scorers) or "nobody (evaluation.scorers is empty)"
    lines = [
        f"{words.count(rounds, 'round')}, each {rollouts:,} rollouts of up to "
        f"{settings.sampling.horizon} tokens and {steps:,} optimiser steps of "
        f"{settings.optimizer.batch_size} documents",
        f"{rounds * rollouts:,} rollouts and {rounds * steps:,} steps in all",
        f"before and after: {judged:,} responses judged by {judges}",
    ]
    return el(
        "div", el("h2", "What it will do"), el("ul.plain", [el("li", line) for line in lines])
    )


def _command(bench: Workbench, visit: Visit, text: str) -> Node:
    name = visit.query.get("preset", "")
    known = name in preset_names(bench.experiments)
    shown = settings_text.command(text, name if known else "",
                                  preset(bench.experiments, name) if known else "")  # fmt: skip
    return el(
        "div",
        el("h2", "The same from the command line"),
        el("pre.log.command", shown, tabindex="0"),
        el("div.actions",
           el("button.do", "Copy command", type="button", data_do="copy", data_text=shown),
           el("button.do", "Save as settings.toml", type="button", data_do="download",
              data_name="settings.toml", data_text=text, data_type="text/plain")),
    )  # fmt: skip


def _launch_button(bench: Workbench, visit: Visit, *, is_ready: bool) -> Node:
    if bench.bind.is_demo:
        button = el("button.go", "Launch", type="button", disabled=True)
        why = el("div.notice", reason(bench.bind), " ", way_out(bench.bind))
        return el("div.launchbar", button, why)
    waiting = sum(run.state.state == "queued" for run in bench.reader.runs())
    live = sum(run.state.is_live for run in bench.reader.runs())
    place = "starts at once if its device is free"
    if live or waiting:
        place = f"{words.count(live, 'run')} at work, {waiting} waiting"
    return el(
        "div.launchbar",
        el("button.go", "Launch", type="button", disabled=not (is_ready and visit.may_change),
           **act("launch")),
        el("span.side", place),
    )  # fmt: skip


def top(bench: Workbench, visit: Visit) -> Node:
    """Where the text may come from."""
    chosen = visit.query.get("preset", "")
    options = [el("option", "this text", value="", selected=not chosen)]
    options += [
        el("option", name, value=name, selected=name == chosen)
        for name in preset_names(bench.experiments)
    ]
    return el(
        "div.toolbar",
        el("label.side", "Start from ", el("select", options, data_query="preset",
                                           aria_label="Preset", **act("preset"))),
        el("label.do.file", "Open a TOML file",
           el("input", type="file", accept=".toml,text/plain", class_="sr", **act("import_text"))),
    )  # fmt: skip


def show(bench: Workbench, visit: Visit, text: str, *, is_thorough: bool = True) -> list[Any]:
    """Form and side panel for a text; thorough checks wait until another process has started."""
    found = problems(bench, text, is_thorough=is_thorough)
    aside = side(bench, visit, text, found, is_thorough=is_thorough)
    try:
        values = settings_text.parse(text)
    except ConfigError:
        return [el("p.side", "The form returns when the text is valid TOML."), aside]
    return [form(values, described(bench.desk) if is_thorough else {}, found), aside]


def first(bench: Workbench, visit: Visit, draft: str) -> list[Any]:
    """What the page opens with; the thorough check follows."""
    content = opened(bench, visit, draft)
    return [top(bench, visit), content, *show(bench, visit, content, is_thorough=False)]


def taken(bench: Workbench, visit: Visit, content: str) -> list[Any]:
    """The page with the text of a file or preset, else with the text as it is."""
    value = str(visit.data.get("value", ""))
    chosen = visit.query.get("preset", "")
    if "\n" in value:
        content = value
    elif chosen in preset_names(bench.experiments):
        content = preset(bench.experiments, chosen)
    return [top(bench, visit), content, *show(bench, visit, content)]


def _build(bench: Workbench, wire: Wire) -> None:
    view(title("Launch", "One settings file: edit it on either side, both stay in step."))
    start = view(acts=("preset", "import_text"))
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            fields = view(acts=("assign", "undo", "append", "drop"))
        with gr.Column(scale=2, min_width=320, elem_classes="sticky"):
            text = gr.Textbox(
                label="Settings (TOML)", lines=14, max_lines=30, elem_classes="code",
                max_length=100_000, autoscroll=False,
            )  # fmt: skip
            aside = view(acts=("launch", "preflight"))
            flight = view(acts=("withdraw",))
    outputs = [fields, aside]

    def open_page(visit: Visit, draft: str) -> list[Any]:
        return first(bench, visit, draft)

    def change(visit: Visit, content: str) -> list[Any]:
        now = edited(content, visit.data)
        return [now, *show(bench, visit, now)]

    def typed(visit: Visit, content: str) -> list[Any]:
        return show(bench, visit, content)

    def take(visit: Visit, content: str) -> list[Any]:
        return taken(bench, visit, content)

    def launch(visit: Visit, content: str) -> Node:
        request = f"{visit.session}:{hash(content)}:{len(bench.reader.run_ids())}"
        run_id = bench.control.launch(content, request, visit.query.get("from", ""))
        return el("div", el("p", "Queued; opening the run …"), data_goto=f"run?run={run_id}")

    loaded = wire.on_load(open_page, inputs=[text], outputs=[start, text, *outputs], js=RESTORE)
    wire.read(loaded.then, typed, inputs=[text], outputs=outputs)
    for event in (fields.assign, fields.undo, fields.append, fields.drop):
        wire.read(event, change, inputs=[text], outputs=[text, *outputs])
    for event in (start.preset, start.import_text):
        wire.read(event, take, inputs=[text], outputs=[start, text, *outputs])
    wire.read(text.input, typed, inputs=[text], outputs=outputs, trigger_mode="always_last")
    text.change(None, [text], [text], js=KEEP, api_visibility="private")
    _wire_preflight(bench, wire, aside, flight, text)
    wire.change(aside.launch, launch, inputs=[text], outputs=[aside])


def _wire_preflight(bench: Workbench, wire: Wire, aside: Any, flight: Any, text: Any) -> None:
    def begin(visit: Visit) -> Node:  # noqa: ARG001
        return preflight.waiting()

    def try_out(visit: Visit, content: str) -> Iterator[Node]:
        yield from preflight.flight(bench, visit, content)

    def withdraw(visit: Visit) -> Any:  # noqa: ARG001
        bench.trial.close()
        return gr.skip()

    # It reads files that the settings name, so it needs the token although it changes nothing.
    begun = wire.change(aside.preflight, begin, outputs=[flight])
    wire.stream(begun.success, try_out, inputs=[text], outputs=[flight])
    wire.change(flight.withdraw, withdraw, outputs=[flight])


PAGES.add("launch")(Page("Launch", "launch", 20, _build))
