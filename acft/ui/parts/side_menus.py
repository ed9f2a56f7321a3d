"""Which two policies of which runs are compared, under which conditions, and menus of others."""

from collections.abc import Sequence

from acft.ui.page import Visit, Workbench
from acft.ui.parts.frame import empty
from acft.ui.parts.runs_menu import menu, run_menu
from acft.ui.reading.comparing import Comparison
from acft.ui.reading.conditions import conditions, identity, same_conditions
from acft.ui.reading.pairs import Subject, subjects
from acft.ui.reading.reader import Run
from acft.ui.web.dom import Node, choose, el
from acft.ui.web.pager import PART, link

NOTHING = (
    "This run has not answered test prompts yet.",
    "They are answered at the end of a run; the finished ones in the menu have them.",
)


def chooser(
    bench: Workbench, run: Run, other: Run, left: Subject | None = None,
    right: Subject | None = None,
) -> Node:  # fmt: skip
    """The menus of both runs, and of their policies where any has answered."""
    own, others = (subjects(bench.reader.answers(each)) for each in (run, other))
    runs = menu(bench.reader.runs(), other.run_id, "other", "Other run")
    return el(
        "div.choosers",
        el("div", run_menu(bench, run), _subject_menu("left", own, left)),
        el("div", el("p.runmenu", el("span.side", "Against run "), runs),
           _subject_menu("right", others, right)),
    )  # fmt: skip


def _subject_menu(name: str, found: Sequence[Subject], chosen: Subject | None) -> Node | None:
    if not found:
        return None
    side, key = "Left" if name == "left" else "Right", chosen.key if chosen else ""
    pairs = [(s.key, s.label) for s in found]
    return el("p.side", f"{side}: ", choose(pairs, key, side, data_nav=name, data_clear=PART))


def unanswered(bench: Workbench, visit: Visit, run: Run, other: Run) -> Node:
    """That one of the two runs has answered nothing, below the menus to choose others."""
    why = empty(*NOTHING)
    if run.run_id != other.run_id and bench.reader.answers(run):
        why = empty(f"{other.title} has not answered test prompts yet.", _within(visit))
    return el("div", chooser(bench, run, other), why)


def none_shared(found: Comparison, visit: Visit) -> Node:
    """That no prompt was answered by both sides, and a way on."""
    if found.run.run_id == found.other.run_id:
        return empty("These two policies share no test prompts.", "Choose another one.")
    told = "Only responses to the same prompts can be compared."
    return empty("These two runs share no test prompts.", told, _within(visit))


def _within(visit: Visit) -> Node:
    """The way back to a comparison of policies of one run."""
    href = link("compare", visit.query, other="", left="", right="", part="")
    return el("a.do", "Compare within the first run", href=href)


def same_sides(found: Comparison) -> Node | None:
    """That both sides are one policy of one run, so that nothing can differ."""
    if (found.run.run_id, found.left) != (found.other.run_id, found.right):
        return None
    return el("div.notice.warn", f"Both sides are {found.left.label} of the same run, so nothing "
              "differs. Choose another policy or, against it, another run.")  # fmt: skip


def badges(found: Comparison) -> Node:
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
