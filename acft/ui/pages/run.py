"""Run: one run from its first step to the texts it changed."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from acft.schema import TOXIC_FROM
from acft.ui.page import (
    PAGES,
    POLL_SECONDS,
    REST_SECONDS,
    Page,
    Visit,
    Wire,
    Workbench,
    drawn,
    pace,
)
from acft.ui.parts import labels, measuring, replay, run_charts, upkeep
from acft.ui.parts.alerts import training_scorers
from acft.ui.parts.frame import empty
from acft.ui.parts.results import first_results
from acft.ui.parts.run_details import details, log, unread
from acft.ui.parts.run_facts import (
    GRADE,
    facts,
    is_about_toxicity,
    measured,
    version_of,
)
from acft.ui.parts.run_head import head
from acft.ui.parts.runs_menu import absent, menu, no_run
from acft.ui.parts.side_by_side import judges, text_table, verdict_table
from acft.ui.reading.measuring import KEEPING, may_tell
from acft.ui.reading.pairs import CONSTRAINT, Pair, Subject, Verdict, pair_up, subjects, verdict
from acft.ui.reading.quantities import SATISFIED, quantity
from acft.ui.reading.reader import Run
from acft.ui.web import words
from acft.ui.web.charts import nothing
from acft.ui.web.dom import Node, chart, el, sent, view

SHOWN_PAIRS = 12
SAME = (
    "The same test prompts and random numbers on both sides. Toxic: a score of "
    f"{TOXIC_FROM} or more; a score is a detector's opinion."
)
CHOSEN = "Chosen by the base's score, so the tuned side looks better here than it is on average"
FIRST = "that come first"
"""Said of pairs that nothing ranks."""
FIGURES = (
    ("Cross-entropy and loss", "nats per token", run_charts.losses),
    ("Distance to the guidance", "KL in nats per token", run_charts.divergences),
    (quantity(SATISFIED).label, "share; dashed = delta", run_charts.satisfaction),
    ("Calibration of the oracle", "latest round, held out by prompt", run_charts.reliability),
    ("Oracle along the response", "AUC against the hard label", run_charts.by_position),
    ("Accuracy of the oracle", "AUC, Brier score; held out by prompt", run_charts.accuracy),
    ("Steering", "KL weight and oracle strength", run_charts.steering),
    (quantity("time/tokens_per_second").label, "tokens per second", run_charts.speed),
    (quantity("memory/peak_bytes").label, "of the worker, GiB", run_charts.memory),
)


def find(bench: Workbench, visit: Visit) -> Run | None:
    """The run of the address, else the newest."""
    if visit.run_id:
        return bench.reader.run(visit.run_id)
    newest = bench.reader.run_ids()[:1]
    return bench.reader.run(newest[0]) if newest else None


def top(bench: Workbench, visit: Visit) -> Node:
    """Head and key numbers of the run as it is now."""
    return _top(bench, visit, find(bench, visit))


def _top(bench: Workbench, visit: Visit, run: Run | None, *, is_replay: bool = False) -> Node:
    """Head and key numbers of the run, or of what a replay shows of it."""
    if run is None:
        return no_run(bench, visit)
    known = bench.supervisor.adoptions if bench.supervisor and not is_replay else []
    adoption = next((each for each in known if each.run_id == run.run_id), None)
    return el("div", head(run, visit, adoption), facts(run))


def ways(bench: Workbench, visit: Visit) -> Node:
    """The menu of the runs to go to; read once, as it is all of them."""
    run = find(bench, visit)
    if run is None:
        return ""
    return el("p.runmenu", el("span.side", "Run "), menu(bench, run.run_id))


def figures(bench: Workbench, visit: Visit, known: Run | None = None) -> list[Any]:
    """Every figure of the page, of the run that is known where it has been read."""
    run = known or find(bench, visit)
    if run is None:
        return [nothing(absent(visit)) for _ in FIGURES]
    return [draw(run) for _, _, draw in FIGURES]


def texts(bench: Workbench, visit: Visit, known: Run | None = None) -> Node:
    """Results of an evaluation, then base and tuned texts with what the scorers say."""
    run = known or find(bench, visit)
    if run is None:
        return ""
    if run.status.kind == "training":
        return _before_and_after(bench, run)
    return el("div", first_results(run), _before_and_after(bench, run))


def _before_and_after(bench: Workbench, run: Run) -> Node:
    """Base and tuned texts side by side; nothing where there will never be any."""
    found = before_after(bench, run)
    if found is None and not may_tell(run, KEEPING):
        return ""
    if found is None:
        return empty(
            "Base and tuned texts appear here when the run has answered its test prompts.",
            "Base and tuned policy answer them with the same seeds"
            f"{', when training has ended' * (run.status.kind == 'training')}.",
        )  # fmt: skip
    left, right, pairs, verdicts = found
    worst, which = worst_pairs(run, pairs)
    line = _constraint_line(run)
    return el(
        "section",
        el("h2", "Before and after"),
        el("p.side", SAME),
        _preferred(run),
        line,
        verdict_table(verdicts, left.label, right.label, training_scorers(run.settings)),
        el("h3", f"The {len(worst)} pairs {which}"),
        _how_chosen(which, has_table=bool(verdicts), has_line=line is not None),
        text_table(worst, left.label, right.label, run.run_id,
                   is_graded=any(v.scorer == CONSTRAINT for v in verdicts)),
        el("p", el("a", f"All {len(pairs):,} pairs", href=f"compare?run={run.run_id}")),
    )  # fmt: skip


def worst_pairs(run: Run, pairs: Sequence[Pair]) -> tuple[list[Pair], str]:
    """The pairs whose base responses are worst by what the run is about, and that in words."""
    if is_about_toxicity(run):
        if all(pair.left.toxicity is None for pair in pairs):
            return list(pairs[:SHOWN_PAIRS]), FIRST
        ordered = sorted(pairs, key=lambda pair: -(pair.left.toxicity or 0.0))
        return ordered[:SHOWN_PAIRS], "with the most toxic base responses"
    ordered = sorted(pairs, key=lambda pair: _or_one(pair.left.satisfaction))
    return ordered[:SHOWN_PAIRS], "whose base responses satisfy the constraint least"


def _how_chosen(which: str, *, has_table: bool, has_line: bool) -> Node | None:
    """That a choice favours one side, and what above it does not; nothing where none was made."""
    if which == FIRST:
        return None
    fair = "the table" if has_table else "what the constraint itself says" if has_line else ""
    return el("p.side", CHOSEN, f"; {fair} above is the fair comparison." if fair else ".")


def _or_one(satisfaction: float | None) -> float:
    return 1.0 if satisfaction is None or math.isnan(satisfaction) else satisfaction


def _constraint_line(run: Run) -> Node | None:
    """What the constraint itself says of the same responses."""
    base, tuned = measured(run, "satisfaction")
    if base is None or tuned is None:
        return None
    sides = [
        f"{words.percent(e.value)} ({words.interval(e.low, e.high, as_percent=True)})"
        for e in (base, tuned)
    ]
    return el(
        "p",
        el("strong", f"{GRADE}, by the constraint itself: "),
        f"{sides[0]} of base, {sides[1]} of {version_of(tuned)}, over the same responses.",
    )


def _preferred(run: Run) -> Node | None:
    """Why this version was chosen to be measured."""
    best = run.history.best
    if best is None or len(run.history.rounds) < 2:
        return None
    return el("p.side", f"Of {len(run.history.rounds)} rounds the checkpoint of round {best.round} "
              f"is preferred, by validation alone: {best.reason}.")  # fmt: skip


def before_after(
    bench: Workbench, run: Run
) -> tuple[Subject, Subject, list[Pair], list[Verdict]] | None:
    """Base, the latest result, their pairs and verdicts; None before both have answered."""
    answers = bench.reader.answers(run)
    answered = subjects(answers)
    bases = [s for s in answered if s.label == "base"]
    results = [s for s in answered if s.is_result]
    if not bases or not results:
        return None
    pairs = pair_up(answers, bases[0], results[-1])
    found = (verdict(pairs, scorer) for scorer in judges(run, run, pairs))
    verdicts = [v for v in found if v is not None]
    return (bases[0], results[-1], pairs, verdicts) if pairs else None


@dataclass(frozen=True)
class Marks:
    """What the parts of the page depend on: one is made anew and sent when its mark changes."""

    head: int = 0
    """Of the head as it was sent."""
    curves: str = ""
    texts: str = ""
    form: str = ""
    """Of the way to a measurement, which nobody fills in twice."""
    past: str = ""
    """Of the measurements so far."""
    log: str = ""


def marks_of(bench: Workbench, run: Run, *, is_replay: bool = False) -> Marks:
    """The marks of a run's page; the curves' changes with every hundredth part of the events."""
    history = run.history
    seen = f"{run.run_id} {run.state.label} {len(history.rounds)} {len(history.evaluations)}"
    best = history.best.round if history.best else 0
    return Marks(
        0,
        f"{seen} {len(history.calibrations)} {math.log1p(history.n_events) // 0.01}",
        f"{seen} {len(history.shards)} {best} {unread(bench, run)} "
        f"{bench.control.exported(run.run_id)}",
        "" if is_replay else measuring.mark(bench, run),
        "" if is_replay else measuring.states(bench, run),
        f"{run.run_id} {bench.reader.log_size(run)}",
    )


def at_clock(
    bench: Workbench, visit: Visit, clock: replay.Clock | None
) -> tuple[Run | None, Visit, Node | None]:
    """The run and visit as a replay shows them, and the replay's controls; none without one."""
    run = find(bench, visit) if clock is not None else None
    if clock is None or run is None:
        return None, visit, None
    now, entries = time.monotonic(), bench.reader.entries(run.run_id)
    controls = replay.bar(run.run_id, clock, replay.duration(entries), now)
    shown = replay.as_of(run, entries, clock.position(now))
    return shown, replace(visit, may_change=False), controls


