"""Prompts and responses as text and as tokens, and whether a prompt leaves room for a response."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from acft.chat import as_chat
from acft.errors import DataError
from acft.types import Prompt

if TYPE_CHECKING:
    from acft.backbone.loading import Backbone

Decode = Callable[[Sequence[int]], str]
"""Tokens to their text, with or without special ones."""

SHOWN = 40
"""Letters of a prompt in an error, enough to find it by."""
INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
"""What bytes decode to that are no whole letter."""
LETTER_TOKENS = 4
"""Tokens that spell one letter at most: as many as UTF-8 has bytes. Source: RFC 3629."""


def encode_prompt(backbone: "Backbone", prompt: Prompt, *, chat_template: bool) -> tuple[int, ...]:
    """Token ids of a prompt, raw or wrapped in the tokenizer's chat template.

    Raises:
        DataError: The prompt has no tokens, or the chat template does not take it.
        ModelError: The tokenizer has no chat template.
    """
    if prompt.token_ids:
        return prompt.token_ids
    text = full_prompt(backbone, prompt, chat_template=chat_template)
    ids = backbone.tokenizer(text, add_special_tokens=not chat_template)["input_ids"]
    if not ids:
        raise DataError(f"prompt {prompt.text!r} has no tokens; remove it")
    return tuple(ids)


def full_prompt(backbone: "Backbone", prompt: Prompt, *, chat_template: bool) -> str:
    """A prompt's text as the model reads it.

    Raises:
        DataError: The chat template does not take a lone question.
        ModelError: The tokenizer has no chat template.
    """
    if not chat_template:
        return prompt.text
    return as_chat([("user", prompt.text)], backbone.tokenizer, backbone.name)


def encoded_pair(
    tokenizer: Any, prompt: str, response: str, *, is_chat: bool = False
) -> tuple[list[int], list[int]]:
    """Token ids of a prompt and of the response that follows it.

    They are encoded apart, but by tokenizers that put a space before the first word of whatever
    they encode together, where that leaves the prompt's tokens as they are. A prompt in a chat
    template has its special tokens already.
    """
    before = tokenizer.encode(prompt, add_special_tokens=not is_chat)
    if _adds_space(tokenizer):
        both = tokenizer.encode(prompt + response, add_special_tokens=not is_chat)
        if both[: len(before)] == before:
            return before, both[len(before) :]
    return before, tokenizer.encode(response, add_special_tokens=False)


def _adds_space(tokenizer: Any) -> bool:
    line, word, both = (tokenizer.encode(t, add_special_tokens=False) for t in ("\n", "a", "\na"))
    return both != line + word


def check_lengths(
    prompts: Sequence[Prompt], encoded: list[tuple[int, ...]], horizon: int, context: int
) -> None:
    """Refuses prompts that leave no room for a response.

    Raises:
        DataError: There are such.
    """
    too_long = [
        (" ".join(prompt.text.split())[:SHOWN], len(ids))
        for prompt, ids in zip(prompts, encoded, strict=True)
        if len(ids) + horizon > context
    ]
    if too_long:
        beginning, length = too_long[0]
        raise DataError(
            f"{len(too_long)} prompts do not fit the model's context of {context} tokens with "
            f"[sampling] horizon = {horizon}; the first begins {beginning!r} and has {length} "
            "tokens; shorten or remove them, or lower the horizon"
        )


def response_text(decode: Decode, prompt_ids: Sequence[int], response_ids: Sequence[int]) -> str:
    """Text of a response as it follows its prompt."""
    return response_texts(decode, prompt_ids, [response_ids])[0]


def response_texts(
    decode: Decode, prompt_ids: Sequence[int], responses: Iterable[Sequence[int]]
) -> list[str]:
    """Texts of responses as they follow one prompt.

    Some tokenizers drop the space before the first word of whatever they decode, so prompt and
    response are decoded together.
    """
    before = _decoded(decode, prompt_ids)
    is_whole = not before.endswith(INCOMPLETE)  # else a letter goes on after it
    texts = []
    for ids in responses:
        both = _decoded(decode, [*prompt_ids, *ids])
        # a tokenizer may also tidy up where the two meet
        is_apart = is_whole and both.startswith(before)
        texts.append(both.removeprefix(before) if is_apart else _decoded(decode, ids))
    return texts


def _decoded(decode: Decode, ids: Sequence[int]) -> str:
    """The text of tokens that may end within a letter.

    Where single bytes stand for rare letters, some tokenizers give up all letters before such an
    end that are spelled so, too.
    """
    text = decode(ids)
    for n in range(1, LETTER_TOKENS if text.endswith(INCOMPLETE) else 1):
        whole = decode(ids[: max(0, len(ids) - n)])
        if not whole.endswith(INCOMPLETE):
            return text if text.startswith(whole) else whole + INCOMPLETE
    return text
