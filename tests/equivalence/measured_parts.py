"""Prints what this process draws and reads of a measurement, and what it is measured to be.

Started in several processes: MODEL SHARDING.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from acft.distributed import leave, ranks
from acft.evaluation import draw_and_score
from acft.likelihood import document_likelihoods
from acft.policy import Policy, base_policy
from acft.settings import ModelSettings, RunSettings, SamplingSettings
from acft.types import Document, Prompt
from tests.toy_runs import drained

PROMPTS = [Prompt(f"p{n}", f"Say {n}", "test") for n in range(5)]
DOCUMENTS = [Document(f"d{n}", "", "The harvest was good. " * (n + 1), "general") for n in range(9)]


def main(model: str, sharding: str) -> None:
    """Print one line."""
    sys.stdout.write(f"{json.dumps({'rank': ranks().rank, **measured(Path(model), sharding)})}\n")
    leave()


def measured(model: Path, sharding: str) -> dict[str, Any]:
    """Responses to five prompts, then to one alone, and the likelihoods of nine texts."""
    settings = ModelSettings.model_validate({"name": str(model), "sharding": sharding})
    policy = base_policy(RunSettings(model=settings, device="cpu"))
    asked: dict[str, int] = {"drawn": 0, "read": 0}
    sample, read = Policy.sample, Policy.token_logprobs

    def counted(name: str, call: Callable[..., Any], size: Callable[[Any], int]) -> Any:
        def counting(self: Policy, first: Any, *others: Any, **named: Any) -> Any:
            asked[name] += size(first)
            return call(self, first, *others, **named)

        return counting

    with (
        patch.object(Policy, "sample", counted("drawn", sample, len)),
        patch.object(Policy, "token_logprobs", counted("read", read, lambda b: len(b.token_ids))),
    ):
        sampling = SamplingSettings(horizon=6)
        scored = [
            item
            for some in (PROMPTS, PROMPTS[:1])
            for item in drained(draw_and_score(policy, some, 2, sampling, 0, ()))
        ]
        rows = document_likelihoods(policy, DOCUMENTS)
    return asked | {
        "responses": [[item.rollout.rollout_id, item.rollout.response_ids] for item in scored],
        "nll": [row.nll for row in rows],
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