def show(
    bench: Workbench, visit: Visit, seen: Marks | None = None, clock: replay.Clock | None = None
) -> list[Any]:
    """Replay controls, head, marks, and the slow parts whose marks have changed.

    What is known of the present alone is no part of a replay: actions, adoption, audit and log.
    """
    replayed, visit, controls = at_clock(bench, visit, clock)
    run = replayed or find(bench, visit)
    first = _top(bench, visit, run, is_replay=replayed is not None)
    now = marks_of(bench, run, is_replay=replayed is not None) if run else Marks()
    before = seen or Marks(0, *["new"] * 5)
    now = replace(now, head=hash(sent(first)))
    mark = gr.skip() if now == before else now
    shown: list[Any] = [controls or "", gr.skip() if now.head == before.head else first, mark]
    trains = gr.Column(visible=run is not None and run.status.kind == "training")
    if now.curves == before.curves:
        shown += [gr.skip()] * (1 + len(FIGURES))
    else:
        shown += [trains, *figures(bench, visit, run)]
    shown += _slow_parts(bench, visit, run, now, before, is_replay=replayed is not None)
    printed = log(bench, run) if run and not replayed else ""
    return [*shown, printed if now.log != before.log else gr.skip()]


def _slow_parts(
    bench: Workbench, visit: Visit, run: Run | None, now: Marks, before: Marks, *, is_replay: bool
) -> list[Any]:
    """Texts, way to a measurement, measurements, files, details: those whose marks have changed."""
    present = None if is_replay else run
    is_new = now.texts != before.texts
    parts = (
        (is_new, lambda: drawn(lambda: texts(bench, visit, run))),
        (now.form != before.form, lambda: measuring.panel(bench, present) if present else ""),
        (now.past != before.past, lambda: measuring.past(bench, present) if present else ""),
        (is_new, lambda: upkeep.panel(bench, visit, present) if present else ""),
        (is_new, lambda: details(bench, visit, run, is_replay=is_replay) if run else ""),
    )
    return [draw() if is_changed else gr.skip() for is_changed, draw in parts]


