"""Blind review: shuffled sides without scores, votes, and afterwards what they say together."""

from collections import Counter
from collections.abc import Mapping, Sequence

from acft.errors import RunError
from acft.store.connection import Store
from acft.store.journal import record_comparison, record_vote
from acft.store.queries.comparisons import newest_votes
from acft.ui.page import Visit
from acft.ui.parts.side_by_side import prompt
from acft.ui.reading.answers import Response
from acft.ui.reading.comparing import Comparison, is_swapped
from acft.ui.reading.pairs import TIE, Pair
from acft.ui.web import words
from acft.ui.web.dom import Node, act, el, fact, table, veil, veiled

CHOICES = ("first", "second", "tie", "both bad")
NOTE = (
    "Sides are shuffled and scores hidden; which side won is shown when you end the review. Votes "
    "are kept beside the runs."
)
HIDDEN = "What scorers conclude of the two sides is shown when the blind review ends."


def item(pair: Pair) -> str:
    """Name of a pair in the journal."""
    return f"{pair.left.rollout_id}|{pair.right.rollout_id}"


def review(pairs: Sequence[Pair], visit: Visit, given: Mapping[str, str]) -> Node:
    """The pairs with buttons; those that have a vote say so, without saying which."""
    rows = []
    for pair in pairs:
        first, second = (pair.right, pair.left) if is_swapped(pair) else (pair.left, pair.right)
        buttons = [
            el("button.do", choice, type="button", disabled=not visit.may_change,
               **act("vote", item=item(pair), choice=choice))
            for choice in CHOICES
        ]  # fmt: skip
        judged = el("span.chip", "judged") if item(pair) in given else None
        rows.append([prompt(pair), *_texts(first, second), el("div.votes", buttons, judged)])
    return el("div.texts", el("p.side", NOTE),
              table(["Prompt", "First", "Second", "Which is better?"], rows,
                    caption="Blind review"))  # fmt: skip


def _texts(first: Response, second: Response) -> list[Node]:
    """Both texts, both blurred where one is: a blur over one alone would tell the score."""
    shown = [veil(side.text, side.toxicity) for side in (first, second)]
    is_veiled = any(node[0] == "veil" for node in shown)
    return [veiled(side.text) for side in (first, second)] if is_veiled else shown


def votes(store: Store, found: Comparison) -> dict[str, str]:
    """The newest vote on each pair of these two sides, whichever review it was given in."""
    names = {item(pair) for pair in found.pairs}  # of other prompts and drawings there are more
    given = newest_votes(store, **_sides(found))
    return {name: choice for name, choice in given.items() if name in names}


def tally(found: Comparison, given: Mapping[str, str], *, is_blind: bool) -> Node:
    """How many pairs are judged; once the review is over, for which side and whether scorers agree.

    While it goes on, sides are not counted: a count that moves would tell whose text was preferred.
    """
    if not given:
        return ""
    if is_blind:
        so_far = f"{len(given):,} of {len(found.pairs):,} pairs judged."
        return el("p.side", el("b", so_far), " End the review to see which side won how often.",
                  role="status")  # fmt: skip
    counts, (left, right) = Counter(given.values()), found.heads
    n_same, n_sided = _agreement(found, given)
    scorer = found.choice.scorer
    agrees = f"; {scorer} prefers the same text in {n_same} of {n_sided}" if n_sided else ""
    numbers = {
        f"{left} better": counts["left"], f"{right} better": counts["right"],
        "Tie": counts["tie"], "Both bad": counts["both bad"],
    }  # fmt: skip
    tiles = [fact(name, f"{number:,}") for name, number in numbers.items()]
    judged = f"n = {words.count(len(given), 'pair')} judged of {len(found.pairs):,}{agrees}."
    return el("section.tally", el("h2", "Blind review"), el("div.facts", tiles),
              el("p.side", judged), role="status")  # fmt: skip


def vote(store: Store, found: Comparison | None, visit: Visit, comparison_id: str) -> str:
    """Id of the comparison in which one judgement was kept.

    The shuffled sides are told apart before it is written.

    Raises:
        RunError: The pair or choice is not part of the comparison.
    """
    choice, name = str(visit.data.get("choice", "")), str(visit.data.get("item", ""))
    pair = next((p for p in found.pairs if item(p) == name), None) if found else None
    if found is None or pair is None or choice not in CHOICES:
        raise RunError("this pair or choice is not part of the comparison; reload the page")
    sides = ("right", "left") if is_swapped(pair) else ("left", "right")
    meant = {"first": sides[0], "second": sides[1]}.get(choice, choice)
    if not comparison_id:
        comparison_id = record_comparison(store, {**_sides(found), "blind": True})
    record_vote(store, comparison_id, name, meant)
    return comparison_id


def _agreement(found: Comparison, given: Mapping[str, str]) -> tuple[int, int]:
    """Votes for a side with which the chosen scorer agrees, and those it has an opinion on."""
    gains = {item(pair): pair.gain(found.choice.scorer) for pair in found.pairs}
    sided = [
        (choice, gains[name])
        for name, choice in given.items()
        if choice in ("left", "right") and abs(gains.get(name, 0.0)) > TIE
    ]
    return sum((choice == "right") == (gain > 0) for choice, gain in sided), len(sided)


def _sides(found: Comparison) -> dict[str, str]:
    return {"run": found.run.run_id, "other": found.other.run_id, "left": found.left.key,
            "right": found.right.key}  # fmt: skip
