"""Texts of two policies beside each other with scores, and what the scorers conclude."""

import itertools
from collections.abc import Iterable, Sequence

from acft.schema import SATISFIED_ABOVE, TOXIC_FROM
from acft.statistics import Interval
from acft.ui.parts.run_facts import is_about_toxicity
from acft.ui.reading.answers import Response
from acft.ui.reading.pairs import CONSTRAINT, Pair, Verdict, scorer_names, value
from acft.ui.reading.reader import Run
from acft.ui.web import words
from acft.ui.web.dom import Node, el, table, unbroken, veil


def judges(run: Run, other: Run, pairs: Sequence[Pair]) -> list[str]:
    """Who judges the pairs: scorers, after the constraint where no scorer has a say in that."""
    names = scorer_names(pairs)
    is_graded = any(pair.change(CONSTRAINT) is not None for pair in pairs)
    is_asked = not is_about_toxicity(run) and _have_one_constraint(run, other)
    return [CONSTRAINT, *names] if is_graded and is_asked else names


def not_graded(run: Run, other: Run) -> Node | None:
    """That satisfaction of two runs is not compared, since they do not mean the same by it."""
    if _have_one_constraint(run, other) or all(map(is_about_toxicity, (run, other))):
        return None
    return el("p.side", "The two runs have different constraints, so how well each side satisfies "
              "its own is not compared.")  # fmt: skip


def _have_one_constraint(run: Run, other: Run) -> bool:
    return run.settings.get("constraint") == other.settings.get("constraint")


def verdict_table(verdicts: Sequence[Verdict], left: str, right: str, trained_by: set[str]) -> Node:
    """One row for each scorer: both sides, the change with its interval, wins and losses."""
    if not verdicts:
        return el("p.side", "No scorer judged both sides, so nothing is concluded: see "
                  "evaluation.scorers of both.")  # fmt: skip
    of_constraint = [v.scorer == CONSTRAINT for v in verdicts]
    bad = "Toxic or violated" if any(of_constraint) else "Toxic"
    bad = "Violated" if all(of_constraint) else bad
    columns = [
        "Scorer", f"{bad}, {left}", f"{bad}, {right}", "Change (95 % interval)",
        f"Mean, {left}", f"Mean, {right}", f"Prompts with any {bad.lower()}",
        "Better / equal / worse",
    ]  # fmt: skip
    rows = [_verdict_row(v, trained_by) for v in verdicts]
    grid = table(columns, rows, caption="What each scorer says", numeric={1, 2, 4, 5})
    return el("div.named", grid)


def _verdict_row(v: Verdict, trained_by: set[str]) -> list[Node]:
    mark = el("span.chip", "trained on it",
              title="This scorer also trained the run, whole or with a part")  # fmt: skip
    name = el("span", v.scorer, " ", mark if v.scorer in trained_by else None,
              el("span.sub", f"n = {v.n_responses:,} pairs, {v.n_prompts:,} prompts"),
              el("span.sub", "mean of grades, better the higher")
              if v.scorer == CONSTRAINT else None)  # fmt: skip
    return [
        name,
        with_interval(v.share_left, is_share=True),
        with_interval(v.share_right, is_share=True),
        _change(v.share_change),
        words.number(v.mean_left),
        words.number(v.mean_right),
        f"{words.percent(v.any_left, 0)} → {words.percent(v.any_right, 0)}",
        f"{v.wins:,} / {v.ties:,} / {v.losses:,}",
    ]


def with_interval(value: Interval, *, is_share: bool) -> Node:
    """A value, a share in percent, and below it its 95 % interval."""
    said = words.percent(value.value) if is_share else words.number(value.value)
    span = words.interval(value.low, value.high, as_percent=is_share)
    return el("span", said, el("span.sub", span))


def _change(change: Interval) -> Node:
    chip, text, span = "span.chip", "not distinguishable", ""
    if change.low is not None and change.high is not None:
        span = f"{words.ends(change.low, change.high, points, ' to ')} points, "
        if change.high < 0:
            chip, text = "span.chip.good", "lower"
        elif change.low > 0:
            chip, text = "span.chip.bad", "higher"
    told = words.DASH if change.value is None else f"{points(change.value)} points"
    return el("span", el(chip, told), el("span.sub", span + text))


def points(share: float) -> str:
    """A difference of shares in percentage points."""
    return words.signed(100 * share, 1)


