"""How a CPU multiplies: which library computes float32 products, and how weights lie in memory."""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from acft.backbone.forward import output_head


def use_wide_vectors() -> bool:
    """Whether float32 products of this process go through oneDNN from now on.

    MKL keeps to 256-bit vectors on other makers' CPUs than its own, oneDNN does not: about twice
    the products a second with like rounding error (``python -m benchmarks.products``). PyTorch
    chooses oneDNN when bfloat16 factors are permitted; only CPUs with matrix units would make use
    of the permission, so those are left alone.
    """
    cpu = torch.cpu.get_capabilities()
    is_mkls_maker = "Intel" in str(cpu.get("cpu_name", ""))
    is_better = bool(cpu.get("avx512_f")) and not cpu.get("amx_tile") and not is_mkls_maker
    if is_better:
        torch.set_float32_matmul_precision("medium")
    return is_better


@torch.no_grad()
def lay_out_by_input(model: PreTrainedModel) -> None:
    """Lets the weights of one input lie side by side in every linear layer, in place.

    That is how a product of few rows reads them, such as a batch that is drawn token by token;
    with many rows it makes no difference. Shapes and values stay. The output head, which may be the
    table of embeddings as well, keeps its rows.
    """
    head: Any = output_head(model)
    for layer in model.modules():
        if isinstance(layer, nn.Linear) and layer is not head:
            layer.weight.data = layer.weight.data.t().contiguous().t()
