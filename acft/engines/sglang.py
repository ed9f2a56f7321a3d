"""SGLang: prompts and responses as token ids, log-probabilities, adapters loaded while it runs.

Versions that do not name the ids of what they drew answer with text, which is cut again.

Start it with ``--enable-lora --max-lora-rank RANK --lora-target-modules all`` and, for responses
that a seed repeats, ``--enable-deterministic-inference``.
"""

from acft.engines.adapters import AdapterEngine
from acft.engines.base import ENGINES, Engine, EngineKind
from acft.settings import RunSettings


class SglangEngine(AdapterEngine):
    """The completions protocol with SGLang's own fields."""

    place = ""
    start = (
        "SGLang with --enable-lora, a --max-lora-rank no lower than [adapter] rank, and "
        "--lora-target-modules all"
    )

    def model_name(self, weights: str) -> str:
        """Base and adapter in one name."""
        return f"{self.base_name}:{weights}" if weights else self.base_name


def build(run: RunSettings) -> Engine:
    """An SGLang server with adapters switched on; token ids and log-probabilities are checked."""
    return SglangEngine(run)


ENGINES.add("sglang")(EngineKind(build, needs_server=True))