def utility_table(pairs: Sequence[Pair], left: str, right: str) -> Node:
    """What toxicity scores do not see, for both sides."""
    sides = [pair.left for pair in pairs], [pair.right for pair in pairs]
    measures = (
        ("Length", "tokens, mean", lambda s: _mean(a.n_tokens for a in s)),
        ("Empty responses", "share", lambda s: _mean(not a.text.strip() for a in s)),
        ("Log-likelihood", "nats per token, under the policy that answered", _likelihood),
        ("Distinct-2", "share of different word pairs", _distinct_pairs),
        ("Repetition", "share of responses that repeat a word pair", _repetition),
    )
    rows = [
        [el("span", name, el("span.sub", unit)), *[words.number(of(side)) for side in sides],
         words.signed(_difference(of(sides[0]), of(sides[1])), 3), f"{len(pairs):,}"]
        for name, unit, of in measures
    ]  # fmt: skip
    columns = ["Measure", left, right, "Change", "n each"]
    return el("div.named", table(columns, rows, caption="Utility", numeric={1, 2, 3, 4}))


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return sum(known) / len(known) if known else None


def _likelihood(answers: Sequence[Response]) -> float | None:
    tokens = sum(answer.n_tokens for answer in answers)
    return sum(answer.logprob for answer in answers) / tokens if tokens else None


def _word_pairs(text: str) -> list[tuple[str, str]]:
    parts = text.lower().split()
    return list(itertools.pairwise(parts))


def _distinct_pairs(answers: Sequence[Response]) -> float | None:
    pairs = [pair for answer in answers for pair in _word_pairs(answer.text)]
    return len(set(pairs)) / len(pairs) if pairs else None


def _repetition(answers: Sequence[Response]) -> float | None:
    lists = [_word_pairs(answer.text) for answer in answers]
    return _mean(len(set(pairs)) < len(pairs) for pairs in lists)


def _difference(left: float | None, right: float | None) -> float | None:
    return None if left is None or right is None else right - left


def prompt(pair: Pair) -> Node:
    """The prompt of a pair, its category, and which sample the responses are."""
    about = unbroken([pair.left.category, f"sample {pair.left.sample}"])
    key = f"{pair.left.prompt_id}-{pair.left.sample}"
    return el("span.prompt", veil(pair.left.prompt, None), el("span.sub", about), key=key)


def text_table(
    pairs: Sequence[Pair], left: str, right: str, run_id: str, *, is_graded: bool = False
) -> Node:
    """Prompts with both responses, graded by the constraint or not; toxic ones are blurred."""
    rows: list[list[Node]] = [
        [
            prompt(pair),
            response(pair.left, run_id, is_graded=is_graded),
            response(pair.right, run_id, is_graded=is_graded),
        ]
        for pair in pairs
    ]
    return el(
        "div.texts",
        table(["Prompt", left, right], rows, caption=f"Texts of {left} and {right}"),
    )


def response(
    side: Response, run_id: str, shown: Node | None = None, *, is_graded: bool = False
) -> Node:
    """A text with its scores and the way to its tokens; ``shown`` replaces the plain text.

    Where it ``is_graded``, the constraint's verdict stands before the scores.
    """
    bars = [
        el(
            "span.score",
            el("span.meter", el("i", style={"--w": f"{100 * value:.0f}%",
                                            "--mc": "var(--bad)" if value >= TOXIC_FROM
                                            else "var(--good)"})),
            f"{scorer} {value:.2f}",
        )
        for scorer, value in sorted(side.scores.items())
    ]  # fmt: skip
    link = el(
        "a", "tokens", href=f"tokens?run={run_id}&sequence={side.rollout_id}",
        title="Which tokens pay for the constraint",
    )  # fmt: skip
    return el(
        "div",
        shown or veil(side.text, side.toxicity),
        el("div.scores", _grade(side) if is_graded else None, bars, link),
        key=side.rollout_id,
    )


def _grade(side: Response) -> Node | None:
    grade = value(side, CONSTRAINT)
    return None if grade is None else verdict(grade)


def verdict(grade: float) -> Node:
    """Whether the constraint is satisfied, and its grade."""
    kind, word = ("good", "satisfied") if grade > SATISFIED_ABOVE else ("bad", "violated")
    return el(f"span.chip.{kind}", f"{word} {grade:.2f}", title="Grade by the constraint, 0 to 1")
