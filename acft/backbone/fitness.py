"""Whether a model can be tuned here: what every other part of the workbench takes for granted."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from acft.backbone.cached_decoder import CachedDecoder
from acft.backbone.forward import hidden_states, logits, text_config
from acft.chat import as_chat
from acft.errors import ModelError
from acft.settings import ModelSettings

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
def check_finite(model: PreTrainedModel, name: str) -> None:
    """Refuses weights that are no numbers, which show only in some texts.

    Raises:
        ModelError: A weight is infinite or NaN.
    """
    for weight, values in model.named_parameters():
        if values.is_floating_point() and values.numel():
            low, high = values.aminmax()
            if not (low.isfinite() and high.isfinite()):
                raise ModelError(
                    f"[model] name = {name!r} has infinite or undefined numbers in its weights "
                    f"{weight!r}; copy the file again, or take an earlier checkpoint of it"
                )


def check_tokens(model: PreTrainedModel, tokenizer: Any, settings: ModelSettings) -> None:
    """Refuses a tokenizer or ends of responses that name tokens the model does not have.

    Added tokens may lie beyond the model's where no text has them, as padding does.

    Raises:
        ModelError: There are such.
    """
    n_tokens = text_config(model).vocab_size
    added = set(tokenizer.added_tokens_decoder)
    highest = max((i for i in tokenizer.get_vocab().values() if i not in added), default=0)
    if settings.chat_template:
        text = as_chat([("user", "Why?")], tokenizer, settings.name)
        highest = max([highest, *tokenizer.encode(text, add_special_tokens=False)])
    if highest >= n_tokens:
        raise ModelError(
            f"[model] name = {settings.name!r} knows {n_tokens:,} tokens, but its tokenizer makes "
            f"tokens up to number {highest:,}; take the tokenizer that belongs to it"
        )
    named = getattr(model.generation_config, "eos_token_id", None)
    for end in named if isinstance(named, list) else [named]:
        if end is not None and not (type(end) is int and 0 <= end < n_tokens):
            raise ModelError(
                f"[model] name = {settings.name!r} says that responses end at the token {end!r} "
                f"(eos_token_id of generation_config.json), expected a number below {n_tokens:,}; "
                "correct it there"
            )


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
    if not change <= CAUSAL_TOLERANCE * whole.abs().mean():  # nor may either be no number
        raise ModelError(
            f"[model] name = {name!r}, a {model.config.model_type!r}, looks at later tokens when "
            "it predicts earlier ones; choose a model that was trained to continue text"
        )
    ours = _centred(logits(model, hidden_states(model, token_ids)))
    if not (ours - whole).abs().max() <= HALVES_TOLERANCE * whole.abs().max():
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
        if not change <= CAUSAL_TOLERANCE * whole.abs().mean():
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
