"""Conversations as the text that a model was taught to read."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any

from jinja2 import TemplateError

from acft.errors import DataError, ModelError

MARK = "acft-response"
"""Stands for a response, to see what a template puts behind it."""


def as_chat(turns: Sequence[tuple[str, str]], tokenizer: Any, name: str = "") -> str:
    """(role, text) of each message, wrapped by the tokenizer's template up to the response.

    Args:
        turns: Messages before the response.
        tokenizer: Anything with the chat template of a tokenizer of transformers.
        name: Of the model, for messages.

    Raises:
        ModelError: The tokenizer has no chat template.
        DataError: The template does not take these messages.
    """
    if not tokenizer.chat_template:
        raise ModelError(
            f"[model] chat_template = true, but the tokenizer{name and f' of {name!r}'} has none; "
            "set it to false to read raw text"
        )
    conversation = [{"role": role, "content": content} for role, content in turns]
    try:
        text = tokenizer.apply_chat_template(
            conversation, tokenize=False, add_generation_prompt=True
        )
    except TemplateError as error:
        roles = ", ".join(role for role, _ in turns) or "none"
        raise DataError(
            f"the model's chat template does not take a conversation of the roles {roles}: "
            f"{error}; change those texts, or set [model] chat_template to false"
        ) from None
    return str(text)


def response_end(tokenizer: Any, end_ids: Collection[int]) -> list[int]:
    """The token that ends a response in the chat template; none where no token ends texts.

    Args:
        tokenizer: As for ``as_chat``.
        end_ids: At which drawing stops; where the template puts none of them behind a response, it
            is the tokenizer's end of text.
    """
    turns = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": MARK}]
    behind = ""
    if tokenizer.chat_template:
        with suppress(TemplateError):
            text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=False)
            behind = str(text).partition(MARK)[2]
    own = [i for i in tokenizer.encode(behind, add_special_tokens=False) if i in end_ids]
    if own or tokenizer.eos_token_id is None:
        return own[:1]
    return [int(tokenizer.eos_token_id)]
