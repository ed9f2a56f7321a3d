"""Launch: one settings text, edited as text or by a form from the schema, checked as you type."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import gradio as gr

from acft.atomic import read_own_text
from acft.errors import AcftError, ConfigError, DataError
from acft.inference.client import Inference
from acft.runs.directory import read_launch
from acft.settings import RunSettings
from acft.ui.control import MAX_SPEC_LETTERS, preset, preset_names
from acft.ui.page import PAGES, Page, Visit, Wire, Workbench, why_not
from acft.ui.parts import grid, origin, preflight, settings_text
from acft.ui.parts.demonstration import reason, way_out
from acft.ui.parts.draft import CHECK, KEEP, RESTORE, answered
from acft.ui.parts.draft import draft as made
from acft.ui.parts.form import form, place_of
from acft.ui.parts.frame import title
from acft.ui.web import words
from acft.ui.web.dom import Node, act, choose, el, view

START = 'title = ""\n\n[method]\nname = "acft"\n'
SOURCES = ("preset", "from", "with")
"""Parts of the address that say where a text came from."""
FILE_LETTERS = f"at most {MAX_SPEC_LETTERS:,} letters are read"


@functools.lru_cache(maxsize=4)
def described(settings_process: Inference) -> dict[str, Any]:
    """Methods and constraints with their settings; asked for once."""
    return settings_process.call("describe")


@dataclass(frozen=True)
class Opening:
    """The text a visit starts with, and what it asked for in vain."""

    text: str
    problem: str = ""


def opened(bench: Workbench, visit: Visit, draft: str) -> Opening:
    """The text a visit starts with: the tab's draft, a run's, a preset's, or the shortest one."""
    names = preset_names(bench.experiments)
    usual = preset(bench.experiments, "quickstart") if "quickstart" in names else START
    source, chosen = visit.query.get("from", ""), visit.query.get("preset", "")
    if draft:
        return Opening(draft)
    if source:
        run = bench.reader.run(source)
        if run is None:
            return Opening(usual, f"there is no run {source!r} here; these are the usual settings")
        try:
            text = read_own_text(run.paths.spec)
            asked = read_launch(run.paths).overrides
        except (OSError, UnicodeError, DataError) as error:
            what = str(error) if isinstance(error, DataError) else type(error).__name__
            return Opening(usual, f"the settings of run {source!r} cannot be read ({what}); "
                           "these are the usual ones")  # fmt: skip
        return _changed(text, asked, visit.query.get("with", ""))
    if chosen in names:
        return Opening(preset(bench.experiments, chosen))
    if chosen:
        allowed = ", ".join(names)
        return Opening(usual, f"there is no preset {chosen!r} (there are: {allowed})")
    return Opening(usual)


def _changed(text: str, asked: Sequence[str], changes: str) -> Opening:
    """A run's text with what its launch changed and, separated by commas, what a link changes."""
    try:
        text = settings_text.with_overrides(text, asked)
        return Opening(settings_text.with_overrides(text, [*filter(None, changes.split(","))]))
    except ConfigError as error:
        return Opening(text, f"{error}; these are the run's settings without any of the changes")


def problems(bench: Workbench, visit: Visit, text: str, *, is_thorough: bool = True) -> list[str]:
    """What is wrong with a settings text, one line each; unless thorough, shared settings only.

    Whether a file exists is told to nobody who may only look.
    """
    try:
        if is_thorough:
            return bench.control.check(text, has_files=visit.may_change)
        RunSettings.parse(settings_text.parse(text))
    except AcftError as error:
        return str(error).splitlines()
    return []


def side(bench: Workbench, visit: Visit, text: str, found: list[str], *, is_thorough: bool) -> Node:
    """Verdict, what the run will do, the command, and the launch button."""
    checking = el("div.notice", "Checking the method's and constraints' own settings …")
    return el(
        "div",
        el(
            "div.verdict",
            _verdict(found) if is_thorough or found else checking,
            _launch_button(bench, visit, is_ready=is_thorough and not found),
        ),
        _plan(bench, text) if is_thorough and not found else None,
        preflight.button(visit) if not found and not bench.bind.is_demo else None,
        _command(bench, visit, text),
    )


def _verdict(found: list[str]) -> Node:
    if not found:
        return el(
            "div",
            el("div.notice.good.ready", el("b", "Ready. "), "Every setting is valid.",
               role="status"),
            el("div.notice.bad.unready", el("b", "Every setting is valid, but trying it out "
               "failed. "), "The reason stands above.", role="status"),
        )  # fmt: skip
    number = words.count(len(found), "problem")
    items = [el("li", _problem(line)) for line in found[:20]]
    return el("div.notice.bad", el("b", f"{number} to fix"), el("ul", items), role="status")


def _problem(line: str) -> Node:
    """The problem, leading to its field or, where the form has none, to its line of the text."""
    key = ".".join(filter(None, place_of(line)))
    if not key:
        return line
    return el("button.problem", line, type="button", data_do="field", data_field=key)


