"""Whether a model can be tuned here: what every other part of the workbench takes for granted."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from acft.backbone.forward import hidden_states, logits, text_config
from acft.errors import ModelError

N_TOKENS = 12
"""Length of the text that a model is tried on."""
HALVES_TOLERANCE = 0.02
"""Of the largest logit; half precision loses 0.004 of each."""
CAUSAL_TOLERANCE = 0.1
"""Of the mean size of a logit; another length means other kernels and other rounding."""


FAILURES = (AssertionError, AttributeError, LookupError, TypeError, ValueError)
"""What a model's code raises where it has no such way to be read."""


def check_model_fits(model: PreTrainedModel, name: str) -> None:
    """Refuses a model whose log-probabilities would be wrong here, before anything trusts them.

    Raises:
        ModelError: It reads future tokens, keeps no key-value cache, cannot be read without more
            than text, or does more between hidden states and logits than ``forward.logits`` knows.
    """
    try:
        _check(model, name)
    except FAILURES as error:
        raise ModelError(
            f"[model] name = {name!r}, a {model.config.model_type!r}, cannot be read as a plain "
            f"decoder of text ({type(error).__name__}: {error}); choose another model"
        ) from error


@torch.no_grad()
def _check(model: PreTrainedModel, name: str) -> None:
    spread = torch.arange(N_TOKENS, device=model.device) * 7919 % text_config(model).vocab_size
    token_ids = spread[None]
    output = model(input_ids=token_ids, use_cache=True)
    if not hasattr(getattr(output, "past_key_values", None), "reorder_cache"):
        raise ModelError(
            f"[model] name = {name!r}, a {model.config.model_type!r}, keeps no key-value cache, "
            "without which responses cannot be drawn; choose a transformer decoder"
        )
    whole = _centred(output.logits)
    half = model(input_ids=token_ids[:, : N_TOKENS // 2], use_cache=False).logits
    change = (_centred(half) - whole[:, : N_TOKENS // 2]).abs().mean()
    if change > CAUSAL_TOLERANCE * whole.abs().mean():
        raise ModelError(
            f"[model] name = {name!r}, a {model.config.model_type!r}, looks at later tokens when "
            "it predicts earlier ones; choose a model that was trained to continue text"
        )
    ours = _centred(logits(model, hidden_states(model, token_ids)))
    if (ours - whole).abs().max() > HALVES_TOLERANCE * whole.abs().max():
        raise ModelError(
            f"[model] name = {name!r}, a {model.config.model_type!r}, turns hidden states into "
            "logits in a way that acft/backbone/forward.py does not know; choose another model"
        )


def _centred(scores: Tensor) -> Tensor:
    """Logits of which a common constant, which changes no probability, is taken away."""
    return scores.float() - scores.float().mean(dim=-1, keepdim=True)
