"""Whose question is answered now, and who waits in which order."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from acft.ui.web import words
from acft.ui.web.dom import Node, el

MOST_TURNS = 200
"""Tabs that are remembered to wait; one that is closed then does not say so."""
SEEN_SECONDS = 90.0
"""After which a tab that waits and gives no sign counts as closed; one in the background gives a
sign once a minute."""

Key = tuple[str, int]
"""A tab, and the place of its page where the answer will stand."""


@dataclass(eq=False)
class Turn:
    """What a tab has asked for."""

    data: dict[str, Any]
    """What the clicked control carries; Gradio hands it to the first handler of a chain only."""
    seen: float
    """When the tab gave its last sign, by a monotonic clock."""
    is_begun: bool = False


class Turns:
    """What waits or is under way, in the order in which it came."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._turns: dict[Key, Turn] = {}

    def join(self, key: Key, data: dict[str, Any]) -> bool:
        """Whether the question is taken: a place has one at a time."""
        if key in self._turns:
            return False
        # Copies here and below, since other threads take and leave turns meanwhile.
        for oldest in [*self._turns][: max(0, len(self._turns) - MOST_TURNS + 1)]:
            self._turns.pop(oldest, None)
        self._turns[key] = Turn(data, self._clock())
        return True

    def begin(self, key: Key) -> Turn | None:
        """The question whose turn it is now; None where it was withdrawn or is begun already."""
        turn = self._turns.get(key)
        if turn is None or turn.is_begun:
            return None
        turn.is_begun = True
        return turn

    def leave(self, key: Key, turn: Turn | None = None) -> None:
        """Forgets a question; of one that is given only if no other has taken its place."""
        if turn is None or self._turns.get(key) is turn:
            self._turns.pop(key, None)

    def ahead(self, key: Key) -> int | None:
        """How many questions come before one that waits, of which this is a sign; None if none."""
        now, before = self._clock(), 0
        for name, turn in [*self._turns.items()]:
            if name == key:
                turn.seen = now
                return None if turn.is_begun else before
            before += turn.is_begun or now - turn.seen < SEEN_SECONDS
        return None


@dataclass(frozen=True)
class Stream:
    """A connected generator."""

    dependency: Any
    place: int
    """The component that shows what it waits for, shared by streams that exclude each other."""


@dataclass(frozen=True)
class Line:
    """A part of the page that tells who waits for what, and the timer that keeps it true."""

    shown: Any
    timer: Any


def line_of(ahead: int | None) -> Node:
    """How many questions of others are answered first; nothing where none is, or nothing waits."""
    if not ahead:
        return ""
    verb = "is" if ahead == 1 else "are"
    return el("p.side", f"{words.count(ahead, 'question')} {verb} answered before yours.",
              role="status")  # fmt: skip
