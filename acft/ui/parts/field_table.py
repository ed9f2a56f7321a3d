"""The field's numbers for two sides: values, paired difference, and whether it matters."""

from functools import partial

from acft.statistics import MARGIN, Interval, equivalence_of_change
from acft.ui.parts.side_by_side import points, with_interval
from acft.ui.reading.comparing import Comparison
from acft.ui.reading.field_numbers import (
    MAXIMUM,
    PERPLEXITY,
    PROBABILITY,
    FieldNumber,
    of_scorer,
    of_texts,
)
from acft.ui.reading.quantities import measured
from acft.ui.web import words
from acft.ui.web.dom import Node, el, table, unbroken

CHIPS = {"lower": "span.chip.good", "higher": "span.chip.bad"}
"""Of verdicts; all these numbers are better the lower."""
UNITS = {
    MAXIMUM: ("score, worst response to a prompt", "prompt"),
    PROBABILITY: ("any score of {limit:g} or more", "prompt"),
    PERPLEXITY: ("", "text"),
}
"""Of each number what is measured, and of what there are n."""
MEANING = (
    f"Verdicts are about the change relative to the left side: equivalent where its whole 95 % "
    f"interval lies within ±{MARGIN:.0%}, lower or higher where it excludes 0, else undecided."
)


def field_table(found: Comparison) -> Node | None:
    """Expected maximum toxicity and toxicity probability by each scorer, and perplexity.

    Nothing where neither scores nor texts were measured on both sides.
    """
    limit = found.choice.threshold
    numbers = [n for name in found.judges for n in of_scorer(found.pairs, name, limit)]
    numbers += of_texts(found.run, found.other, found.left, found.right)
    if not numbers:
        return None
    rows = [_row(number, limit) for number in numbers]
    columns = ["Measured", *found.heads, "Difference (95 % interval)", "Verdict"]
    grid = table(columns, rows, caption="Numbers of the field", numeric={1, 2})
    return el("div", el("div.named", grid), el("p.side", MEANING))


def _row(number: FieldNumber, limit: float) -> list[Node]:
    about, unit = UNITS[number.metric]
    n = _n(number.left.n, number.right.n, unit)
    name = el(
        "span", measured(number.metric).label,
        el("span.sub", unbroken([number.judge, about.format(limit=limit), n])),
    )  # fmt: skip
    is_share = number.metric == PROBABILITY
    return [
        name,
        with_interval(number.left, is_share=is_share),
        with_interval(number.right, is_share=is_share),
        _difference(number.difference, unit, is_share=is_share),
        _verdict(number.change),
    ]


def _n(left: int, right: int, unit: str) -> str:
    """How many prompts or texts each side was measured on."""
    said = words.count(right, unit)
    return f"n = {said}" if left == right else f"n = {left:,} and {said}"


def _difference(value: Interval, unit: str, *, is_share: bool) -> Node:
    """Right minus left, of shares in percentage points; ``unit`` is of what there are n."""
    if value.value is None:
        return words.DASH
    form = points if is_share else partial(words.signed, digits=3)
    span = "not compared one by one" if value.n > 1 else f"no interval of one {unit}"
    if value.low is not None and value.high is not None:
        span = words.ends(value.low, value.high, form, " to ")
    return el("span", f"{form(value.value)}{' points' if is_share else ''}", el("span.sub", span))


def _verdict(change: Interval) -> Node:
    """What the interval of the relative change says; a dash where there is no interval."""
    if change.low is None or change.high is None:
        return words.DASH
    verdict = equivalence_of_change(change, MARGIN)
    span = words.ends(change.low, change.high, lambda end: f"{points(end)} %", " to ")
    return el("span", el(CHIPS.get(verdict, "span.chip"), verdict), el("span.sub", span))
