"""Attention on a CPU in which heads that share keys and values read them together.

Transformers' eager attention copies keys and values for every head first. Without the copies the
products are the same numbers, added up in the same order.
"""

import inspect
import sys
from types import ModuleType
from typing import Any, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask
from transformers.models.llama import modeling_llama

GROUPED = "grouped_eager"
"""Name of this attention among those of transformers."""


@no_type_check  # a compiler would trace the checks too
def grouped_attention(
    module: nn.Module,
    query: Float[Tensor, "batch head time width"],
    key: Float[Tensor, "batch group seen width"],
    value: Float[Tensor, "batch group seen width"],
    attention_mask: Float[Tensor, "#batch 1 #time seen"] | None,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Float[Tensor, "batch time head width"], Float[Tensor, "batch head time seen"]]:
    """Mixed values and the weights they were mixed by."""
    batch, heads, time, width = query.shape
    groups, seen = key.shape[1:3]
    folded = query.reshape(batch, groups, heads // groups * time, width)
    scores = (folded @ key.transpose(2, 3)).view(batch, heads, time, seen) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    mixed = weights.view(batch, groups, heads // groups * time, seen) @ value
    return mixed.view(batch, heads, time, width).transpose(1, 2).contiguous(), weights


def group_heads(model: PreTrainedModel) -> None:
    """Lets the model use this attention where its own is Llama's and heads share keys and values.

    Others, such as those with a soft cap or sinks, keep theirs.
    """
    layers: list[Any] = [m for m in model.modules() if hasattr(m, "num_key_value_groups")]
    if layers and all(m.num_key_value_groups > 1 and _is_llamas(m) for m in layers):
        model.set_attn_implementation(GROUPED)


def _is_llamas(layer: nn.Module) -> bool:
    return _eager_source(sys.modules[type(layer).__module__]) == _eager_source(modeling_llama)


def _eager_source(module: ModuleType) -> str:
    function = getattr(module, "eager_attention_forward", None)
    return inspect.getsource(function) if function is not None else ""


AttentionInterface.register(GROUPED, grouped_attention)
AttentionMaskInterface.register(GROUPED, eager_mask)
