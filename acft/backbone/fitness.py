"""Whether a model can be tuned here: what every other part of the workbench takes for granted."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from acft.backbone.forward import CachedDecoder, hidden_states, logits, text_config
from acft.errors import ModelError

N_TOKENS = 12
"""Length of the text that a model is tried on."""
N_STEPS = 2
"""Tokens by which two beginnings of that text are continued."""
HALVES_TOLERANCE = 0.02
"""Of the largest logit; half precision loses 0.004 of each."""
CAUSAL_TOLERANCE = 0.1
"""Of the mean size of a logit; another length means other kernels and other rounding."""


FAILURES = (AssertionError, AttributeError, LookupError, TypeError, ValueError)
"""What a model's code raises where it has no such way to be read."""


def check_model_fits(model: PreTrainedModel, name: str) -> None:
    """Refuses a model whose log-probabilities would be wrong here, before anything trusts them.

    Raises:
        ModelError: It reads future tokens, keeps no key-value cache, predicts otherwise with it
            or after padding, cannot be read without more than text, or does more between hidden
            states and logits than ``forward.logits`` knows.
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
    _check_drawing(model, name, token_ids[0], whole[0])


def _check_drawing(
    model: PreTrainedModel,
    name: str,
    token_ids: Int[Tensor, " time"],
    whole: Float[Tensor, "time vocab"],
) -> None:
    """Goes on after two beginnings of unequal length, the shorter one padded, as drawing does.

    Args:
        model: To be checked.
        name: For the message.
        token_ids: A text.
        whole: Logits of the text read at once.
    """
    lengths = torch.tensor([N_TOKENS // 2, N_TOKENS // 4], device=model.device)
    places = torch.arange(N_TOKENS // 2, device=model.device) - N_TOKENS // 2 + lengths[:, None]
    state = CachedDecoder(model, token_ids[places.clamp(min=0)], places >= 0)
    for step in range(N_STEPS + 1):
        at = lengths - 1 + step
        change = (_centred(logits(model, state.hidden)) - whole[at]).abs().mean()
        if change > CAUSAL_TOLERANCE * whole.abs().mean():
            raise ModelError(
                f"[model] name = {name!r}, a {model.config.model_type!r}, predicts otherwise when "
                "it reads padded prompts and goes on token by token, as responses are drawn; "
                "choose another model"
            )
        if step < N_STEPS:
            state.append(token_ids[at + 1])


def _centred(scores: Tensor) -> Tensor:
    """Logits of which a common constant, which changes no probability, is taken away."""
    return scores.float() - scores.float().mean(dim=-1, keepdim=True)
