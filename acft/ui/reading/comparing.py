"""Which pairs of texts a comparison shows, in which order, and how it leaves the workbench."""

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from acft.errors import ConfigError
from acft.schema import TOXIC_FROM
from acft.ui.reading.answers import Response
from acft.ui.reading.lengths import Bounds, lengths
from acft.ui.reading.pairs import CONSTRAINT, TIE, Pair, Subject, is_bad
from acft.ui.reading.reader import Run
from acft.ui.web import words

MAX_PATTERN = 200
PURPOSES = {"test": "test", "validation": "validation_policy"}
"""Of the responses to each split that every policy was asked for, as rows of rollouts name it."""
HEAD_LETTERS = 40
"""Of a run's title in the head of a column."""


@dataclass(frozen=True)
class Choice:
    """What a reader wants to see of a comparison."""

    view: str = "all"
    scorer: str = ""
    threshold: float = TOXIC_FROM
    find: str = ""
    """Searched for in prompt and both texts; a regular expression between slashes."""
    category: str = ""
    length: str = ""
    """Of the longer response of a pair, which tells nothing of the sides."""


@dataclass(frozen=True)
class Comparison:
    """Everything a visit compares."""

    run: Run
    other: Run
    left: Subject
    right: Subject
    pairs: list[Pair]
    choice: Choice
    judges: Sequence[str] = ()
    """Scorers, and the constraint where it is one of them."""
    split: str = "test"
    """Of which prompts; one of ``PURPOSES``."""
    drawing: int = 0
    """Which of several drawings of the same prompts."""
    n_drawings: tuple[int, int] = (1, 1)
    """How many there are of each side."""

    @property
    def names(self) -> tuple[str, str]:
        """Labels of the two sides."""
        return self._names(len(self.run.title), len(self.other.title))

    @property
    def heads(self) -> tuple[str, str]:
        """Labels of the two sides, short enough for heads of columns."""
        return self._names(HEAD_LETTERS, HEAD_LETTERS)

    def _names(self, left: int, right: int) -> tuple[str, str]:
        if self.run.run_id == self.other.run_id:
            return self.left.label, self.right.label
        return (
            f"{self.left.label} of {words.short(self.run.title, left)}",
            f"{self.right.label} of {words.short(self.other.title, right)}",
        )


def tests(choice: Choice) -> dict[str, Callable[[Pair], bool]]:
    """The views by name: which pairs belong to each."""
    scorer = choice.scorer

    def turned(pair: Pair, *, from_bad: bool) -> bool:
        if pair.change(scorer) is None:
            return False
        sides = [is_bad(side, scorer, choice.threshold) for side in (pair.left, pair.right)]
        return sides == [from_bad, not from_bad]

    return {
        "all": lambda _: True,
        "different": lambda pair: pair.left.text != pair.right.text,
        "improved": lambda pair: pair.gain(scorer) > TIE,
        "regressed": lambda pair: pair.gain(scorer) < -TIE,
        "now toxic": lambda pair: turned(pair, from_bad=False),
        "no longer toxic": lambda pair: turned(pair, from_bad=True),
        "empty": lambda pair: not pair.left.text.strip() or not pair.right.text.strip(),
    }


def view_name(view: str, scorer: str) -> str:
    """What a view is called beside what the pairs are judged by."""
    names = {"now toxic": "now violated", "no longer toxic": "now satisfied"}
    return names.get(view, view) if scorer == CONSTRAINT else view


def select(pairs: Sequence[Pair], choice: Choice) -> list[Pair]:
    """The searched pairs of the chosen view; see ``searched`` and ``viewed``."""
    return viewed(searched(pairs, choice), choice)


def searched(pairs: Sequence[Pair], choice: Choice) -> list[Pair]:
    """The pairs that search, category and length leave.

    Raises:
        ConfigError: The regular expression cannot be read or is too long.
    """
    found = zip(pairs, _search(pairs, choice.find), strict=True)
    kind = choice.category
    left = [pair for pair, matches in found if matches and kind in ("", pair.left.category)]
    bounds = lengths_of(pairs).get(choice.length)
    return [p for p in left if bounds is None or bounds[0] <= n_tokens(p) <= bounds[1]]


def n_tokens(pair: Pair) -> int:
    """Tokens of the longer response."""
    return max(pair.left.n_tokens, pair.right.n_tokens)


def lengths_of(pairs: Sequence[Pair]) -> Bounds:
    """What short, medium and long mean for these pairs."""
    return lengths(max(map(n_tokens, pairs), default=0))


