"""What a page is, what it gets, and how its callbacks are connected.

A callback is a plain function of a ``Visit`` and the values of its inputs; it can be tested without
a browser. ``Wire`` connects it to Gradio and lets nothing that changes a run through without the
launch token.
"""

import html
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any

import gradio as gr
from gradio.context import Context

from acft.errors import AcftError
from acft.inference.client import Inference
from acft.inference.obtaining import Obtaining
from acft.registry import Registry
from acft.runs.supervisor import Supervisor
from acft.store.connection import Store
from acft.store.ingest import Ingester
from acft.ui.control import Control
from acft.ui.reading.reader import Reader, Run
from acft.ui.web.beats import with_beats
from acft.ui.web.dom import Node, el, notice, sent
from acft.ui.web.guard import Bind, Gate
from acft.ui.web.turns import Line, Stream, Turns, line_of

REFUSED = (
    "this browser may look but not change anything; open the address that the terminal printed "
    "when the workbench started (it ends in ?token=…)"
)
POLL_SECONDS = 3.0
"""How often an open page asks for news; each answer takes CPU time from running jobs."""
REST_SECONDS = 20.0
"""The same while no run is at work; another tab or a terminal may still start one."""
UNDERWAY = "an earlier request of this tab is still waiting or being answered; stop that one first"
DEMO = "this is a read-only demonstration; launching and changing runs does not exist here"


@dataclass(frozen=True, eq=False)
class Workbench:
    """What all pages share."""

    reader: Reader
    gate: Gate
    bind: Bind
    experiments: Path
    """Folder of TOML files offered as presets."""
    store: Store
    """The database, a cache made from the run directories."""
    ingester: Ingester
    """Keeps the database up to date; knows why it could not."""
    control: Control
    settings_process: Inference
    """Process that checks and launches settings; loads no model."""
    model_process: Inference
    """Process that holds the models of the run last asked about."""
    served: Mapping[str, Any] = field(default_factory=dict)
    """Arguments the server was started with, for the posture panel."""
    rehearsal_process: Inference = field(default_factory=Inference)
    """Process that takes one step of a form's settings; it lives no longer than that."""
    export_process: Inference = field(default_factory=Inference)
    """Process that writes a tuned policy for other programs; it lives no longer than that."""
    obtaining: Obtaining = field(default_factory=Obtaining)
    """What obtains the model of a Space; idle elsewhere."""
    supervisor: Supervisor | None = None
    """Starts and watches runs, or waits until nobody else does; none in a demonstration."""

    def request_id(self, visit: "Visit", what: str) -> str:
        """Name of a click that asks for a run: repeated, it is the same until the run is there."""
        newest = self.reader.run_ids()[:1]
        return f"{visit.session}:{hash(what)}:{''.join(newest)}"

    def close(self) -> None:
        """Ends threads and processes of the workbench; runs go on."""
        # A thread still inside DuckDB when Python ends takes the whole process down with it.
        self.ingester.stop()
        if self.supervisor is not None:
            self.supervisor.close()
        self.obtaining.close()
        held = (self.settings_process, self.model_process, self.rehearsal_process)
        for process in (*held, self.export_process):
            process.close()
        self.store.close()


@dataclass(frozen=True)
class Visit:
    """One request of one browser."""

    query: dict[str, str] = field(default_factory=dict)
    """Parameters of the page's address."""
    data: dict[str, Any] = field(default_factory=dict)
    """What the clicked control carries."""
    session: str = ""
    """Differs for every opened tab."""
    may_change: bool = False
    """The browser holds the launch token, and we supervise the runs; never in a demonstration."""
    withdrawn: Event = field(default_factory=Event, compare=False)
    """Set when nobody waits any longer for what a stream makes."""

    @property
    def run_id(self) -> str:
        """The run the page is about."""
        return self.query.get("run", "")


@dataclass(frozen=True)
class Page:
    """A registered page."""

    title: str
    route: str
    """Last part of the address; empty for the first page."""
    order: int
    build: Callable[["Workbench", "Wire"], None]
    """Creates the components; called once inside the page's Blocks."""
    about: str = ""
    """One sentence under the title."""


PAGES: Registry[Page] = Registry("page", "acft.ui.pages", Page)
"""Every page by name."""

Components = Sequence[Any]


def pace(runs: Iterable[Run]) -> float:
    """Seconds until a page about these runs should ask again."""
    is_moving = any(run.state.is_live or run.state.state == "queued" for run in runs)
    return POLL_SECONDS if is_moving else REST_SECONDS


