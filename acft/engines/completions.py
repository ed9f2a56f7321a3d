"""Servers of which only the completions protocol is known."""

from acft.engines.base import ENGINES, Engine, EngineKind
from acft.engines.server import CompletionEngine
from acft.settings import RunSettings


def build(run: RunSettings) -> Engine:
    """Any server of the completions protocol; it is started anew with each round's weights."""
    return CompletionEngine(run)


ENGINES.add("completions")(EngineKind(build, needs_server=True))