def _plan(bench: Workbench, text: str) -> Node:
    """The work the settings ask for, in numbers."""
    try:
        settings, asked = RunSettings.parse(settings_text.parse(text)), bench.control.outline(text)
    except AcftError:  # as when the process that knows has ended meanwhile
        return el("div")
    rounds, rollouts, steps = asked["rounds"], asked["judged"], asked["steps"]
    method = settings.method["name"]
    of_each = {
        f"{rollouts:,} rollouts of up to {settings.sampling.horizon} tokens": rollouts,
        f"{steps:,} optimiser steps of {settings.optimizer.batch_size} documents": steps,
    }
    in_all = {f"{rounds * rollouts:,} rollouts": rollouts, f"{rounds * steps:,} steps": steps}
    each, total = (" and ".join(filter(parts.get, parts)) for parts in (of_each, in_all))
    judged = 2 * settings.evaluation.test_prompts * settings.evaluation.continuations
    judges = ", ".join(settings.evaluation.scorers) or "no scorer (evaluation.scorers is empty)"
    lines = [
        f"{words.count(rounds, 'round')}, each {each}" if each else "",
        f"{total} in all" if total else "",
        ""
        if asked["is_counted"]
        else f"what {method} draws or measures beside this is not counted",
        f"before and after: {judged:,} responses judged by {judges}" if each else "",
    ]
    return el(
        "div",
        el("h2", "What it will do"),
        el("ul.plain", [el("li", line) for line in lines if line]),
    )


def _command(bench: Workbench, visit: Visit, text: str) -> Node:
    shown = origin.command(bench, visit, text)
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
    states = [run.state for run in bench.reader.runs()]
    waiting = sum(state.state == "queued" for state in states)
    live = sum(state.is_live for state in states)
    place = "starts at once if its device is free"
    if live or waiting:
        place = f"{words.count(live, 'run')} at work, {waiting} waiting"
    return el(
        "div.launchbar",
        el("button.go", "Launch", type="button", disabled=not (is_ready and visit.may_change),
           data_settled=True, data_patient=True, **act("launch")),
        why_not(bench, visit) or el("span.side", place),
    )  # fmt: skip


def top(bench: Workbench, visit: Visit, problem: str = "", *, is_file: bool = False) -> Node:
    """Where the text may come from, and what could not be opened.

    A file that was opened comes from no preset or run, whatever the address said.
    """
    chosen = visit.query.get("preset", "")
    names = [("", "this text"), *((name, name) for name in preset_names(bench.experiments))]
    into = {"data_settled": True, "data_replaces": True}
    # The browser shows it where there is a text to bring back, and says which.
    undo = el("button.do.undo", "Back to my text", type="button", data_do="undo-text",
              title="The same button then brings back the text that stands here now")  # fmt: skip
    return el(
        "div",
        el(
            "div.toolbar",
            el("label.side", "Start from ", choose(
                names, chosen, "Preset", data_query="preset", data_clear="from,with",
                **into, **act("preset"))),
            el("label.do.file", "Open a TOML file", el(
                "input", type="file", accept=".toml,text/plain", class_="sr",
                **into, **act("import_text"))),
            undo,
            data_forget=",".join(SOURCES) if is_file else None,
        ),
        el("div.notice.bad", problem[:1].upper() + problem[1:], ".", role="alert")
        if problem else None,
    )  # fmt: skip


def show(bench: Workbench, visit: Visit, text: str, *, is_thorough: bool = True) -> list[Any]:
    """Form and side panel for a text; thorough checks wait until another process has started."""
    found = problems(bench, visit, text, is_thorough=is_thorough)
    aside = side(bench, visit, text, found, is_thorough=is_thorough)
    try:
        values = settings_text.parse(text)
    except ConfigError:
        return [el("p.side", "The form returns when the text is valid TOML."), aside]
    known = described(bench.settings_process) if is_thorough else {}
    return [el("div", not_loaded(known), form(values, known, found)), aside]


def not_loaded(known: Mapping[str, Any]) -> list[Node]:
    """One notice for each file that would add a name to the form and cannot be imported."""
    return [el("div.notice.warn", problem) for problem in known.get("not_loaded", ())]


def first(bench: Workbench, visit: Visit, kept: str) -> list[Any]:
    """What the page opens with; the browser then asks for the thorough check."""
    opening = opened(bench, visit, kept)
    shown = show(bench, visit, opening.text, is_thorough=False)
    return [top(bench, visit, opening.problem), {CHECK: visit.session}, opening.text, *shown]


def answer(bench: Workbench, visit: Visit, tried: str = "") -> list[Any]:
    """What the browser is told of its text, form, side panel and what was tried out before."""
    text, told = answered(visit.data)
    older = preflight.outdated(tried, text)
    try:
        return [told, *show(bench, visit, text), older]
    except AcftError as error:
        return [told, gr.skip(), el("div.notice.bad", str(error), role="alert"), older]


