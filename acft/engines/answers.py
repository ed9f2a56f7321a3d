"""From a server's answer to the tokens of a response, or to the reason why they are not certain."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from acft.prompt_tokens import INCOMPLETE


@dataclass(frozen=True)
class Answer:
    """One completion as a server tells it; None is what it does not tell."""

    text: str
    is_stopped: bool
    """It ended by itself, not at the longest length."""
    n_tokens: int | None = None
    n_prompt_tokens: int | None = None
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    """Of each token in nats; some servers tell them at the temperature they draw at."""
    end_id: int | None = None
    """The token it ended at."""


class Uncertain(Exception):  # noqa: N818 - a verdict, not an error
    """Nobody can say which tokens the server drew."""


def answer_of(reply: Any) -> Answer:
    """What a reply in the form of the completions protocol says.

    Raises:
        ValueError: It has another form.
    """
    try:
        choice = reply["choices"][0]
        usage = reply.get("usage") or {}
        ids = choice.get("token_ids")
        told = (choice.get("logprobs") or {}).get("token_logprobs")
        end = choice.get("matched_stop")  # SGLang's; it may also be a text
        return Answer(
            text=str(choice["text"]),
            is_stopped=choice.get("finish_reason") == "stop",
            n_tokens=usage.get("completion_tokens"),
            n_prompt_tokens=usage.get("prompt_tokens"),
            token_ids=None if ids is None else tuple(map(int, ids)),
            logprobs=None if told is None or None in told else tuple(map(float, told)),
            end_id=end if isinstance(end, int) else None,
        )
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"no completion: {type(error).__name__} {error}") from None


def response_ids(
    answer: Answer, tokenizer: Any, end_ids: Collection[int], horizon: int
) -> tuple[int, ...]:
    """The tokens that were drawn, with the one that ends it if it was.

    Text alone leaves them open: the same letters may be cut into tokens in several ways. It is
    taken where cutting and joining give it back and the server counts as many tokens.

    Args:
        answer: What the server says.
        tokenizer: The policy's.
        end_ids: Tokens that end a response; see ``Backbone.end_ids``.
        horizon: Longest response in tokens.

    Raises:
        Uncertain: They cannot be told.
    """
    ids = answer.token_ids
    if ids is None:
        ids = _cut(answer, tokenizer, horizon)
    if not 1 <= len(ids) <= horizon:
        raise Uncertain(f"{len(ids)} tokens")
    if not set(end_ids).isdisjoint(ids[:-1]):
        raise Uncertain("text goes on after its end")
    if (len(ids) < horizon or answer.is_stopped) and ids[-1] not in end_ids:
        raise Uncertain("it ends at another token than the policy's responses")
    if answer.n_tokens is not None and answer.n_tokens != len(ids):
        raise Uncertain(f"{len(ids)} tokens, and the server counts {answer.n_tokens}")
    return ids


def _cut(answer: Answer, tokenizer: Any, horizon: int) -> tuple[int, ...]:
    ids = tuple(tokenizer(answer.text, add_special_tokens=False)["input_ids"])
    joined = tokenizer.decode(list(ids), skip_special_tokens=True)
    # which bytes it was that make no letter, the text does not say
    if joined != answer.text or INCOMPLETE in answer.text:
        raise Uncertain("the text does not come back from its tokens")
    if answer.n_tokens is None:
        raise Uncertain("the server neither names nor counts tokens")
    end = tokenizer.eos_token_id if answer.end_id is None else answer.end_id
    # the end of text has no letters; at the longest length servers do not say that it was drawn
    is_ended = answer.is_stopped or answer.n_tokens == horizon
    if end is not None and is_ended and answer.n_tokens == len(ids) + 1:
        ids = (*ids, end)
    return ids