class Wire:
    """Connects callbacks to events of components."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self.changing: list[str] = []
        """Names of the handlers that need the launch token; a test calls each without it."""
        self._turns = Turns()

    def read(
        self,
        event: Callable[..., Any],
        callback: Callable[..., Any],
        inputs: Components = (),
        outputs: Components = (),
        **options: Any,
    ) -> Any:
        """Connects a callback that changes nothing."""
        handler = self._handler(callback, outputs, lambda error: _in_place(error, outputs), inputs)
        return self._connect(event, handler, inputs, outputs, options)

    def on_load(
        self,
        callback: Callable[..., Any],
        inputs: Components = (),
        outputs: Components = (),
        **options: Any,
    ) -> Any:
        """Calls a callback that changes nothing whenever the page is opened."""
        blocks = Context.root_block
        assert isinstance(blocks, gr.Blocks)
        return self.read(blocks.load, callback, inputs, outputs, **options)

    def change(
        self,
        event: Callable[..., Any],
        callback: Callable[..., Any],
        inputs: Components = (),
        outputs: Components = (),
        **options: Any,
    ) -> Any:
        """Connects a callback that changes runs or files: refused without the launch token.

        In a demonstration the callback is not registered at all.
        """
        self.changing.append(callback.__name__)
        if self._bench.bind.is_demo:
            callback = _refuse_demo
        handler = self._handler(_guarded(self._bench, callback), outputs, _as_notice, inputs)
        # Over the queue a refusal is an answer; without it, it would be a failed request.
        return self._connect(event, handler, inputs, outputs, {"queue": True, **options})

    def stream(
        self,
        event: Callable[..., Any],
        callback: Callable[..., Iterator[Any]],
        inputs: Components = (),
        outputs: Components = (),
        *,
        waiting: Sequence[Any],
        needs_token: bool = False,
        line: Line | None = None,
    ) -> Stream:
        """Connects a generator whose values are shown as they come: one at a time, in a queue.

        Args:
            event: What starts it.
            callback: The generator.
            inputs: What it reads.
            outputs: What it fills; the first one is a part of the page.
            waiting: Values of the outputs, shown at once, until it is this tab's turn.
            needs_token: Whether it is refused without the launch token, as what changes something.
            line: Tells how many questions come before; see ``line``.
        """
        place = int(outputs[0]._id)
        beside = [line.shown, line.timer] if line else []

        def begin(visit: Visit) -> Any:
            if not self._turns.join((visit.session, place), visit.data):
                raise AcftError(UNDERWAY)
            told = [*waiting, *(self._in_line(visit, place) if line else ())]
            return told if len(told) > 1 else told[0]

        begin.__name__ = "begin" if needs_token else "wait"

        def handler(request: gr.Request, event: gr.EventData, *values: Any) -> Iterator[Any]:
            visit = self._visit(request, event)
            turn = self._turns.begin((visit.session, place))
            if turn is None:  # stopped before it was this tab's turn
                return
            parts = callback(replace(visit, data=turn.data), *_given(values, inputs))
            nothing = gr.skip() if len(outputs) == 1 else [gr.skip() for _ in outputs]
            try:
                for answer in with_beats(parts, nothing, visit.withdrawn):
                    yield _sent(answer, outputs)
            except AcftError as error:
                yield _sent(_in_place(error, outputs), outputs)
            finally:
                self._turns.leave((visit.session, place), turn)

        first = self.change if needs_token else self._ask
        # A click right after Stop comes while Gradio still ends the generator, and would be lost.
        often = {"trigger_mode": "multiple"}
        begun = first(event, begin, outputs=[*outputs, *beside], **often)
        one = {"concurrency_id": "inference", "concurrency_limit": 1, "queue": True}
        return Stream(self._connect(begun.success, handler, inputs, outputs, one | often), place)

    def line(self, shown: Any, answer: Any) -> Line:
        """What tells, in a part of its own, how many questions come before the one that waits.

        Args:
            shown: The part.
            answer: First output of the streams that it is for.
        """
        timer, place = gr.Timer(POLL_SECONDS, active=False), int(answer._id)

        def tell(visit: Visit) -> list[Any]:
            return self._in_line(visit, place)

        self.read(timer.tick, tell, outputs=[shown, timer])
        return Line(shown, timer)

    def _in_line(self, visit: Visit, place: int) -> list[Any]:
        """The place in the line, and whether to ask for it again."""
        ahead = self._turns.ahead((visit.session, place))
        return [line_of(ahead), gr.Timer(active=ahead is not None)]

    def cancel(self, event: Callable[..., Any], streams: Sequence[Stream]) -> None:
        """Makes an event end whatever of the streams waits or is under way."""
        places = {stream.place for stream in streams}

        def forget(visit: Visit) -> None:
            for place in places:
                self._turns.leave((visit.session, place))

        self.read(event, forget, trigger_mode="multiple")
        event(None, cancels=[stream.dependency for stream in streams], api_visibility="private")

    def _ask(self, event: Callable[..., Any], callback: Callable[..., Any], **options: Any) -> Any:
        """Connects a callback whose refusal is a notice beside the page."""
        handler = self._handler(callback, options["outputs"], _as_notice)
        return self._connect(event, handler, (), options.pop("outputs"), {"queue": True, **options})

    def _handler(
        self,
        callback: Callable[..., Any],
        outputs: Components,
        on_error: Callable[[AcftError], Any],
        inputs: Components = (),
    ) -> Callable[..., Any]:
        def handler(request: gr.Request, event: gr.EventData, *values: Any) -> Any:
            try:
                answer = callback(self._visit(request, event), *_given(values, inputs))
            except AcftError as error:
                answer = on_error(error)
            return _sent(answer, outputs)

        handler.__name__ = callback.__name__
        return handler

    def _visit(self, request: gr.Request, event: gr.EventData | None) -> Visit:
        data = getattr(event, "_data", None)
        admitted = self._bench.gate.admits(request.headers.get("cookie", ""))
        return Visit(
            query={key: str(value) for key, value in dict(request.query_params).items()},
            data=data if isinstance(data, dict) else {},
            session=str(request.session_hash or ""),
            may_change=admitted
            and not self._bench.bind.is_demo
            and not self._bench.control.obstacle(),
        )

    def _connect(
        self,
        event: Callable[..., Any],
        handler: Callable[..., Any],
        inputs: Components,
        outputs: Components,
        options: dict[str, Any],
    ) -> Any:
        defaults = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        return event(handler, list(inputs), list(outputs), **{**defaults, **options})


def _given(values: Sequence[Any], inputs: Components) -> list[Any]:
    """The values of inputs; a box that a request leaves out has no text."""
    return [
        "" if value is None and isinstance(component, gr.Textbox) else value
        for value, component in zip(values, inputs, strict=True)
    ]


def _sent(answer: Any, outputs: Components) -> Any:
    """What a callback answered, the values of our own components as JSON text."""
    if not outputs:
        return answer
    values = [answer] if len(outputs) == 1 else answer
    found = [_for(component, value) for component, value in zip(outputs, values, strict=True)]
    return found[0] if len(outputs) == 1 else found


def _for(component: Any, value: Any) -> Any:
    is_update = isinstance(value, dict) and "__type__" in value
    return sent(value) if isinstance(component, gr.HTML) and not is_update else value


def refusal(bench: Workbench) -> str:
    """Why a visit may change nothing."""
    return DEMO if bench.bind.is_demo else bench.control.obstacle() or REFUSED


def why_not(bench: Workbench, visit: Visit) -> Node | None:
    """Why a button that starts something cannot be pressed, for beside it; None where it can."""
    why = refusal(bench)
    return None if visit.may_change else el("span.side", f"{why[:1].upper()}{why[1:]}.")


def _guarded(bench: Workbench, callback: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(visit: Visit, *values: Any) -> Any:
        if not visit.may_change:
            raise AcftError(refusal(bench))
        return callback(visit, *values)

    guarded.__name__ = callback.__name__
    return guarded


def _refuse_demo(visit: Visit, *values: Any) -> Any:  # noqa: ARG001
    raise AcftError(DEMO)


def drawn(draw: Callable[[], Node]) -> Node:
    """A part of a page, or why it cannot be drawn; the other parts do not depend on it."""
    try:
        return draw()
    except AcftError as error:
        return notice(error)


def _in_place(error: AcftError, outputs: Components) -> Any:
    """The message where the first part of the page would be; everything else stays as it is."""
    parts = [place for place, output in enumerate(outputs) if isinstance(output, gr.HTML)]
    if not parts:
        raise _shown(error)
    shown: list[Any] = [gr.skip() for _ in outputs]
    shown[parts[0]] = notice(error)
    return shown if len(outputs) > 1 else shown[0]


def _as_notice(error: AcftError) -> Any:
    """The message beside the page, which stays as it is."""
    raise _shown(error)


def _shown(error: AcftError) -> gr.Error:
    # Gradio draws such notices as HTML, hence the escaping.
    return gr.Error(html.escape(str(error)), title="Not done", print_exception=False, duration=12)
