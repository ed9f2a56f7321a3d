"""What guiding somebody else's ``model.generate`` takes: its hidden states and its base class."""

import hashlib
from typing import Any

import torch
from jaxtyping import Float
from peft import PeftModel
from torch import Tensor, nn
from transformers import LogitsProcessor as LogitsProcessor
from transformers import PreTrainedModel

from acft.backbone.forward import input_embeddings


class HiddenTap:
    """Keeps the newest hidden states of a model's forward passes, whoever calls it."""

    def __init__(self, model: nn.Module) -> None:
        self.hidden: Float[Tensor, "batch width"] | None = None
        """Of the last position, as the output head reads it."""
        self.n_read = 0
        """Positions the last forward pass read."""
        self.is_cached = False
        """Whether it kept a cache, so that the next pass reads only what is new."""
        self.attention_mask: Tensor | None = None
        self._handle = plain_model(model).base_model.register_forward_hook(
            self._take, with_kwargs=True
        )

    def taken(self) -> Float[Tensor, "batch width"] | None:
        """``hidden``, once for each forward pass: who asks again has seen none of this model."""
        hidden, self.hidden = self.hidden, None
        return hidden

    def close(self) -> None:
        """Stop listening."""
        self._handle.remove()
        self.hidden = None

    def _take(self, _: nn.Module, __: tuple, arguments: dict[str, Any], output: Any) -> None:
        hidden = output.last_hidden_state
        self.hidden = hidden[:, -1].detach()
        self.n_read = hidden.shape[1]
        self.is_cached = getattr(output, "past_key_values", None) is not None
        mask = arguments.get("attention_mask")
        self.attention_mask = mask if isinstance(mask, Tensor) and mask.dim() == 2 else None


def plain_model(model: nn.Module) -> PreTrainedModel:
    """The language model itself, without peft's wrapper."""
    found = model.get_base_model() if isinstance(model, PeftModel) else model
    if not isinstance(found, PreTrainedModel):
        raise TypeError(f"not a model of transformers: {type(model).__name__}")
    return found


def embedding_sha256(model: PreTrainedModel) -> str:
    """Hash of the input embedding, equal in float32 and bfloat16."""
    return hashlib.sha256(_rounded(input_embeddings(model))).hexdigest()


def plain_weights_sha256(model: PreTrainedModel) -> str:
    """Hash of every weight but those of adapters, equal in float32 and bfloat16.

    Weights in few bits are left out: how they are packed says nothing of what they are.
    """
    digest = hashlib.sha256()
    named = {name.replace(".base_layer", ""): p for name, p in model.named_parameters()}
    for name in sorted(named):
        if "lora_" not in name and named[name].is_floating_point():
            digest.update(name.encode())
            digest.update(_rounded(named[name]))
    return digest.hexdigest()


def _rounded(weights: Tensor) -> bytes:
    rounded = weights.detach().to("cpu", torch.bfloat16).contiguous()
    return rounded.view(torch.int16).numpy().tobytes()
