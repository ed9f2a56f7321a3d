"""What a decoder is, and its sessions, whose every answer is checked before a token is drawn."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from acft.errors import DataError

TOLERANCE = 1e-2
"""Nats by which log-probabilities may miss a mass of 1; nobody who forgets to normalise does."""

HALF_TOLERANCE = 5e-2
"""The same in 16 bits, where each log-probability below -8 is itself rounded by up to 0.03."""


@runtime_checkable
class Session(Protocol):
    """A decoder at work on one batch."""

    def reweight(
        self,
        next_logprobs: Float[Tensor, "batch vocab"],
        hidden: Float[Tensor, "batch width"],
        token_ids: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch vocab"]:
        """Log-probabilities to draw the next token from.

        ``hidden`` and ``token_ids`` belong to the newest token of each sequence.
        """
        ...


@runtime_checkable
class Decoder(Protocol):
    """A way to turn the policy's next-token distribution into the one that is sampled."""

    truncates: ClassVar[bool]
    """Whether it leaves unlikely tokens out by itself. What it gives is then drawn from whole, at
    top-p 1: a second nucleus would leave out more than its source does."""

    def start(self, prompts: Sequence[str], prompt_ids: Sequence[Sequence[int]]) -> Session:
        """A session for one batch of responses, one to each prompt."""
        ...


def check_decoder(decoder: object) -> None:
    """Returns if it is a decoder.

    Raises:
        DataError: It is a class, or lacks a part.
    """
    kind = decoder if isinstance(decoder, type) else type(decoder)
    who = f"decoder {kind.__qualname__} of {kind.__module__}"
    if isinstance(decoder, type):
        raise DataError(f"{who} is a class; give a decoder that is made of it")
    if not isinstance(decoder, Decoder):
        raise DataError(
            f"{who} is none; it must have a method start, and an attribute truncates, which is "
            "True if it leaves unlikely tokens out by itself and else False"
        )


def begin(
    decoder: Decoder, prompts: Sequence[str], prompt_ids: Sequence[Sequence[int]]
) -> "CheckedSession":
    """A session for one batch of responses, one to each prompt.

    Raises:
        DataError: The decoder starts none.
    """
    session: Any = decoder.start(prompts, prompt_ids)
    who = f"decoder {type(decoder).__qualname__}"
    if not isinstance(session, Session):
        raise DataError(
            f"{who} gave {session!r} for {len(prompts)} prompts; its start{line_of(decoder.start)}"
            " must return a session, which has a method reweight"
        )
    return CheckedSession(session, f"{who}, method reweight{line_of(session.reweight)},")


@dataclass
class CheckedSession:
    """A session that is believed only as far as its answers can be drawn from."""

    session: Session
    who: str
    """How messages begin."""
    _has_begun: bool = False

    def reweight(
        self,
        next_logprobs: Float[Tensor, "batch vocab"],
        hidden: Float[Tensor, "batch width"],
        token_ids: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch vocab"]:
        """Log-probabilities to draw the next token from.

        Raises:
            DataError: The session gave no log-probabilities of every token.
        """
        shape, device = next_logprobs.shape, next_logprobs.device
        given: Any = self.session.reweight(next_logprobs, hidden, token_ids)
        fits = isinstance(given, Tensor) and (given.shape, given.device) == (shape, device)
        if not fits or not given.is_floating_point():
            raise DataError(
                f"{self.who} gave {_told(given)}; it must give the log-probability of every next "
                f"token as a tensor of shape {[*shape]} of floating point numbers on {device}"
            )
        tolerance = TOLERANCE if given.dtype.itemsize > 2 else HALF_TOLERANCE
        if not self._has_begun:  # the mass of all tokens each time would cost as much as drawing
            mass = given.float().logsumexp(dim=-1)
            self._refuse("as probabilities they add up to", mass, mass.abs() <= tolerance)
        elif device.type == "cpu":  # a GPU would be waited for
            highest = given.amax(dim=-1)
            self._refuse("the likeliest token has", highest, highest <= tolerance)
        self._has_begun = True
        return given

    def check_drawn(
        self, logprobs: Float[Tensor, "batch length"], is_there: Bool[Tensor, "batch length"]
    ) -> None:
        """Returns if all tokens of responses were drawn from a distribution.

        Raises:
            DataError: There was none for one of them.
        """
        lost = (logprobs.isnan() & is_there).nonzero()
        if len(lost):
            raise DataError(
                f"{self.who} left no token possible, or gave NaN, for token {int(lost[0, 1]) + 1} "
                "of a response; it must leave at least one token possible, such as the end"
            )

    def _refuse(
        self, what: str, logs: Float[Tensor, " batch"], is_right: Bool[Tensor, " batch"]
    ) -> None:
        if not bool(is_right.all()):
            wrong = logs[~is_right]
            raise DataError(
                f"{self.who} gave no log-probabilities for {len(wrong)} of {len(logs)} responses: "
                f"{what} {float(wrong[0].double().exp()):.4g} in one of them; it must "
                "leave a token possible and end with log_softmax(dim=-1)"
            )


def _told(given: object) -> str:
    """An answer in a few words, however large it is."""
    if not isinstance(given, Tensor):
        return "None" if given is None else f"a {type(given).__name__}"
    return f"a tensor of shape {[*given.shape]} of {given.dtype} on {given.device}"


def line_of(method: Any) -> str:
    """File and line where a method is written; empty where it is not written in Python."""
    function = inspect.unwrap(getattr(method, "__func__", method))
    if not inspect.isfunction(function):
        return ""
    return f" ({function.__code__.co_filename}, line {function.__code__.co_firstlineno})"
