"""Compare: two policies on the same prompts, who says what about them, and where they differ."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from acft.errors import ConfigError, DataError
from acft.schema import TOXIC_FROM
from acft.ui.page import PAGES, Page, Visit, Wire, Workbench
from acft.ui.parts import blind
from acft.ui.parts.alerts import training_scorers
from acft.ui.parts.field_table import field_table
from acft.ui.parts.frame import empty, title
from acft.ui.parts.live import is_possible, policies_of, trained, unavailable
from acft.ui.parts.live_compare import Attempt, answers, controls, stopped, waiting
from acft.ui.parts.pair_filters import filters, threshold
from acft.ui.parts.runs_menu import chosen_run, follow_state, no_run
from acft.ui.parts.side_by_side import (
    judges,
    not_graded,
    prompt,
    response,
    utility_table,
    verdict_table,
)
from acft.ui.parts.side_menus import (
    badges,
    chooser,
    drawing_menu,
    missing,
    none_shared,
    same_sides,
    unanswered,
)
from acft.ui.reading.answers import Response
from acft.ui.reading.comparing import (
    PURPOSES,
    Choice,
    Comparison,
    as_json_lines,
    as_llm_comparator,
    changed_words,
    searched,
    select,
    viewed,
)
from acft.ui.reading.conditions import conditions
from acft.ui.reading.measuring import judges_of
from acft.ui.reading.pairs import (
    CONSTRAINT,
    Pair,
    Subject,
    n_drawings,
    pair_up,
    subjects,
    verdict,
)
from acft.ui.reading.reader import Run
from acft.ui.web import words
from acft.ui.web.dom import Node, el, settle, table, veil, veiled, view
from acft.ui.web.pager import current_page, pager

PER_PAGE = 20


def opened_run(bench: Workbench, visit: Visit) -> Run | None:
    """The run of the address; without one the newest in which two policies have answered."""
    if not visit.run_id:
        for run in bench.reader.runs():
            if not run.labels.archived and _has_sides(bench, run):
                return run
    return chosen_run(bench, visit)


def _has_sides(bench: Workbench, run: Run) -> bool:
    """Whether two policies have answered; events tell first, since reading answers costs more."""
    if len({(e.subject, e.policy_version) for e in run.history.evaluations}) < 2:
        return False
    try:
        return len(subjects(bench.reader.answers(run))) > 1
    except DataError:  # of a run that nobody asked for
        return False


def compared(bench: Workbench, visit: Visit) -> Comparison | None:
    """The comparison of the address; by default base and result of a run, or results of two."""
    run = opened_run(bench, visit)
    if run is None:
        return None
    other = _other_run(bench, visit, run)
    split = _split(visit)
    answers = bench.reader.answers(run, PURPOSES[split])
    others = answers if other is run else bench.reader.answers(other, PURPOSES[split])
    left = _side(answers, visit.query.get("left", ""), wants_result=other is not run)
    right = _side(others, visit.query.get("right", ""), wants_result=True)
    if left is None or right is None:
        return None
    counts = n_drawings(answers, left), n_drawings(others, right)
    drawing = next((n for n in range(max(counts)) if str(n) == visit.query.get("drawing")), 0)
    pairs = pair_up(answers, left, right, others, drawing)
    names = judges(run, other, pairs)
    asked = visit.query.get("scorer", "")
    limit = threshold(visit.query.get("threshold", ""))
    choice = Choice(
        # A view such as "improved" tells which side is which.
        view="all" if _is_blind(visit) else visit.query.get("view", "all"),
        scorer=asked if asked in names else _default_scorer(run, names),
        threshold=TOXIC_FROM if limit is None else limit,
        find=visit.query.get("find", ""),
        category=visit.query.get("category", ""),
        length=visit.query.get("length", ""),
    )
    return Comparison(run, other, left, right, pairs, choice, names, split, drawing, counts)


def _split(visit: Visit) -> str:
    """Of which prompts responses are compared."""
    asked = visit.query.get("split", "")
    return asked if asked in PURPOSES else "test"


def _other_run(bench: Workbench, visit: Visit, run: Run) -> Run:
    other = bench.reader.run(visit.query.get("other", ""))
    return run if other is None or other.run_id == run.run_id else other


def _side(answers: Sequence[Response], wanted: str, *, wants_result: bool) -> Subject | None:
    found = subjects(answers)
    named = next((s for s in found if s.key == wanted), None)
    if named is not None or not found:
        return named
    if not wants_result:
        return found[0]
    results = [s for s in found if s.is_result]
    return results[-1] if results else found[-1]


def _default_scorer(run: Run, names: Sequence[str]) -> str:
    asked = (CONSTRAINT, *judges_of(run))
    return next((name for name in asked if name in names), next(iter(names), ""))


def summary(bench: Workbench, visit: Visit, found: Comparison | None = None) -> Node:
    """Who is compared under which conditions, and what each scorer concludes."""
    found = found or compared(bench, visit)
    if found is None:
        run = opened_run(bench, visit)
        if run is None:
            return no_run(bench, visit)
        return unanswered(bench, visit, run, _other_run(bench, visit, run), _split(visit))
    menus = chooser(bench, found.run, found.other, found.split, found.left, found.right)
    if not found.pairs:
        return el("section", menus, missing(found, visit), none_shared(found, visit))
    return el(
        "section",
        menus,
        drawing_menu(found),
        missing(found, visit),
        same_sides(bench, found),
        badges(found),
        el("p.side", blind.HIDDEN) if _is_blind(visit) else _conclusions(found),
        **settle(run=found.run.run_id),
    )


def _conclusions(found: Comparison) -> list[Node]:
    limit, (left, right) = found.choice.threshold, found.heads
    verdicts = [v for v in (verdict(found.pairs, n, limit) for n in found.judges) if v]
    parts = [
        verdict_table(verdicts, left, right, training_scorers(found.run.settings)),
        not_graded(found.run, found.other),
        field_table(found),
        el("details", el("summary", "Utility beside toxicity: length, repetition, likelihood"),
           utility_table(found.pairs, left, right)),
    ]  # fmt: skip
    return [part for part in parts if part is not None]


def _is_blind(visit: Visit) -> bool:
    return visit.query.get("blind") == "1"


def listing(bench: Workbench, visit: Visit, found: Comparison | None = None) -> Node:
    """The texts of the chosen view."""
    found = found or compared(bench, visit)
    if found is None or not found.pairs:
        return ""
    left, problem = _searched(found)
    chosen = viewed(left, found.choice)
    page = current_page(visit.query, len(chosen), PER_PAGE)
    part = chosen[page * PER_PAGE : (page + 1) * PER_PAGE]
    is_blind = _is_blind(visit)
    given = blind.votes(bench.store, found)
    body: Node | None = None
    if part:
        body = blind.review(part, visit, given) if is_blind else _open(found, part, visit)
    elif not problem:
        body = empty("No pair is in this view.", "Choose another view or search text.")
    return el(
        "section",
        filters(found, left, visit, problem, is_blind=is_blind),
        blind.tally(found, given, is_blind=is_blind),
        body,
        pager("compare", visit.query, len(chosen), PER_PAGE),
    )


def _searched(found: Comparison) -> tuple[list[Pair], str]:
    """The pairs that search leaves, and what is wrong with the text that is looked for."""
    try:
        return searched(found.pairs, found.choice), ""
    except ConfigError as error:
        return [], str(error)


def _open(found: Comparison, pairs: Sequence[Pair], visit: Visit) -> Node:
    left, right = found.heads
    is_diff = visit.query.get("diff") == "1"
    is_graded = CONSTRAINT in found.judges
    rows = [
        [
            prompt(pair),
            response(pair.left, found.run.run_id, is_graded=is_graded),
            response(pair.right, found.other.run_id, _diff(pair) if is_diff else None,
                     is_graded=is_graded),
            el("span.num", words.signed(pair.change(found.choice.scorer))),
        ]
        for pair in pairs
    ]  # fmt: skip
    columns = ["Prompt", left, right, f"Change, {found.choice.scorer}".rstrip(", ")]
    return el("div.texts", table(columns, rows, caption="Pairs of texts", numeric={3}))


def _diff(pair: Pair) -> Node:
    """The right text with changed words marked, blurred where one of both texts is."""
    tags = {"same": "span", "added": "ins", "removed": "del"}
    pieces = changed_words(pair.left.text, pair.right.text)
    marked = [el(tags[kind], text) for kind, text in pieces]
    is_veiled = any(veil(s.text, s.toxicity)[0] == "veil" for s in (pair.left, pair.right))
    return veiled(marked) if is_veiled else el("span.text", marked)


def export(bench: Workbench, visit: Visit) -> Node:
    """The pairs of the chosen view as a file for the browser to save."""
    found = compared(bench, visit)
    if found is None:
        return ""
    chosen = select(found.pairs, found.choice)
    if visit.data.get("kind") == "llm_comparator":
        text, name = as_llm_comparator(chosen, found.names, found.choice.scorer), "comparison.json"
    else:
        sides = zip(("left", "right"), found.names, (found.run, found.other), strict=True)
        facts = {
            side: {"name": name, **conditions(run), "split": found.split}
            for side, name, run in sides
        }
        text, name = as_json_lines(chosen, facts), "comparison.jsonl"
    note = f"Saved {len(chosen):,} pairs as {name}; it may contain offensive text."
    # A new key each time: the browser saves what it has not drawn yet.
    return el("p.side", note, data_save=f"{name}\n{text}", key=str(time.monotonic_ns()))


def live(bench: Workbench, visit: Visit) -> Node:
    """Conditions of the live comparison."""
    run = opened_run(bench, visit)
    policies = trained(bench, run)
    if policies is None or not policies.history.rounds:
        return unavailable(run)
    return controls(bench, visit, policies)


def _build(bench: Workbench, wire: Wire) -> None:
    view(title("Compare", "The same prompts and random numbers on both sides."))
    top, note = view(acts=("refresh", "look")), view()
    body = view(acts=("refresh", "search", "export", "vote"))
    review = gr.State("")
    view(el("h2.part", "Try a prompt of your own"))
    settings = view(acts=("refresh",))
    with gr.Row(elem_classes="prompt-row", visible=is_possible(bench)):
        prompt = gr.Textbox(label="Prompt", lines=2, scale=5)
        go = gr.Button("Answer", variant="primary", scale=1, min_width=90)
        halt = gr.Button("Stop", scale=1, min_width=80)
    queue, answer, attempt = view(), view(), gr.State(None)

    def show(visit: Visit) -> list[Any]:
        found = compared(bench, visit)
        # What was judged of other sides is another comparison.
        return [summary(bench, visit, found), listing(bench, visit, found), live(bench, visit), ""]

    def search(visit: Visit) -> Node:
        return listing(bench, visit)

    def again(visit: Visit) -> list[Any]:
        return [listing(bench, visit), live(bench, visit)]

    def save(visit: Visit) -> Node:
        return export(bench, visit)

    def judge(visit: Visit, comparison_id: str) -> tuple[str, Node]:
        found = compared(bench, visit)
        kept = blind.vote(bench.store, found, visit, comparison_id)
        return kept, listing(bench, visit, found)

    def reply(visit: Visit, text: str) -> Iterator[tuple[Node, Attempt]]:
        policies = policies_of(bench, opened_run(bench, visit))
        yield from answers(bench, visit, policies, text)

    def halted(visit: Visit, last: Attempt | None) -> Node:  # noqa: ARG001
        return stopped(last)

    parts = [top, body, settings, review]
    wire.on_load(show, outputs=parts)
    follow_state(bench, wire, top, opened_run, lambda visit: summary(bench, visit))
    for event in (top.refresh, body.refresh):
        wire.read(event, show, outputs=parts, trigger_mode="always_last")
    wire.read(body.search, search, outputs=[body], trigger_mode="always_last")
    # Links of the list keep the conditions; what scorers conclude above it does not depend on them.
    wire.read(settings.refresh, again, outputs=[body, settings], trigger_mode="always_last")
    wire.read(body.export, save, outputs=[note])
    # A second vote counts though the first is still being written, and joins the same comparison.
    wire.change(body.vote, judge, inputs=[review], outputs=[review, body],
                trigger_mode="multiple", concurrency_limit=1)  # fmt: skip
    running = wire.stream(go.click, reply, inputs=[prompt], outputs=[answer, attempt],
                          waiting=[waiting(), None], line=wire.line(queue, answer))  # fmt: skip
    wire.cancel(halt.click, [running])
    wire.read(halt.click, halted, inputs=[attempt], outputs=[answer])


PAGES.add("compare")(Page("Compare", "compare", 50, _build))
