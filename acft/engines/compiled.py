"""Drawing in this process with a compiled step, which a GPU replays as a CUDA graph.

The responses are those of ``local`` up to rounding; what differs is who launches the kernels.
"""

import threading
from contextlib import AbstractContextManager

from acft.backbone.compiled import CompiledModel, CompiledSteps
from acft.backbone.compiler import Backend, require_compiler
from acft.backbone.loading import Backbone, resolve_device
from acft.engines.base import ENGINES, Engine, EngineKind, Prepared
from acft.engines.local import LocalEngine
from acft.sampling import DrawRequest, Samples, draw
from acft.settings import RunSettings
from acft.threads import one_thread_each


class CompiledEngine(LocalEngine):
    """Compiles steps once for all rounds; caches and graphs are given back when drawing is over."""

    def __init__(self, backend: Backend = "inductor") -> None:
        """Nothing is compiled before the first response."""
        steps = CompiledSteps(backend)
        self._models = Prepared(lambda own: CompiledModel(own.model, own.name, steps))
        self._lock = threading.Lock()

    def draw(self, backbone: Backbone, weights: str, request: DrawRequest) -> Samples:  # noqa: ARG002
        """See ``sampling.draw``; one call at a time.

        Raises:
            ModelError: The model cannot be compiled.
        """
        # code is compiled for a number of threads, and several batches have one each anyway
        with self._lock, one_thread_each():
            return draw(backbone, request, continued=self._models.of(backbone).continued)

    def prepared(self, backbone: Backbone) -> AbstractContextManager[None]:
        """Draws share caches and graphs."""
        return self._models.scope(backbone)


def build(run: RunSettings) -> Engine:
    """This process, with a compiled step over a fixed cache, on a GPU as a CUDA graph.

    Raises:
        ConfigError: There is no compiler.
        ModelError: The device is not on this machine.
    """
    device = resolve_device(run.device)
    require_compiler("[engine] kind = 'compiled'", "kind to 'local'", device)
    return CompiledEngine()


ENGINES.add("compiled")(EngineKind(build))