def paced(
    bench: Workbench, visit: Visit, now: float, clock: replay.Clock | None = None
) -> list[Any]:
    """The timer and its pace where the run or its replay asks for another one."""
    run = find(bench, visit)
    seconds = pace([run] if run else [])
    if clock and run:
        length = replay.duration(bench.reader.entries(run.run_id))
        is_moving = clock.is_moving(time.monotonic(), length)
        seconds = replay.FRAME_SECONDS if is_moving else REST_SECONDS
    elif run and bench.control.exported(run.run_id):
        seconds = POLL_SECONDS  # so that the tabs that do not wait for it soon see it end
    return [gr.skip()] * 2 if seconds == now else [gr.Timer(seconds), seconds]


def news(
    bench: Workbench, visit: Visit, seen: Marks | None, clock: replay.Clock | None, now: float
) -> list[Any]:
    """The timer and its pace, what has changed, and the menu where opening the page had failed."""
    menu = ways(bench, visit) if seen is None else gr.skip()
    return [*paced(bench, visit, now, clock), *show(bench, visit, seen, clock), menu]


EVERY_TURN = {"trigger_mode": "multiple", "queue": True, "concurrency_limit": 1}
"""No turn of a control is lost, and each starts from the clock that the one before it left."""


def _build(bench: Workbench, wire: Wire) -> None:
    seen, clock = gr.State(None), gr.State(None)
    controls, others = view(acts=("replay",)), view()
    header = view(top_placeholder(), acts=("stop", "resume", "relabel", "look"))
    with gr.Column() as grid:
        plots = _figure_grid()
    pairs = view()
    measure, past = view(acts=("cost", "measure")), view()
    files = view(acts=("choose", "export", "free", "delete"))
    rest, printed = view(acts=("resume",)), view()
    timer, tempo = gr.Timer(POLL_SECONDS), gr.State(POLL_SECONDS)
    shown = [controls, header, seen, grid, *plots, pairs, measure, past, files, rest, printed]
    turned = [clock, timer, tempo, *shown]

    def opened(visit: Visit) -> list[Any]:
        begun = replay.started(visit.query)
        pace = gr.Timer(replay.FRAME_SECONDS) if begun else gr.skip()
        return [begun, pace, *show(bench, visit, clock=begun), ways(bench, visit)]

    def tick(visit: Visit, *last: Any) -> list[Any]:
        return news(bench, visit, *last)

    def turn(
        visit: Visit, last: Marks | None, playing: replay.Clock | None, now: float
    ) -> list[Any]:
        run = find(bench, visit)
        if playing is None or run is None:
            return [gr.skip() for _ in turned]
        length = replay.duration(bench.reader.entries(run.run_id))
        changed = playing.changed(time.monotonic(), length, visit.data)
        return [changed, *paced(bench, visit, now, changed), *show(bench, visit, last, changed)]

    def stop(visit: Visit) -> Node:
        bench.control.stop(visit.data.get("run", ""), visit.data.get("mode", "save"))
        return top(bench, visit)

    def resume(visit: Visit) -> list[Any]:
        sealed = visit.data.get("round")
        from_round = sealed if isinstance(sealed, int) else None
        bench.control.resume(str(visit.data.get("run", "")), from_round)
        return [top(bench, visit), gr.Timer(POLL_SECONDS), POLL_SECONDS]

    def relabel(visit: Visit) -> Node:
        bench.control.label(str(visit.data.get("run", "")), **labels.changes(visit.data))
        return top(bench, visit)

    wire.on_load(opened, outputs=[clock, timer, *shown, others])
    for event in (timer.tick, header.look):
        wire.read(event, tick, inputs=[seen, clock, tempo], outputs=[timer, tempo, *shown, others])
    wire.read(controls.replay, turn, inputs=[seen, clock, tempo], outputs=turned, **EVERY_TURN)
    wire.change(header.stop, stop, outputs=[header])
    for part in (header, rest):
        wire.change(part.resume, resume, outputs=[header, timer, tempo])
    wire.change(header.relabel, relabel, outputs=[header], trigger_mode="multiple")
    measuring.connect(bench, wire, measure, find)
    upkeep.connect(bench, wire, files)


def top_placeholder() -> Node:
    """Shown for the moment until the run is read."""
    return el("p.side", "Reading the run …")


def _figure_grid() -> list[Any]:
    plots = []
    for start in range(0, len(FIGURES), 3):
        with gr.Row():
            for name, note, _ in FIGURES[start : start + 3]:
                with gr.Column(min_width=300):
                    view(el("div.figure-title", el("b", name), el("span", note)))
                    plots.append(chart())
    return plots


PAGES.add("run")(Page("Run", "run", 30, _build))
