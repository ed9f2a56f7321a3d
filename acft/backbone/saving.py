"""Writing a model so that transformers or peft open it without this package."""

import json
import shutil
from importlib.metadata import version
from pathlib import Path

from peft import LoraConfig
from peft.utils.transformers_weight_conversion import (
    convert_peft_adapter_state_dict_for_transformers,
)
from safetensors.torch import load_file
from torch import nn

from acft.backbone.adapters import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from acft.backbone.loading import Backbone
from acft.backbone.quantized import is_quantized
from acft.errors import ModelError


def write_model(backbone: Backbone, folder: Path) -> None:
    """Safetensors in the weights' own dtype, configuration and tokenizer.

    Raises:
        ModelError: The weights are quantised; an adapter cannot be merged into them.
    """
    if is_quantized(backbone.model):
        raise ModelError(
            f"the frozen weights of {backbone.name!r} are quantised ([model] quantization), so "
            "there are no whole weights to write; write the adapter alone"
        )
    backbone.model.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)


def write_adapter(checkpoint: Path, backbone: Backbone, base_name: str, folder: Path) -> None:
    """A checkpoint's adapter in peft's form, with the tokenizer; ``base_name`` may be empty.

    Raises:
        ModelError: Peft would not find all of its weights again.
    """
    shutil.copyfile(checkpoint / ADAPTER_WEIGHTS, folder / ADAPTER_WEIGHTS)
    config = json.loads((checkpoint / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base_name or None
    (folder / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    _require_read_again(folder, backbone)
    backbone.tokenizer.save_pretrained(folder)


def _require_read_again(folder: Path, backbone: Backbone) -> None:
    """Peft renames weights as transformers does a model's own, which it gets wrong for some."""
    written = load_file(folder / ADAPTER_WEIGHTS)
    config = LoraConfig.from_pretrained(str(folder))
    read = convert_peft_adapter_state_dict_for_transformers(backbone.model, config, {**written})
    if lost := written.keys() - read.keys():
        raise ModelError(
            f"peft {version('peft')} reads {len(lost)} of {len(written)} weights of an adapter of "
            f"a {backbone.model.config.model_type!r} under wrong names and would leave them out "
            f"(first: {min(lost)!r}); export it merged"
        )


def weight_bytes(model: nn.Module) -> int:
    """Size of all weights, tied ones counted once."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
