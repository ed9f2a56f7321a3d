"""Which two policies of which runs are compared, under which conditions, and menus of others."""

import itertools
from collections.abc import Sequence

from acft.ui.page import Visit, Workbench
from acft.ui.parts.frame import empty
from acft.ui.parts.runs_menu import menu, run_menu
from acft.ui.reading.comparing import PURPOSES, Comparison, lengths_of, tests
from acft.ui.reading.conditions import conditions, identity, in_turn, same_conditions
from acft.ui.reading.lengths import NAMES
from acft.ui.reading.names import run_names
from acft.ui.reading.pairs import Subject, subjects
from acft.ui.reading.reader import Run
from acft.ui.web import words
from acft.ui.web.dom import Node, act, choose, el
from acft.ui.web.pager import PART, link

NOTHING = {
    "test": (
        "This run has not answered test prompts yet.",
        "They are answered at the end of a run; the finished ones in the menu have them.",
    ),
    "validation": (
        "This run has not answered validation prompts yet.",
        "A training run answers them before the first round and after each.",
    ),
}
SPLITS = [("test", "test"), ("validation", "validation, every checkpoint")]
"""The choices of prompts, in words."""
MOST_LINKS = 5
"""Runs that are named where a comparison compares nothing."""


def chooser(
    bench: Workbench, run: Run, other: Run, split: str, left: Subject | None = None,
    right: Subject | None = None,
) -> Node:  # fmt: skip
    """The menus of prompts, of both runs, and of their policies where any has answered."""
    own, others = (subjects(bench.reader.answers(each, PURPOSES[split])) for each in (run, other))
    runs = menu(bench, other.run_id, "other", "Other run")
    splits = menu_here("split", SPLITS, split, "Prompts")
    return el(
        "div.choosers",
        el("div", run_menu(bench, run), _subject_menu("left", own, left),
           el("p.side", "Prompts: ", splits, key="split")),
        el("div", el("p.runmenu", el("span.side", "Against run "), runs),
           _subject_menu("right", others, right)),
    )  # fmt: skip


def _subject_menu(name: str, found: Sequence[Subject], chosen: Subject | None) -> Node | None:
    if not found:
        return None
    side, key = "Left" if name == "left" else "Right", chosen.key if chosen else ""
    pairs = [(s.key, s.label) for s in found]
    return el("p.side", f"{side}: ", menu_here(name, pairs, key, side), key=name)


def menu_here(name: str, pairs: Sequence[tuple[str, str]], chosen: str, label: str) -> Node:
    """A menu whose pick becomes a parameter of the address without loading the page anew."""
    # A browser keeps what was picked, so a menu of other choices has to be another menu.
    key = "|".join(value for value, _ in pairs)
    return choose(pairs, chosen, label, data_query=name, data_clear=PART, key=key,
                  **act("refresh"))  # fmt: skip


def unanswered(bench: Workbench, visit: Visit, run: Run, other: Run, split: str) -> Node:
    """That one of the two runs has answered nothing, below the menus to choose others."""
    why = empty(*NOTHING[split])
    if run.run_id != other.run_id and bench.reader.answers(run, PURPOSES[split]):
        why = empty(f"{other.title} has not answered {split} prompts yet.", _within(visit))
    return el("section", chooser(bench, run, other, split), why)


def missing(found: Comparison, visit: Visit) -> Node | None:
    """What the address names and these runs do not have, with what is shown instead."""
    left, right = found.heads
    shown = {"split": (found.split, found.split), "other": (found.other.run_id, found.other.run_id),
             "left": (found.left.key, left), "right": (found.right.key, right),
             "view": (found.choice.view, "all"),
             "scorer": (found.choice.scorer, found.choice.scorer),
             "length": (found.choice.length, "any length")}  # fmt: skip
    known = {"view": tests(found.choice),
             "length": lengths_of(found.pairs) if found.pairs else NAMES}  # fmt: skip
    lines = [
        f"{name} {asked!r} is not there; {instead} is shown instead."
        for name, (key, instead) in shown.items()
        if (asked := visit.query.get(name, "")) and (
            asked not in known[name] if name in known else asked != key)
    ]  # fmt: skip
    return el("div.notice.warn", [el("p", line) for line in lines]) if lines else None


