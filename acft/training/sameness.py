"""Whether what is resumed finds the models, scorers, texts and checkpoints that it began with."""

from collections.abc import Mapping
from typing import Any

from acft.errors import ModelError


def beside(who: str) -> str:
    """What a model's folder holds that changes what the same weights say."""
    return f"the folder of {who} beside the weights (tokenizer, chat template, settings)"


WHOLE = {
    "model_sha256": "the model",
    "model_texts_sha256": beside("the model"),
    "judge_sha256": "the judge",
    "judge_texts_sha256": beside("the judge"),
    "prompts_sha256": "the set of prompts",
}
NAMED = {
    "scorers": "scorer", "corpora": "corpus", "policies": "checkpoint of", "texts": "texts of",
    "code": "code of",
}  # fmt: skip
"""Facts that are lists of what has a name; texts that a base policy wrote depend on the device."""


def require_same(
    before: Mapping[str, str], now: Mapping[str, str], what: str, instead: str
) -> None:
    """Returns if every version or hash is what it was; what either does not know is not compared.

    Args:
        before: By what it is of, as it was at the beginning.
        now: The same as it is here.
        what: Is resumed, for the message.
        instead: How to begin anew, for the message.

    Raises:
        ModelError: Something is another than it was.
    """
    other = [
        f"{name} is {now[name]!r} and was {value!r}"
        for name, value in before.items()
        if now.get(name, value) != value
    ]
    if other:
        raise ModelError(
            f"this {what} began with others than are here: {'; '.join(other)}; restore what was "
            f"there, or {instead}"
        )


def named(facts: Mapping[str, Any]) -> dict[str, str]:
    """Versions and hashes in the facts that a run records, by what they are of."""
    found = {text: str(facts[key]) for key, text in WHOLE.items() if facts.get(key)}
    for key, kind in NAMED.items():
        for item in facts.get(key) or ():
            if item["sha256"]:  # else it was missing
                name = f"{kind} {item['name']!r}"
                found[name] = f"{item['version']} {item['sha256']}".strip()
    return found
