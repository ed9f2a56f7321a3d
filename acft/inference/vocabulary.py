"""Whether tokenizer, policy, oracle and prompts speak of the same tokens."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from torch import Tensor

from acft.backbone.forward import head_weight
from acft.backbone.loading import Backbone
from acft.prompt_tokens import encode_prompt
from acft.settings import RunSettings
from acft.types import Prompt

LONGEST = 200
"""Prompts with the most letters whose tokens are counted."""


@dataclass(frozen=True)
class Check:
    """One thing that must fit another."""

    name: str
    is_ok: bool
    text: str
    """What was found, with numbers."""

    def plain(self) -> dict[str, Any]:
        """The check as JSON values."""
        return asdict(self)


def check_vocabulary(
    backbone: Backbone, run: RunSettings, prompts: Sequence[Prompt], scorers: Sequence[str]
) -> list[Check]:
    """What can be told before anything is computed; a failed one makes training fail."""
    return [
        _ids(backbone),
        _end(backbone),
        _padding(backbone),
        _longest(backbone, run, prompts),
        Check(
            "Scorers",
            True,  # noqa: FBT003
            f"{', '.join(scorers) or 'none named'}: they read text, so their own vocabulary needs "
            "no match",
        ),
    ]


def check_oracle(backbone: Backbone, n_tokens: int) -> Check:
    """Whether the oracle has an opinion on every token of the policy."""
    rows = head_weight(backbone.model).shape[0]
    return Check("Oracle", n_tokens == rows, f"judges {n_tokens:,} tokens, the policy has {rows:,}")


def _ids(backbone: Backbone) -> Check:
    highest = max(backbone.tokenizer.get_vocab().values())
    inputs = cast("Tensor", backbone.model.get_input_embeddings().weight).shape[0]
    outputs = head_weight(backbone.model).shape[0]
    text = f"token ids up to {highest:,}; the model embeds {inputs:,} and predicts {outputs:,}"
    return Check("Tokenizer and model", highest < min(inputs, outputs), text)


def _end(backbone: Backbone) -> Check:
    ids = list(backbone.end_ids)
    tokens = backbone.tokenizer.convert_ids_to_tokens(ids)
    text = ", ".join(f"{token} ({i})" for token, i in zip(tokens, ids, strict=True))
    none = "neither tokenizer nor model has one, so every response runs to sampling.horizon"
    return Check("End of text", bool(ids), text or none)


def _padding(backbone: Backbone) -> Check:
    tokenizer = backbone.tokenizer
    text = f"{tokenizer.pad_token} ({tokenizer.pad_token_id})"
    if tokenizer.pad_token_id is None:
        text = "none, nor an end of text; padding is masked"
    elif tokenizer.pad_token_id == tokenizer.eos_token_id:
        text += ", the end of text stands in for it; padding is masked"
    return Check("Padding", is_ok=True, text=text)


def _longest(backbone: Backbone, run: RunSettings, prompts: Sequence[Prompt]) -> Check:
    likely = sorted(prompts, key=lambda prompt: -len(prompt.text))[:LONGEST]
    template = run.model.chat_template
    most = max(len(encode_prompt(backbone, p, chat_template=template)) for p in likely)
    horizon, context = run.sampling.horizon, backbone.context_length
    needed = max(most + horizon, run.optimizer.max_tokens)
    text = (
        f"longest prompt {most:,} + horizon {horizon:,}, longest document "
        f"{run.optimizer.max_tokens:,} tokens; the model reads {context:,}"
    )
    return Check("Length", needed <= context, text)
