"""Prompts and responses as text and as tokens, and whether a prompt leaves room for a response."""

from collections.abc import Sequence
from typing import Any

from acft.backbone.loading import Backbone
from acft.chat import as_chat
from acft.errors import DataError
from acft.types import Prompt


def encode_prompt(backbone: Backbone, prompt: Prompt, *, chat_template: bool) -> tuple[int, ...]:
    """Token ids of a prompt, raw or wrapped in the tokenizer's chat template.

    Raises:
        DataError: The prompt has no tokens, or the chat template does not take it.
        ModelError: The tokenizer has no chat template.
    """
    text = full_prompt(backbone, prompt, chat_template=chat_template)
    ids = backbone.tokenizer(text, add_special_tokens=not chat_template)["input_ids"]
    if not ids:
        raise DataError(f"prompt {prompt.prompt_id!r} is empty after tokenisation; remove it")
    return tuple(ids)


def full_prompt(backbone: Backbone, prompt: Prompt, *, chat_template: bool) -> str:
    """A prompt's text as the model reads it.

    Raises:
        DataError: The chat template does not take a lone question.
        ModelError: The tokenizer has no chat template.
    """
    if not chat_template:
        return prompt.text
    return as_chat([("user", prompt.text)], backbone.tokenizer, backbone.name)


def check_lengths(
    prompts: Sequence[Prompt], encoded: list[tuple[int, ...]], horizon: int, context: int
) -> None:
    """Refuses prompts that leave no room for a response.

    Raises:
        DataError: There are such.
    """
    too_long = [
        (prompt.prompt_id, len(ids))
        for prompt, ids in zip(prompts, encoded, strict=True)
        if len(ids) + horizon > context
    ]
    if too_long:
        name, length = too_long[0]
        raise DataError(
            f"{len(too_long)} prompts do not fit the model's context of {context} tokens with "
            f"[sampling] horizon = {horizon}; the first is {name!r} with {length} tokens; "
            "shorten or remove them, or lower the horizon"
        )


def response_text(tokenizer: Any, prompt_ids: Sequence[int], response_ids: Sequence[int]) -> str:
    """Text of a response as it follows its prompt, without special tokens.

    Some tokenizers drop the space before the first word of whatever they decode, so both are
    decoded together.
    """

    def decode(ids: Sequence[int]) -> str:
        return str(tokenizer.decode(list(ids), skip_special_tokens=True))

    before, whole = decode(prompt_ids), decode([*prompt_ids, *response_ids])
    # a tokenizer may also tidy up where the two meet
    return whole.removeprefix(before) if whole.startswith(before) else decode(response_ids)
