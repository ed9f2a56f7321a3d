"""Whether a resumed run finds what it began with, told from the facts that it recorded."""

from collections.abc import Mapping
from typing import Any

from acft.errors import ModelError

WHOLE = {
    "model_sha256": "the model",
    "judge_sha256": "the judge",
    "prompts_sha256": "the set of prompts",
}
NAMED = {"scorers": "scorer", "policies": "checkpoint of"}
"""Facts that are lists of who has a name; texts that a base policy wrote depend on the device."""


def require_same(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Returns if what a run's numbers depend on is what it was; what is not known is not compared.

    Raises:
        ModelError: Something is another than it was.
    """
    known, found = _named(before), _named(now)
    other = [
        f"{name} is {found[name]!r} and was {value!r}"
        for name, value in known.items()
        if found.get(name, value) != value
    ]
    if other:
        raise ModelError(
            f"this run began with others than are here: {'; '.join(other)}; restore what was "
            "there, or start a new run with the same settings ('acft launch ID')"
        )


def _named(facts: Mapping[str, Any]) -> dict[str, str]:
    found = {text: str(facts[key]) for key, text in WHOLE.items() if facts.get(key)}
    for key, kind in NAMED.items():
        for item in facts.get(key) or ():
            if item["sha256"]:  # else it was missing
                name = f"{kind} {item['name']!r}"
                found[name] = f"{item['version']} {item['sha256']}".strip()
    return found
