"""Drawing in this process with a compiled step, which a GPU replays as a CUDA graph.

The responses are those of ``local`` up to rounding; what differs is who launches the kernels.
"""

import threading
from typing import Any

import torch

from acft.backbone.compiled import CompiledModel
from acft.backbone.compiler import Backend, require_compiler
from acft.backbone.loading import Backbone
from acft.engines.base import ENGINES, DrawRequest, Engine, EngineKind
from acft.engines.local import LocalEngine, draw_here
from acft.sampling import Samples
from acft.settings import RunSettings

Shapes = tuple[tuple[str, tuple[int, ...], torch.dtype], ...]


class CompiledEngine(LocalEngine):
    """Keeps a copy of the model, whose steps are compiled once for all rounds."""

    def __init__(self, backend: Backend = "inductor") -> None:
        """Nothing is compiled before the first response."""
        self._backend = backend
        self._compiled: dict[Shapes, CompiledModel] = {}
        self._lock = threading.Lock()

    def draw(self, backbone: Backbone, weights: str, request: DrawRequest) -> Samples:  # noqa: ARG002
        """See ``sampling.draw``; one call at a time.

        Raises:
            ModelError: The model cannot be compiled.
        """
        model: Any = backbone.model
        shapes = tuple((key, tuple(t.shape), t.dtype) for key, t in model.state_dict().items())
        with self._lock:
            if shapes not in self._compiled:
                self._compiled[shapes] = CompiledModel(model, backbone.name, self._backend)
            compiled = self._compiled[shapes]
            compiled.load(model)
            return draw_here(backbone, request, compiled.continued)


def build(run: RunSettings) -> Engine:  # noqa: ARG001
    """This process, with a compiled step over a fixed cache, on a GPU as a CUDA graph.

    Raises:
        ConfigError: There is no compiler.
    """
    require_compiler("[engine] kind = 'compiled'", "kind to 'local'")
    return CompiledEngine()


ENGINES.add("compiled")(EngineKind(build))
