"""SGLang: the completions protocol, adapters loaded while it runs.

Start it with ``--enable-lora --max-lora-rank RANK --lora-target-modules all`` and, for responses
that a seed repeats, ``--enable-deterministic-inference``.
"""

from pathlib import Path
from typing import Any

from acft.engines.base import ENGINES, Engine, EngineKind
from acft.engines.server import CompletionEngine, Question
from acft.settings import RunSettings

START = (
    "SGLang with --enable-lora, a --max-lora-rank no lower than [adapter] rank, and "
    "--lora-target-modules all"
)


class SglangEngine(CompletionEngine):
    """The completions protocol with SGLang's own fields; responses come as text."""

    shares_adapters = True

    def request(self, question: Question) -> dict[str, Any]:
        """Body of the request for one response; overrides the model's own defaults."""
        body = super().request(question)
        return body | {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}

    def model_name(self, weights: str) -> str:
        """Base and adapter in one name."""
        return f"{self.base_name}:{weights}" if weights else self.base_name

    def load(self, name: str, folder: Path) -> None:
        """Loads an adapter; whole weights cannot be loaded by a running server."""
        if not (folder / "adapter_config.json").exists():
            super().load(name, folder)
            return
        self.load_adapter("/load_lora_adapter", name, folder, START)

    def unload(self, name: str) -> None:
        """Makes room for newer adapters."""
        self.server.call("/unload_lora_adapter", {"lora_name": name})


def build(run: RunSettings) -> Engine:
    """An SGLang server with adapters switched on; responses come as text and are cut again."""
    return SglangEngine(run)


ENGINES.add("sglang")(EngineKind(build))