def take_preset(bench: Workbench, visit: Visit, content: str, tried: str = "") -> list[Any]:
    """The page with the text of a preset, or with the text as it is when none is chosen."""
    chosen = visit.query.get("preset", "")
    content = preset(bench.experiments, chosen) if chosen else content
    older = preflight.outdated(tried, content)
    return [top(bench, visit), content, *show(bench, visit, content), older]


def take_file(bench: Workbench, visit: Visit, tried: str = "") -> list[Any]:
    """The page with the text of a file, or why it was not opened."""
    fault = file_fault(visit.data.get("value"))
    if fault:
        return [top(bench, visit, fault), *[gr.skip()] * 4]
    content = visit.data["value"]["text"]
    kept = {key: value for key, value in visit.query.items() if key not in SOURCES}
    visit = replace(visit, query=kept)
    head = top(bench, visit, is_file=True)
    return [head, content, *show(bench, visit, content), preflight.outdated(tried, content)]


def file_fault(file: Any) -> str:
    """Why a file that the browser read cannot be the settings, or an empty string."""
    told = file if isinstance(file, dict) else {}
    name, text, size = str(told.get("name", "")), told.get("text"), told.get("size", 0)
    if size > MAX_SPEC_LETTERS or len(text or "") > MAX_SPEC_LETTERS:
        return f"{name!r} has {size:,} bytes, and {FILE_LETTERS}; nothing was changed"
    if not isinstance(text, str) or "\0" in text:
        return f"{name!r} is no UTF-8 text; choose a TOML file. Nothing was changed"
    try:
        settings_text.parse(text)
    except ConfigError as error:
        return f"{name!r} was not opened: {error}"
    return ""


def _build(bench: Workbench, wire: Wire) -> None:
    view(title("Launch", "One settings file: edit it on either side, both stay in step."))
    start = view(acts=("preset", "import_text"))
    with gr.Row(elem_classes="launching"):
        with gr.Column(scale=3, min_width=320):
            fields = view()
        with gr.Column(scale=2, min_width=320, elem_classes="sticky"):
            text = gr.Textbox(
                label="Settings (TOML)", lines=20, max_lines=20, elem_classes="code",
                max_length=MAX_SPEC_LETTERS, autoscroll=False,
            )  # fmt: skip
            aside = view(acts=("launch", "preflight"))
            several = view(acts=("vary", "launch_grid"))
            older = view("")
            flight = view(acts=("withdraw",))
    draft, tried = made(), gr.State("")
    outputs = [fields, aside]

    def open_page(visit: Visit, kept: str) -> list[Any]:
        return [*first(bench, visit, kept), grid.panel(bench, visit)]

    def ask(visit: Visit, measured: str) -> list[Any]:
        return answer(bench, visit, measured)

    def open_preset(visit: Visit, content: str, measured: str) -> list[Any]:
        return take_preset(bench, visit, content, measured)

    def open_file(visit: Visit, measured: str) -> list[Any]:
        return take_file(bench, visit, measured)

    def launch(visit: Visit, content: str) -> Node:
        request = bench.request_id(visit, content)
        named = origin.experiment(bench, visit, content)
        run_id = bench.control.launch(content, request, visit.query.get("from", ""), named)
        return el("div", el("p", "Queued; opening the run …"), data_goto=f"run?run={run_id}")

    wire.on_load(
        open_page, inputs=[text], outputs=[start, draft, text, *outputs, several], js=RESTORE
    )
    wire.read(draft.ask, ask, inputs=[tried], outputs=[draft, *outputs, older],
              trigger_mode="multiple")  # fmt: skip
    wire.read(start.preset, open_preset, inputs=[text, tried],
              outputs=[start, text, *outputs, older], trigger_mode="always_last")  # fmt: skip
    wire.read(start.import_text, open_file, inputs=[tried], outputs=[start, text, *outputs, older])
    text.change(None, [text], [text], js=KEEP, api_visibility="private")
    _wire_preflight(bench, wire, aside.preflight, text, [flight, gr.State(""), tried, older])
    wire.change(aside.launch, launch, inputs=[text], outputs=[aside])
    grid.connect(bench, wire, several, text)


def _wire_preflight(
    bench: Workbench, wire: Wire, asked: Any, text: Any, outputs: Sequence[Any]
) -> None:
    """Outputs are the page's part, what was read, what was tried and whether that is outdated."""
    turn, (flight, read, *_) = Lock(), outputs

    def try_out(visit: Visit, content: str) -> Iterator[list[Any]]:
        yield from preflight.tried_out(bench, visit, content, turn)

    def withdraw(visit: Visit, found: Node) -> Node:  # noqa: ARG001
        return preflight.withdrawn(found)

    # It reads files that the settings name, so it needs the token although it changes nothing.
    running = wire.stream(asked, try_out, inputs=[text], outputs=outputs, needs_token=True,
                          waiting=[preflight.waiting(), "", "", ""])  # fmt: skip
    wire.cancel(flight.withdraw, [running])
    wire.change(flight.withdraw, withdraw, inputs=[read], outputs=[flight])


PAGES.add("launch")(Page("Launch", "launch", 20, _build))
