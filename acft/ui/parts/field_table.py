"""The field's numbers for two sides: values, paired difference, and whether it matters."""

from collections.abc import Sequence
from math import isfinite

from acft.statistics import MARGIN, Interval, equivalence_of_change
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
    grid = table(list(columns), rows, caption="Numbers of the field", numeric={1, 2})
    return el("div", el("div.named", grid), el("p.side", MEANING))


def _row(number: FieldNumber, limit: float) -> list[Node]:
    told = f"any score of {limit:g} or more" if number.metric == PROBABILITY else ""
    unit = "score, worst response to a prompt" if number.metric == MAXIMUM else told
    name = el(
        "span", measured(number.metric).label,
        el("span.sub", unbroken([number.judge, unit, *_n(number)])),
    )  # fmt: skip
    is_share = number.metric == PROBABILITY
    return [
        name,
        _value(number.left, is_share=is_share),
        _value(number.right, is_share=is_share),
        _difference(number.difference, is_share=is_share),
        _verdict(number.change),
    ]


def _n(number: FieldNumber) -> Sequence[str]:
    """How many prompts or texts each side was measured on."""
    unit = "text" if number.metric == PERPLEXITY else "prompt"
    left, right = number.left.n, number.right.n
    if left == right:
        return (f"n = {words.count(left, unit)}",)
    return (f"n = {left:,} and {words.count(right, unit)}",)


def _value(value: Interval, *, is_share: bool) -> Node:
    said = words.percent(value.value) if is_share else words.number(value.value)
    span = words.interval(value.low, value.high, as_percent=is_share)
    return el("span", said, el("span.sub", span))


def _difference(value: Interval, *, is_share: bool) -> Node:
    if value.value is None:
        return words.DASH
    span = "not compared one by one"
    if value.low is not None and value.high is not None:
        span = f"{_apart(value.low, is_share=is_share)} to {_apart(value.high, is_share=is_share)}"
    unit = " points" if is_share else ""
    return el("span", f"{_apart(value.value, is_share=is_share)}{unit}", el("span.sub", span))


def _apart(value: float, *, is_share: bool) -> str:
    """A difference with its sign; of shares in percentage points."""
    return words.signed(100 * value, 1) if is_share else words.signed(value, 3)


def _verdict(change: Interval) -> Node:
    """What the interval of the relative change says; a dash where there is no interval."""
    if change.low is None or change.high is None:
        return words.DASH
    verdict = equivalence_of_change(change, MARGIN)
    ends = " to ".join(
        f"{words.signed(100 * end, 1)} %" if isfinite(end) else "no limit"
        for end in (change.low, change.high)
    )
    return el("span", el(CHIPS.get(verdict, "span.chip"), verdict), el("span.sub", ends))
