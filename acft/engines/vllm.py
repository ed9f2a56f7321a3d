"""vLLM: prompts and responses as token ids, log-probabilities, adapters loaded while it runs.

Start it with ``--enable-lora --max-lora-rank RANK --max-loras 3`` and
``VLLM_ALLOW_RUNTIME_LORA_UPDATING=True``.
"""

from pathlib import Path
from typing import Any

from acft.engines.base import ENGINES, Engine, EngineKind
from acft.engines.server import CompletionEngine, Question
from acft.settings import RunSettings

START = (
    "vLLM with --enable-lora, a --max-lora-rank no lower than [adapter] rank, and "
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
)


class VllmEngine(CompletionEngine):
    """The completions protocol with vLLM's own fields."""

    shares_adapters = True

    def request(self, question: Question) -> dict[str, Any]:
        """Body of the request for one response; overrides the model's own defaults."""
        body = super().request(question)
        whole = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
        return body | whole | {
            "prompt": list(question.prompt_ids), "return_token_ids": True, "logprobs": 0,
        }  # fmt: skip

    def load(self, name: str, folder: Path) -> None:
        """Loads an adapter; whole weights cannot be loaded by a running server."""
        if not (folder / "adapter_config.json").exists():
            super().load(name, folder)
            return
        self.load_adapter("/v1/load_lora_adapter", name, folder, START)

    def unload(self, name: str) -> None:
        """Makes room for newer adapters."""
        self.server.call("/v1/unload_lora_adapter", {"lora_name": name})


def build(run: RunSettings) -> Engine:
    """A vLLM server with adapters switched on; token ids and log-probabilities are checked."""
    return VllmEngine(run)


ENGINES.add("vllm")(EngineKind(build))
