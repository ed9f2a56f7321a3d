"""Conversations as the text that a model was taught to read."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from jinja2 import TemplateError

from acft.errors import DataError, ModelError

MARK = "acft-response"
"""Stands for a response, to see what a template puts behind it."""
SHOWN = 40
"""Letters of a message in an error, enough to find it by."""
CLOCK = "strftime_now"
"""What templates ask for the date."""
DAY = datetime(2026, 1, 1)  # noqa: DTZ001 - as templates see it, a day without a place
"""That all templates are told: a run that goes on tomorrow must read the same prompts."""
ON_ONE_DAY = (
    f"{{% macro {CLOCK}(form) %}}{{{{ form"
    + "".join(
        f" | replace('%{sign}', '{DAY.strftime('%' + sign)}')" for sign in "aAbBdejmyYHIMSpfcxXF"
    )
    + " | replace('%-d', '1') | replace('%-m', '1') }}{% endmacro %}{{ '' }}"
)
"""Put before a template; the clock that transformers gives it cannot be set otherwise."""
REFUSALS = (
    TemplateError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError,
    RecursionError,
)  # fmt: skip
"""What comes out of a template that cannot make a text of a conversation."""


def as_chat(turns: Sequence[tuple[str, str]], tokenizer: Any, name: str = "") -> str:
    """(role, text) of each message, wrapped by the tokenizer's template up to the response.

    Args:
        turns: Messages before the response.
        tokenizer: Anything with the chat template of a tokenizer of transformers.
        name: Of the model, for messages.

    Raises:
        ModelError: The tokenizer has no chat template.
        DataError: The template does not take these messages, or leaves the last one out.
    """
    if not tokenizer.chat_template:
        raise ModelError(
            f"[model] chat_template = true, but the tokenizer{name and f' of {name!r}'} has none; "
            "set it to false to read raw text"
        )
    try:
        text = _rendered(tokenizer, turns, is_question=True)
    except REFUSALS as error:
        roles = ", ".join(role for role, _ in turns) or "none"
        raise DataError(
            f"the model's chat template does not take a conversation of the roles {roles}: "
            f"{error}; change those texts, or set [model] chat_template to false"
        ) from None
    if turns and turns[-1][1].strip() not in text:
        raise DataError(
            f"the model's chat template leaves out the text of the last message, by "
            f"{turns[-1][0]!r} and beginning {turns[-1][1].strip()[:SHOWN]!r}; set [model] "
            "chat_template to false, or give the model another template"
        )
    return text


def _rendered(tokenizer: Any, turns: Sequence[tuple[str, str]], *, is_question: bool) -> str:
    conversation = [{"role": role, "content": content} for role, content in turns]
    options: dict[str, Any] = {"tokenize": False, "add_generation_prompt": is_question}
    if CLOCK in str(tokenizer.chat_template):
        options["chat_template"] = ON_ONE_DAY + tokenizer.get_chat_template()
    return str(tokenizer.apply_chat_template(conversation, **options))


def response_end(tokenizer: Any, end_ids: Collection[int]) -> list[int]:
    """The token that ends a response in the chat template; none where no token ends texts.

    Args:
        tokenizer: As for ``as_chat``.
        end_ids: At which drawing stops; where the template puts none of them behind a response, it
            is the tokenizer's end of text.
    """
    turns = [("user", "Why?"), ("assistant", MARK)]
    behind = ""
    if tokenizer.chat_template:
        with suppress(*REFUSALS):
            behind = _rendered(tokenizer, turns, is_question=False).partition(MARK)[2]
    own = [i for i in tokenizer.encode(behind, add_special_tokens=False) if i in end_ids]
    if own or tokenizer.eos_token_id is None:
        return own[:1]
    return [int(tokenizer.eos_token_id)]
