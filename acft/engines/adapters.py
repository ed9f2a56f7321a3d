"""Servers that load adapters while they run: what vLLM and SGLang share."""

from pathlib import Path
from typing import Any, ClassVar

from acft.backbone.adapters import ADAPTER_CONFIG
from acft.engines.http import RefusedError
from acft.engines.server import CompletionEngine, Question


class AdapterEngine(CompletionEngine):
    """The completions protocol of a server that loads and forgets adapters by request."""

    shares_adapters = True
    place: ClassVar[str]
    """Beginning of the paths that take such requests."""
    start: ClassVar[str]
    """How a server that takes them is started."""

    def request(self, question: Question) -> dict[str, Any]:
        """Body of the request for one response in token ids; overrides the model's own defaults."""
        tokens = {"prompt": list(question.prompt_ids), "return_token_ids": True}
        plain = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
        return super().request(question) | tokens | plain

    def load(self, name: str, folder: Path) -> None:
        """Loads an adapter, unless the server has it; a running server cannot load whole weights.

        Raises:
            RefusedError: The server loads no adapters.
        """
        if not (folder / ADAPTER_CONFIG).exists():
            super().load(name, folder)
            return
        try:
            adapter = {"lora_name": name, "lora_path": str(folder)}
            self.server.call(f"{self.place}/load_lora_adapter", adapter)
        except RefusedError as refusal:
            # a name tells the content: another process, or this run before it ended, has loaded it
            if name not in self.served():
                raise RefusedError(
                    f"{refusal}; start {self.start}, on a disk where it sees {str(folder)!r}"
                ) from None

    def unload(self, name: str) -> None:
        """Makes room for newer adapters."""
        self.server.call(f"{self.place}/unload_lora_adapter", {"lora_name": name})
