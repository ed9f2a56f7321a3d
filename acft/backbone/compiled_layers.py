"""A model's layers as compiled code wherever no key-value cache is kept: in training and reading.

The layer's class is replaced, not its instance's ``forward``, so that every copy of the model,
merged or with an adapter, computes with weights of its own and shares what was compiled.
"""

import functools
from typing import Any, no_type_check

import torch
from transformers import Cache, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from acft.backbone.compiler import Backend, compiling, require_compiler
from acft.backbone.forward import text_decoder
from acft.errors import ModelError

BACKEND: Backend = "inductor"
VARIANTS = 64
"""Compilations of one kind of layer: the first, whose input needs no gradient, and the others; with
and without gradients, adapters and a mask; of one text and several; with each number of threads.
Beyond them a layer runs uncompiled."""


def compile_layers(model: PreTrainedModel) -> None:
    """From now on the layers of this model and of all its copies are compiled when first used.

    Raises:
        ConfigError: There is no compiler.
        ModelError: Its architecture has no layers that are known to be independent of each other.
    """
    require_compiler("[optimizer] compile = true", "it to false", model.device.type)
    read = text_decoder(model).modules()
    layers = [module for module in read if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise ModelError(
            f"[optimizer] compile = true: a {model.config.model_type!r} has no layers that could "
            "be compiled one by one; set it to false"
        )
    for layer in layers:
        if not hasattr(layer, "uncompiled"):
            layer.__class__ = _compiled(type(layer), BACKEND)


@functools.cache
def _compiled(
    kind: type[GradientCheckpointingLayer], backend: Backend
) -> type[GradientCheckpointingLayer]:
    compiler: Any = torch.compile  # its overloads do not know of the limit yet
    compiled = compiler(kind.forward, backend=backend, dynamic=True, recompile_limit=VARIANTS)

    class Compiled(kind):
        uncompiled = kind

        @no_type_check  # a compiler would trace the checks too
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            # a cache that grows with each token would be compiled anew for each
            if any(isinstance(value, Cache) for value in (*args, *kwargs.values())):
                return super().forward(*args, **kwargs)
            with compiling(f"a {kind.__name__}", "[optimizer] compile = false"):
                return compiled(self, *args, **kwargs)

    Compiled.__name__ = kind.__name__
    Compiled.__qualname__ = kind.__qualname__
    Compiled.__module__ = kind.__module__
    return Compiled
