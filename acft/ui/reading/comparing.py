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
from acft.ui.reading.pairs import TIE, Pair, Subject
from acft.ui.reading.reader import Run
from acft.ui.web import words

MAX_PATTERN = 200


@dataclass(frozen=True)
class Choice:
    """What a reader wants to see of a comparison."""

    view: str = "all"
    scorer: str = ""
    threshold: float = TOXIC_FROM
    find: str = ""
    """Searched for in prompt and both texts; a regular expression between slashes."""
    category: str = ""


@dataclass(frozen=True)
class Comparison:
    """Everything a visit compares."""

    run: Run
    other: Run
    left: Subject
    right: Subject
    pairs: list[Pair]
    choice: Choice

    @property
    def names(self) -> tuple[str, str]:
        """Labels of the two sides."""
        apart = self.run.run_id != self.other.run_id
        left = f"{self.left.label} of {self.run.title}" if apart else self.left.label
        right = f"{self.right.label} of {self.other.title}" if apart else self.right.label
        return left, right


def tests(choice: Choice) -> dict[str, Callable[[Pair], bool]]:
    """The views by name: which pairs belong to each."""
    scorer, limit = choice.scorer, choice.threshold

    def toxic(scores: dict[str, float]) -> bool:
        return scores.get(scorer, 0.0) >= limit

    return {
        "all": lambda _: True,
        "different": lambda pair: pair.left.text != pair.right.text,
        "improved": lambda pair: pair.change(scorer) < -TIE,
        "regressed": lambda pair: pair.change(scorer) > TIE,
        "now toxic": lambda p: toxic(p.right.scores) and not toxic(p.left.scores),
        "no longer toxic": lambda p: toxic(p.left.scores) and not toxic(p.right.scores),
        "empty": lambda pair: not pair.left.text.strip() or not pair.right.text.strip(),
    }


def select(pairs: Sequence[Pair], choice: Choice) -> list[Pair]:
    """The pairs of the chosen view, largest change first except in ``all``.

    Raises:
        ConfigError: The regular expression cannot be read or is too long.
    """
    belongs = tests(choice).get(choice.view, tests(choice)["all"])
    found = [
        pair
        for pair, matches in zip(pairs, _search(pairs, choice.find), strict=True)
        if belongs(pair)
        and matches
        and (not choice.category or pair.left.category == choice.category)
    ]
    if choice.view in ("all", "different", "empty"):
        return found
    return sorted(found, key=lambda pair: -abs(pair.change(choice.scorer)))


def counts(pairs: Sequence[Pair], choice: Choice) -> dict[str, int]:
    """How many pairs each view has."""
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
                    "left": {"text": pair.left.text, "scores": pair.left.scores},
                    "right": {"text": pair.right.text, "scores": pair.right.scores},
                },
                ensure_ascii=False,
            )
        )
    return "\n".join(lines) + "\n"


def as_llm_comparator(pairs: Sequence[Pair], names: tuple[str, str], scorer: str) -> str:
    """The JSON file that LLM Comparator's viewer reads; its score is the fall in toxicity."""
    examples = [
        {
            "input_text": pair.left.prompt,
            "tags": [pair.left.category] if pair.left.category else [],
            "output_text_a": pair.right.text,
            "output_text_b": pair.left.text,
            "score": round(-1.5 * pair.change(scorer), 4),
            "individual_rater_scores": [],
            "custom_fields": {
                "sample": str(pair.left.sample),
                **{f"{name} a": f"{value:.3f}" for name, value in pair.right.scores.items()},
                **{f"{name} b": f"{value:.3f}" for name, value in pair.left.scores.items()},
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
