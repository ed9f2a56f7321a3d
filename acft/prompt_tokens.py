"""Prompts as the model reads them: text, token ids, and whether they leave room for a response."""

from collections.abc import Sequence

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
