"""SGLang: the completions protocol, adapters loaded while it runs.

Start it with ``--enable-lora --max-lora-rank RANK --lora-target-modules all`` and, for responses
that a seed repeats, ``--enable-deterministic-inference``.
"""

from acft.engines.adapters import AdapterEngine
from acft.engines.base import ENGINES, Engine, EngineKind
from acft.settings import RunSettings


class SglangEngine(AdapterEngine):
    """The completions protocol with SGLang's own fields; responses come as text."""

    place = ""
    start = (
        "SGLang with --enable-lora, a --max-lora-rank no lower than [adapter] rank, and "
        "--lora-target-modules all"
    )

    def model_name(self, weights: str) -> str:
        """Base and adapter in one name."""
        return f"{self.base_name}:{weights}" if weights else self.base_name


def build(run: RunSettings) -> Engine:
    """An SGLang server with adapters switched on; responses come as text and are cut again."""
    return SglangEngine(run)


ENGINES.add("sglang")(EngineKind(build))
