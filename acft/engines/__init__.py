"""What draws responses: this process, or an OpenAI-compatible server; one file adds one kind."""

from acft.engines.base import ENGINES, Engine, EngineKind, build_engine
from acft.engines.places import refuse_places

__all__ = ["ENGINES", "Engine", "EngineKind", "build_engine", "refuse_places"]
