"""Rollouts as JSON, for checkpoints and caches."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from acft.types import Rollout

TUPLE_FIELDS = ("prompt_ids", "response_ids", "response_logprobs")
"""Fields of a rollout that JSON turns into lists."""


def to_plain(rollout: Rollout) -> dict[str, Any]:
    """Values that JSON can hold and ``from_plain`` reads back exactly."""
    return {name: getattr(rollout, name) for name in rollout.__dataclass_fields__}


def from_plain(values: dict[str, Any]) -> Rollout:
    """The rollout that ``to_plain`` was given."""
    tuples = {name: tuple(values[name]) for name in TUPLE_FIELDS}
    return Rollout(**{**values, **tuples})


def rollouts_to_file(rollouts: Sequence[Rollout], file: Path) -> None:
    """Write rollouts so that ``rollouts_from_file`` gives them back exactly."""
    file.write_text(json.dumps([to_plain(rollout) for rollout in rollouts]))


def rollouts_from_file(file: Path) -> list[Rollout]:
    """Rollouts written by ``rollouts_to_file``."""
    return [from_plain(values) for values in json.loads(file.read_text())]
