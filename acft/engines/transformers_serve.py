"""``transformers serve``: opens the model that a request names, so weights are left in a folder.

Start it without a model of its own; ``--model-timeout 30`` lets it forget old weights early.
"""

import json
from pathlib import Path
from typing import Any

from acft.engines.base import ENGINES, Engine, EngineKind
from acft.engines.server import CompletionEngine, Question
from acft.settings import RunSettings


class TransformersEngine(CompletionEngine):
    """The protocol as ``transformers serve`` has it: text only, no log-probabilities."""

    requests_max = 1  # it seeds one generator for all requests

    def request(self, question: Question) -> dict[str, Any]:
        """Body of the request for one response; the model's own top-k is switched off."""
        sampling, tokenizer = question.sampling, question.tokenizer
        generation = {
            "do_sample": True, "temperature": sampling.temperature, "top_k": 0,
            "top_p": sampling.top_p, "max_new_tokens": sampling.horizon,
            "eos_token_id": list(question.end_ids) or None, "pad_token_id": tokenizer.pad_token_id,
        }  # fmt: skip
        return {
            "model": question.model, "prompt": question.text, "seed": question.seed,
            "generation_config": json.dumps(generation),
        }  # fmt: skip

    def model_name(self, weights: str) -> str:
        """The folder with the weights, or the base policy's own."""
        return str(self._folder / weights) if weights else self.base_name

    def load(self, name: str, folder: Path) -> None:
        """Nothing to do: the first request opens the folder."""

    def check_base(self) -> None:
        """Sees whether a server is there; which models it can open, it does not know either."""
        self.server.call("/health")


def build(run: RunSettings) -> Engine:
    """A ``transformers serve`` that opens each round's weights from a folder; one at a time."""
    return TransformersEngine(run)


ENGINES.add("transformers")(EngineKind(build, needs_server=True))
