"""Compare: two policies on the same prompts, who says what about them, and where they differ."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from acft.errors import ConfigError, DataError, RunError
from acft.schema import TOXIC_FROM
from acft.ui.page import PAGES, Page, Visit, Wire, Workbench
from acft.ui.parts import blind
from acft.ui.parts.alerts import training_scorers
from acft.ui.parts.frame import empty, title
from acft.ui.parts.live import is_possible
from acft.ui.parts.live_compare import Attempt, answers, controls, stopped, waiting
from acft.ui.parts.runs_menu import chosen_run, menu, no_run, run_menu
from acft.ui.parts.side_by_side import prompt, response, utility_table, verdict_table
from acft.ui.reading.comparing import (
    Choice,
    Comparison,
    as_json_lines,
    as_llm_comparator,
    changed_words,
    counts,
    select,
)
from acft.ui.reading.conditions import conditions, identity, same_conditions
from acft.ui.reading.measuring import judges_of
from acft.ui.reading.pairs import Pair, Subject, pair_up, scorer_names, subjects, verdict
from acft.ui.reading.reader import Answer, Run
from acft.ui.web import words
from acft.ui.web.dom import Node, act, choose, el, table, veil, view
from acft.ui.web.pager import PART, current_page, link, pager

PER_PAGE = 20
NOTHING = (
    "This run has not answered test prompts with two policies yet.",
    "They are answered at the end of a run; the finished ones in the menu have them.",
)


def opened_run(bench: Workbench, visit: Visit) -> Run | None:
    """The run of the address; without one the newest in which two policies have answered."""
    if not visit.run_id:
        for run in bench.reader.runs():
            if _has_sides(bench, run):
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
    """The comparison of the address; base against the newest tuned policy by default."""
    run = opened_run(bench, visit)
    other = bench.reader.run(visit.query.get("other", "")) or run
    if run is None or other is None:
        return None
    answers = bench.reader.answers(run)
    others = answers if other.run_id == run.run_id else bench.reader.answers(other)
    left = _side(answers, visit.query.get("left", ""), first=True)
    right = _side(others, visit.query.get("right", ""), first=False)
    if left is None or right is None:
        return None
    pairs = pair_up(answers, left, right, others)
    names = scorer_names(pairs)
    asked = visit.query.get("scorer", "")
    limit = _threshold(visit.query.get("threshold", ""))
    choice = Choice(
        view=visit.query.get("view", "all"),
        scorer=asked if asked in names else _default_scorer(run, names),
        threshold=TOXIC_FROM if limit is None else limit,
        find=visit.query.get("find", ""),
        category=visit.query.get("category", ""),
    )
    return Comparison(run, other, left, right, pairs, choice)


def _side(answers: Sequence[Answer], wanted: str, *, first: bool) -> Subject | None:
    found = subjects(answers)
    named = next((s for s in found if s.key == wanted), None)
    if named is not None or not found:
        return named
    if first:
        return found[0]
    results = [s for s in found if s.is_result]
    return results[-1] if results else found[-1]


def _default_scorer(run: Run, names: Sequence[str]) -> str:
    return next((name for name in judges_of(run) if name in names), names[0] if names else "")


def _threshold(text: str) -> float | None:
    """The number of the address; None where it is none, or not one between 0 and 1."""
    try:
        value = float(text or TOXIC_FROM)
    except ValueError:
        return None
    return value if 0.0 <= value <= 1.0 else None


def summary(bench: Workbench, visit: Visit, found: Comparison | None = None) -> Node:
    """Who is compared under which conditions, and what each scorer concludes."""
    found = found or compared(bench, visit)
    if found is None or not found.pairs:
        run = opened_run(bench, visit)
        return el("div", run_menu(bench, run), empty(*NOTHING)) if run else no_run(bench, visit)
    names = scorer_names(found.pairs)
    verdicts = [v for v in (verdict(found.pairs, n, found.choice.threshold) for n in names) if v]
    trained = training_scorers(found.run.settings)
    left, right = found.names
    return el(
        "section",
        _chooser(bench, found),
        missing(found, visit),
        _same_sides(found),
        _badges(found),
        verdict_table(verdicts, left, right, trained),
        el("details", el("summary", "Utility beside toxicity: length, repetition, likelihood"),
           utility_table(found.pairs, left, right)),
    )  # fmt: skip


def missing(found: Comparison, visit: Visit) -> Node | None:
    """What the address names and these runs do not have, with what is shown instead."""
    left, right = found.names
    shown = {"other": (found.other.run_id, found.other.run_id), "left": (found.left.key, left),
             "right": (found.right.key, right), "view": (found.choice.view, "all"),
             "scorer": (found.choice.scorer, found.choice.scorer)}  # fmt: skip
    views = counts(found.pairs, found.choice)
    lines = [
        f"{name} {asked!r} is not there; {instead} is shown instead."
        for name, (key, instead) in shown.items()
        if (asked := visit.query.get(name, "")) and (
            asked not in views if name == "view" else asked != key)
    ]  # fmt: skip
    return el("div.notice.warn", [el("p", line) for line in lines]) if lines else None


def _same_sides(found: Comparison) -> Node | None:
    """That both sides are one policy of one run, so that nothing can differ."""
    if (found.run.run_id, found.left) != (found.other.run_id, found.right):
        return None
    return el("div.notice.warn", f"Both sides are {found.left.label} of the same run, so nothing "
              "differs. Choose another policy or, against it, another run.")  # fmt: skip


def _chooser(bench: Workbench, found: Comparison) -> Node:
    own = subjects(bench.reader.answers(found.run))
    others = subjects(bench.reader.answers(found.other))
    runs = menu(bench.reader.runs(), found.other.run_id, "other", "Other run")
    return el(
        "div.choosers",
        el("div", run_menu(bench, found.run), _subject_menu("left", own, found.left)),
        el("div", el("p.runmenu", el("span.side", "Against run "), runs),
           _subject_menu("right", others, found.right)),
    )  # fmt: skip


def _subject_menu(name: str, found: Sequence[Subject], chosen: Subject) -> Node:
    side = "Left" if name == "left" else "Right"
    menu = choose([(s.key, s.label) for s in found], chosen.key, side, data_nav=name,
                  data_clear=PART)  # fmt: skip
    return el("p.side", f"{side}: ", menu)


def _badges(found: Comparison) -> Node:
    """Proof of who answered, and the conditions of both sides with differences marked."""
    facts = conditions(found.run, found.other), conditions(found.other, found.run)
    rows = [
        el("span.chip" if left == right else "span.chip.bad",
           f"{name}: {left}" if left == right else f"{name}: {left} ≠ {right}")
        for (name, left), (_, right) in zip(facts[0].items(), facts[1].items(), strict=True)
    ]  # fmt: skip
    n_prompts = len({pair.left.prompt_id for pair in found.pairs})
    first = el("span.chip", f"{n_prompts:,} prompts × {len(found.pairs) / max(1, n_prompts):.0f}")
    note = None
    if not same_conditions(found.run, found.other):
        note = el("div.notice.bad", "The two sides answered under different conditions (marked); "
                  "differences between them may come from that.")  # fmt: skip
    return el(
        "div.badges",
        el("div", identity(found.run, found.left), identity(found.other, found.right)),
        el("div", first, rows),
        note,
    )


def listing(bench: Workbench, visit: Visit, found: Comparison | None = None) -> Node:
    """The texts of the chosen view."""
    found = found or compared(bench, visit)
    if found is None or not found.pairs:
        return ""
    chosen, problem = _found(found)
    page = current_page(visit.query, len(chosen), PER_PAGE)
    part = chosen[page * PER_PAGE : (page + 1) * PER_PAGE]
    is_blind = visit.query.get("blind") == "1"
    given = blind.votes(bench.store, found)
    body: Node | None = None
    if part:
        body = blind.review(part, visit, given) if is_blind else _open(found, part, visit)
    elif not problem:
        body = empty("No pair is in this view.", "Choose another view or search text.")
    return el(
        "section",
        _filters(found, visit, problem, is_blind=is_blind),
        blind.tally(found, given, is_blind=is_blind),
        body,
        pager("compare", visit.query, len(chosen), PER_PAGE),
    )


def _found(found: Comparison) -> tuple[list[Pair], str]:
    """The pairs of the chosen view, and what is wrong with the text that is looked for."""
    try:
        return select(found.pairs, found.choice), ""
    except ConfigError as error:
        return [], str(error)


def _filters(found: Comparison, visit: Visit, problem: str, *, is_blind: bool) -> Node:
    asked = visit.query.get("threshold", "")
    is_limit = _threshold(asked) is not None
    wrong = "" if is_limit else (
        f"threshold {asked!r} is not a number between 0 and 1; {TOXIC_FROM:g} is used")  # fmt: skip
    numbers = counts(found.pairs, found.choice)
    tabs = [
        el("a.tab", name, el("span.count", f"{n:,}"),
           href=link("compare", visit.query, view="" if name == "all" else name, part=""),
           aria_current="true" if name == found.choice.view else None)
        for name, n in numbers.items()
    ]  # fmt: skip
    scorers = [(name, name) for name in scorer_names(found.pairs)]
    categories = sorted({pair.left.category for pair in found.pairs} - {""})
    kinds = [("", "all prompts"), *((name, name) for name in categories)]
    review = link("compare", visit.query, blind="" if is_blind else "1", part="")
    is_diff = visit.query.get("diff") == "1"
    diff = link("compare", visit.query, diff="" if is_diff else "1")
    return el(
        "div",
        el("nav.tabs", tabs, aria_label="Views"),
        el(
            "div.toolbar",
            el("input", type="search", placeholder="Text or /pattern/", data_query="find",
               value=found.choice.find, data_clear=PART, aria_label="Find in texts",
               aria_invalid="true" if problem else None, maxlength="200", **act("search")),
            el("label.side", "by ", choose(scorers, found.choice.scorer, "Scorer",
               data_nav="scorer", data_clear=PART)) if scorers else None,
            el("label.side", "toxic from ", el("input", type="number", min="0", max="1",
               step="0.05", value=f"{found.choice.threshold:g}" if is_limit else asked,
               data_query="threshold", data_clear=PART, aria_label="Threshold",
               aria_invalid=None if is_limit else "true", **act("refresh"))),
            choose(kinds, found.choice.category, "Prompt category", data_nav="category",
                   data_clear=PART)
            if categories else None,
            el("a.do", "Hide differences" if is_diff else "Mark changed words", href=diff),
            el("a.do", "End blind review, show who won" if is_blind else "Blind review",
               href=review),
            el("div.actions",
               el("button.do", "Export JSONL", type="button", **act("export", kind="jsonl")),
               el("button.do", "Export for LLM Comparator", type="button",
                  **act("export", kind="llm_comparator"))),
        ),
        [el("p.bad", text, role="alert") for text in (problem, wrong) if text],
    )  # fmt: skip


def _open(found: Comparison, pairs: Sequence[Pair], visit: Visit) -> Node:
    left, right = found.names
    is_diff = visit.query.get("diff") == "1"
    rows = [
        [
            prompt(pair),
            response(pair.left, found.run.run_id),
            response(pair.right, found.other.run_id, _diff(pair) if is_diff else None),
            el("span.num", words.signed(pair.change(found.choice.scorer))),
        ]
        for pair in pairs
    ]
    columns = ["Prompt", left, right, f"Change, {found.choice.scorer}".rstrip(", ")]
    return el("div.texts", table(columns, rows, caption="Pairs of texts", numeric={3}))


def _diff(pair: Pair) -> Node:
    """The right text with changed words marked; left out where it must be blurred."""
    if any((side.toxicity or 0) >= TOXIC_FROM for side in (pair.left, pair.right)):
        return veil(pair.right.text, pair.right.toxicity)
    tags = {"same": "span", "added": "ins", "removed": "del"}
    return el("span.text", [el(tags[k], t) for k, t in changed_words(pair.left.text,
                                                                     pair.right.text)])  # fmt: skip


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
        facts = {side: {"name": name, **conditions(run)} for side, name, run in sides}
        text, name = as_json_lines(chosen, facts), "comparison.jsonl"
    note = f"Saved {len(chosen):,} pairs as {name}; it may contain offensive text."
    # A new key each time: the browser saves what it has not drawn yet.
    return el("p.side", note, data_save=f"{name}\n{text}", key=str(time.monotonic_ns()))


def live(bench: Workbench, visit: Visit) -> Node:
    """Conditions of the live comparison."""
    run = opened_run(bench, visit)
    return controls(bench, visit, run) if run and run.history.rounds else el(
        "p.side", "Live answers need a run with a sealed round.")  # fmt: skip


def _build(bench: Workbench, wire: Wire) -> None:
    view(title("Compare", "The same prompts and random numbers on both sides."))
    top = view()
    body = view(acts=("refresh", "search", "export", "vote"))
    note = view()
    review = gr.State("")
    view(el("h2.part", "Try a prompt of your own"))
    settings = view(acts=("refresh",))
    with gr.Row(elem_classes="prompt-row", visible=is_possible(bench)):
        prompt = gr.Textbox(label="Prompt", lines=2, max_length=4000, scale=5)
        go = gr.Button("Answer", variant="primary", scale=1, min_width=90)
        halt = gr.Button("Stop", scale=1, min_width=80)
    answer, attempt = view(), gr.State(None)

    def show(visit: Visit) -> list[Any]:
        found = compared(bench, visit)
        return [summary(bench, visit, found), listing(bench, visit, found), live(bench, visit)]

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
        run = opened_run(bench, visit)
        if run is None:
            raise RunError("there is no run yet whose policies could answer")
        yield from answers(bench, visit, run, text)

    def halted(visit: Visit, last: Attempt | None) -> Node:  # noqa: ARG001
        return stopped(last)

    parts = [top, body, settings]
    wire.on_load(show, outputs=parts)
    wire.read(body.refresh, show, outputs=parts, trigger_mode="always_last")
    # What is looked for changes no conclusion, and drawing them again for each letter costs most.
    wire.read(body.search, search, outputs=[body], trigger_mode="always_last")
    # Links of the list keep the conditions; what scorers conclude above it does not depend on them.
    wire.read(settings.refresh, again, outputs=[body, settings], trigger_mode="always_last")
    wire.read(body.export, save, outputs=[note])
    # A second vote counts though the first is still being written, and joins the same comparison.
    wire.change(body.vote, judge, inputs=[review], outputs=[review, body],
                trigger_mode="multiple", concurrency_limit=1)  # fmt: skip
    running = wire.stream(go.click, reply, inputs=[prompt], outputs=[answer, attempt],
                          waiting=[waiting(), None])  # fmt: skip
    wire.cancel(halt.click, [running])
    wire.read(halt.click, halted, inputs=[attempt], outputs=[answer])


PAGES.add("compare")(Page("Compare", "compare", 50, _build))