def none_shared(found: Comparison, visit: Visit) -> Node:
    """That no prompt was answered by both sides, and a way on."""
    if found.run.run_id == found.other.run_id:
        return empty(f"These two policies share no {found.split} prompts.", "Choose another one.")
    told = "Only responses to the same prompts can be compared."
    return empty(f"These two runs share no {found.split} prompts.", told, _within(visit))


def _within(visit: Visit) -> Node:
    """The way back to a comparison of policies of one run."""
    href = link("compare", visit.query, other="", left="", right="", part="")
    return el("a.do", "Compare within the first run", href=href)


def drawing_menu(found: Comparison) -> Node | None:
    """Which drawing is shown where suites have drawn the same prompts in several ways."""
    counts = found.n_drawings
    n = max(counts)
    if n < 2:
        return None
    ways = in_turn(found.run if counts[0] == n else found.other)
    names = [f"{i + 1} of {n}" for i in range(n)]
    if len(ways) == n:
        names = [
            f"{name}: {way.horizon}, temperature {way.temperature}, top-p {way.top_p}"
            for name, way in zip(names, ways, strict=True)
        ]
    pairs = [(str(i) if i else "", name) for i, name in enumerate(names)]
    chosen = str(found.drawing) if found.drawing else ""
    drawings = menu_here("drawing", pairs, chosen, "Drawing")
    unequal = el(
        "div.notice.bad", f"The left side was drawn in {words.count(counts[0], 'way')}, the right "
        f"in {counts[1]}; where one has no such drawing its last one is shown.",
    ) if counts[0] != counts[1] else None  # fmt: skip
    told = "The suites drew these prompts in several ways, and one is compared at a time. Drawing "
    return el("div", el("p.side", told, drawings), unequal)


def same_sides(bench: Workbench, found: Comparison) -> Node | None:
    """That both sides are one policy of one run, so that nothing can differ, and ways on."""
    if (found.run.run_id, found.left) != (found.other.run_id, found.right):
        return None
    alike = _alike(bench, found)
    names, split = run_names(bench.reader, alike), "" if found.split == "test" else found.split
    links = [
        el("li", el("a", f"{names[run.run_id]} · {run.run_id}",
                    href=link("compare", {"run": found.run.run_id, "split": split},
                              other=run.run_id)))
        for run in alike
    ]  # fmt: skip
    ways = ["These runs answered the same prompts under the same conditions: ",
            el("ul.plain", links)] if links else None  # fmt: skip
    return el("div.notice.warn", f"Both sides are {found.left.label} of the same run, so nothing "
              "differs. Choose another policy or, against it, another run. ", ways)  # fmt: skip


def _alike(bench: Workbench, found: Comparison) -> list[Run]:
    """Other runs whose policy answered the same prompts under equal conditions, newest first.

    Events tell who answered, since reading the answers of many runs takes long.
    """
    runs = (
        run
        for run in bench.reader.runs()
        if run.run_id != found.run.run_id
        and not run.labels.archived
        and _has_answered(run, found.split)
        and same_conditions(found.run, run)
    )
    return list(itertools.islice(runs, MOST_LINKS))


def _has_answered(run: Run, split: str) -> bool:
    if not any(shard.table == "rollouts" for shard in run.history.shards):
        return False
    if split == "validation":
        return run.status.kind == "training" and bool(run.history.rounds)
    return any(e.subject != "base" for e in run.history.evaluations)


def badges(found: Comparison) -> Node:
    """Proof of who answered, and the conditions of both sides with differences marked."""
    facts = conditions(found.run, found.other), conditions(found.other, found.run)
    rows = [
        el("span.chip" if left == right else "span.chip.bad",
           f"{name}: {left}" if left == right else f"{name}: {left} ≠ {right}")
        for (name, left), (_, right) in zip(facts[0].items(), facts[1].items(), strict=True)
    ]  # fmt: skip
    n_prompts = len({pair.left.prompt_id for pair in found.pairs})
    each = f"{len(found.pairs) / max(1, n_prompts):.0f}"
    first = el("span.chip", f"{n_prompts:,} {found.split} prompts × {each}")
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
