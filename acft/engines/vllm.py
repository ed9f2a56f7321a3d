"""vLLM: prompts and responses as token ids, log-probabilities, adapters loaded while it runs.

Start it with ``--enable-lora --max-lora-rank RANK --max-loras 3`` and
``VLLM_ALLOW_RUNTIME_LORA_UPDATING=True``.
"""

from typing import Any

from acft.engines.adapters import AdapterEngine
from acft.engines.base import ENGINES, Engine, EngineKind
from acft.engines.server import Question
from acft.settings import RunSettings


class VllmEngine(AdapterEngine):
    """The completions protocol with vLLM's own fields."""

    place = "/v1"
    tells_unscaled = True
    start = (
        "vLLM with --enable-lora, a --max-lora-rank no lower than [adapter] rank, and "
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
    )

    def request(self, question: Question) -> dict[str, Any]:
        """Body of the request for one response; 0 asks for the drawn tokens' alone."""
        return super().request(question) | {"logprobs": 0}


def build(run: RunSettings) -> Engine:
    """A vLLM server with adapters switched on; token ids and log-probabilities are checked."""
    return VllmEngine(run)


ENGINES.add("vllm")(EngineKind(build, needs_server=True))
