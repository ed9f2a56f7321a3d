"""Frozen weights in 4 or 8 bits, by bitsandbytes."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from acft.errors import ModelError
from acft.settings import ModelSettings

DEVICES = ("cpu", "cuda")


def is_quantized(model: nn.Module) -> bool:
    """Whether some weights of the model are stored in fewer bits."""
    return bool(getattr(model, "is_quantized", False))


def loading_options(settings: ModelSettings, device: str, dtype: torch.dtype) -> dict[str, Any]:
    """What ``from_pretrained`` needs to quantise while it loads; nothing where it need not.

    Raises:
        ModelError: bitsandbytes is missing, or cannot compute on the device.
    """
    kind = settings.quantization
    if kind == "none":
        return {}
    if find_spec("bitsandbytes") is None:
        raise ModelError(
            f"[model] quantization = {kind!r} needs bitsandbytes, which is not installed; "
            "install acft[quantized], or set it to 'none'"
        )
    if device not in DEVICES:
        raise ModelError(
            f"[model] quantization = {kind!r} is not possible on device = {device!r} "
            f"(allowed: {', '.join(DEVICES)}); set it to 'none'"
        )
    from transformers import BitsAndBytesConfig  # noqa: PLC0415 - imports bitsandbytes

    chosen = (
        BitsAndBytesConfig(load_in_8bit=True)
        if kind == "int8"
        else BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    )
    return {"quantization_config": chosen, "device_map": {"": device}}


def make_shareable(model: nn.Module) -> None:
    """Ends what bitsandbytes does to weights when they are first used.

    It repacks 4-bit weights on some CPUs, in place, and moves 8-bit ones out of their parameter;
    copies that share the parameters would then read another layout than they think.
    """
    for module in model.modules():
        layer: Any = module
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
        if hasattr(layer, "init_8bit_state") and layer.weight.CB is not None:
            layer.init_8bit_state()


def shared_tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    """Quantised weights that lie outside of the parameters."""
    for module in model.modules():
        state: Any = getattr(module, "state", None)
        yield from (
            t for t in (getattr(state, "CB", None), getattr(state, "SCB", None)) if t is not None
        )
