"""Forward passes in two halves: token ids to hidden states, hidden states to logits."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel


def hidden_states(
    model: PreTrainedModel, token_ids: Int[Tensor, "batch time"]
) -> Float[Tensor, "batch time width"]:
    """Last hidden states after the final norm, as the output head reads them.

    Texts are padded on the right: no token looks at later ones, so no mask is needed, without which
    kernels are faster. States of the padding mean nothing.
    """
    return model.base_model(input_ids=token_ids, use_cache=False).last_hidden_state


def response_states(
    model: PreTrainedModel,
    prompt_ids: Int[Tensor, "batch prompt"],
    prompt_mask: Bool[Tensor, "batch prompt"],
    response_ids: Int[Tensor, "batch step"],
    response_mask: Bool[Tensor, "batch step"],
) -> Float[Tensor, "batch window width"]:
    """Last hidden states of the last prompt token and of every response token.

    Prompts are padded on the left, responses on the right.
    """
    mask = torch.cat([prompt_mask, response_mask], dim=1).long()
    output = model.base_model(
        input_ids=torch.cat([prompt_ids, response_ids], dim=1),
        attention_mask=mask,
        position_ids=positions(mask),
        use_cache=False,
    )
    return output.last_hidden_state[:, prompt_ids.shape[1] - 1 :]


def positions(mask: Int[Tensor, "batch time"]) -> Int[Tensor, "batch time"]:
    """Places in the text, counted from its first token, wherever its padding is."""
    return (mask.cumsum(dim=-1) - 1).clamp(min=0)


def text_config(model: PreTrainedModel) -> Any:
    """The configuration of the part that reads and writes text, which a multimodal model nests."""
    return model.config.get_text_config()


def text_decoder(model: PreTrainedModel) -> Any:
    """The part that text passes through up to the output head."""
    base: Any = model.base_model
    return base.get_decoder()


def output_head(model: PreTrainedModel) -> Any:
    """The module that turns hidden states into logits."""
    return model.get_output_embeddings()


def logits(
    model: PreTrainedModel, hidden: Float[Tensor, "*axes width"]
) -> Float[Tensor, "*axes vocab"]:
    """Unnormalised log-probabilities in float32, with the model's own scaling and soft cap."""
    scores, config = output_head(model)(hidden).float(), text_config(model)
    scale = getattr(config, "logit_scale", None)
    if scale is not None:
        scores = scores * scale
    divisor = getattr(config, "logits_scaling", None)
    if divisor is not None:
        scores = scores / divisor
    cap = getattr(config, "final_logit_softcapping", None)
    if cap is not None:
        scores = torch.tanh(scores / cap) * cap
    return scores


def has_plain_head(model: PreTrainedModel) -> bool:
    """Whether logits are one matrix product of the hidden states, without scale, cap or adapter."""
    head = output_head(model)
    extras = ("logit_scale", "logits_scaling", "final_logit_softcapping")
    is_scaled = any(getattr(text_config(model), name, None) is not None for name in extras)
    return type(head) is nn.Linear and head.bias is None and not is_scaled


def head_weight(model: PreTrainedModel) -> Float[Tensor, "vocab width"]:
    """Weight of the output head."""
    return output_head(model).weight


def input_embeddings(model: PreTrainedModel) -> Float[Tensor, "vocab width"]:
    """Weight of the input embedding."""
    embedding: Any = model.get_input_embeddings()
    return embedding.weight