def viewed(pairs: Sequence[Pair], choice: Choice) -> list[Pair]:
    """The pairs of the chosen view, largest change first except in ``all``."""
    found = [*filter(tests(choice).get(choice.view, tests(choice)["all"]), pairs)]
    if choice.view in ("all", "different", "empty"):
        return found
    return sorted(found, key=lambda pair: -abs(pair.gain(choice.scorer)))


def counts(pairs: Sequence[Pair], choice: Choice) -> dict[str, int]:
    """How many of the pairs each view has."""
    return {name: sum(map(belongs, pairs)) for name, belongs in tests(choice).items()}


def changed_words(left: str, right: str) -> list[tuple[str, str]]:
    """The right text in pieces: ``same``, ``added`` or (from the left) ``removed``, and words."""
    a, b = re.findall(r"\s*\S+", left), re.findall(r"\s*\S+", right)
    pieces: list[tuple[str, str]] = []
    for kind, a1, a2, b1, b2 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if kind == "equal":
            pieces.append(("same", "".join(b[b1:b2])))
            continue
        if a2 > a1:
            pieces.append(("removed", "".join(a[a1:a2])))
        if b2 > b1:
            pieces.append(("added", "".join(b[b1:b2])))
    return pieces


def is_swapped(pair: Pair) -> bool:
    """Whether blind review shows the right text on the left; fixed for each pair."""
    name = f"{pair.left.prompt_id}:{pair.left.sample}:{pair.left.rollout_id}"
    return hashlib.sha256(name.encode()).digest()[0] % 2 == 1


def as_json_lines(pairs: Sequence[Pair], conditions: dict[str, Any]) -> str:
    """One JSON object for each pair, after one with the conditions."""
    lines = [json.dumps({"conditions": conditions})]
    for pair in pairs:
        lines.append(
            json.dumps(
                {
                    "prompt_id": pair.left.prompt_id,
                    "sample": pair.left.sample,
                    "category": pair.left.category,
                    "prompt": pair.left.prompt,
                    "left": _told(pair.left),
                    "right": _told(pair.right),
                },
                ensure_ascii=False,
            )
        )
    return "\n".join(lines) + "\n"


def _told(side: Response) -> dict[str, Any]:
    """A text with everything that judged it; satisfaction where its constraint did."""
    graded = {} if side.satisfaction is None else {"satisfaction": side.satisfaction}
    return {"text": side.text, "scores": side.scores, **graded}


def as_llm_comparator(pairs: Sequence[Pair], names: tuple[str, str], scorer: str) -> str:
    """The JSON file that LLM Comparator's viewer reads; its score says how much is gained."""
    examples = [
        {
            "input_text": pair.left.prompt,
            "tags": [pair.left.category] if pair.left.category else [],
            "output_text_a": pair.right.text,
            "output_text_b": pair.left.text,
            "score": round(1.5 * pair.gain(scorer), 4),
            "individual_rater_scores": [],
            "custom_fields": {
                "sample": str(pair.left.sample),
                **_fields(pair.right, "a"),
                **_fields(pair.left, "b"),
            },
        }
        for pair in pairs
    ]
    fields = sorted({name for example in examples for name in example["custom_fields"]})
    value = {
        "metadata": {
            "source_path": "acft",
            "custom_fields_schema": [{"name": name, "type": "string"} for name in fields],
        },
        "models": [{"name": names[1]}, {"name": names[0]}],
        "examples": examples,
    }
    return json.dumps(value, ensure_ascii=False)


def _fields(side: Response, name: str) -> dict[str, str]:
    """The same as fields of one side, in words."""
    graded = {} if side.satisfaction is None else {CONSTRAINT: side.satisfaction}
    return {f"{judge} {name}": f"{value:.3f}" for judge, value in (side.scores | graded).items()}


def _search(pairs: Sequence[Pair], wanted: str) -> list[bool]:
    """Whether each pair has the wanted words, or passes the pattern between slashes."""
    pattern = words.pattern(wanted)
    if not pattern:
        text = wanted.lower()
        return [text in _all_text(pair).lower() for pair in pairs]
    if len(wanted) > MAX_PATTERN:
        raise ConfigError(f"the pattern has {len(wanted)} letters; at most {MAX_PATTERN} are read")
    texts = pa.array([_all_text(pair) for pair in pairs], pa.string())
    try:
        # RE2 keeps no other thread waiting and never tries again; ``re`` may do both for ever.
        found = pc.match_substring_regex(texts, pattern)  # pyright: ignore[reportAttributeAccessIssue] - made at import
    except pa.ArrowInvalid as error:
        raise ConfigError(f"cannot read the pattern {wanted!r}: {error}") from None
    return found.to_pylist()


def _all_text(pair: Pair) -> str:
    return f"{pair.left.prompt}\n{pair.left.text}\n{pair.right.text}"
