"""Weights laid out over several processes: each holds a part of every linear layer.

Layers are sharded one by one with torch's ``fully_shard``, so that base policy, policy and
snapshots share frozen ones as they share any frozen weight. A layer's forward and backward pass
gathers its parts from all processes, which must therefore do the same passes in the same order.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from acft.distributed import ranks
from acft.errors import ModelError

_uneven: "WeakSet[nn.Module]" = WeakSet()
"""Models of which processes do unequal numbers of passes just now."""


def is_divided(sharding: str) -> bool:
    """Whether ``[model] sharding`` lays a model out over the processes of this run."""
    return sharding == "fsdp" and ranks().size > 1


def shard(model: PreTrainedModel, device: str) -> None:
    """Lays the linear layers but the output head out over the processes; the rest stays whole.

    Raises:
        ModelError: There are no linear layers.
    """
    head = model.get_output_embeddings()
    layers = [m for m in model.modules() if type(m) is nn.Linear and m is not head]
    if not layers:
        raise ModelError(
            f"[model] sharding = 'fsdp' divides linear layers, and a {model.config.model_type!r} "
            "has none; set it to 'none'"
        )
    for layer in layers:
        _divide(layer, device)
    model.to(device)  # pyright: ignore[reportArgumentType]


def is_sharded(model: nn.Module) -> bool:
    """Whether some layers of the model are laid out over processes."""
    return any(isinstance(module, FSDPModule) for module in model.modules())


def sharded_layers(model: nn.Module) -> list[nn.Linear]:
    """The layers that are laid out over processes."""
    return [m for m in model.modules() if isinstance(m, FSDPModule) and isinstance(m, nn.Linear)]


def copied_layer(layer: nn.Linear) -> nn.Linear:
    """A layer of its own weights, laid out alike; ``fully_shard`` leaves no module to copy."""
    has_bias = isinstance(layer.bias, Tensor)
    shape = layer.in_features, layer.out_features
    copied = nn.Linear(*shape, bias=has_bias, device="meta", dtype=layer.weight.dtype)
    with torch.no_grad():
        copied.to_empty(device=layer.weight.device)
        _divide(copied, layer.weight.device.type)
        for new, old in zip(copied.parameters(), layer.parameters(), strict=True):
            new.copy_(old)
            new.requires_grad_(old.requires_grad)
    return copied


def whole(tensor: Tensor) -> Tensor:
    """The tensor itself, or all its parts from all processes, which must then ask together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def laid_out(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor on the device of ``like``, and laid out over processes if that is."""
    tensor = tensor.to(like.device)
    if isinstance(tensor, DTensor) or not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


@contextmanager
def uneven_passes(model: nn.Module) -> Iterator[None]:
    """Within it, processes may do unequal numbers of forward passes, as drawing needs.

    Whoever is done does idle passes until all are. Nothing happens for a model that is not sharded.

    Source: the idea of ``torch.distributed.algorithms.Join``.
    """
    if model in _uneven or not is_sharded(model):
        yield
        return
    decoder: Any = model.base_model

    def announce(*_: object) -> None:
        ranks().any(mine=True)

    _uneven.add(model)
    handle = decoder.register_forward_pre_hook(announce)
    try:
        yield
    finally:
        _uneven.discard(model)
        handle.remove()
    with torch.no_grad():
        while ranks().any(mine=False):
            decoder(input_ids=torch.zeros(1, 1, dtype=torch.long, device=decoder.device))


def _divide(layer: nn.Linear, device: str) -> None:
    mesh = init_device_mesh(device, (ranks().size,))
    sharded: Any = fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    # what inference mode allocates first could not be trained through later
    sharded.unshard()
    sharded.reshard()
