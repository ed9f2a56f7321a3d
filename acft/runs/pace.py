"""How fast a run goes and how long it will take, told from its progress events."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from acft.events import Progress


@dataclass
class _Phase:
    started: float
    first_done: int
    seconds: float = 0.0


class Pace:
    """Measures phases and rounds.

    A round is expected to take as long as the last whole one; in the first round only the rest of
    the current phase can be told, and so it is in all of them where rounds are not alike.
    """

    def __init__(
        self,
        rounds: int,
        clock: Callable[[], float] = time.monotonic,
        *,
        are_alike: bool = True,
    ) -> None:
        self._rounds = rounds
        self._are_alike = are_alike
        self._clock = clock
        self._round_started = clock()
        self._last_round_seconds: float | None = None
        self._current: tuple[int, str] | None = None
        self._phase = _Phase(clock(), 0)
        self._last: Progress | None = None

    def progress(self, event: Progress) -> None:
        """Takes note of a progress event."""
        key = (event.round, event.phase)
        if key != self._current or (self._last and event.done < self._last.done):
            self._current = key
            self._phase = _Phase(self._clock(), event.done)
        self._phase.seconds = self._clock() - self._phase.started
        self._last = event

    def round_finished(self) -> None:
        """Takes note of the end of a round."""
        now = self._clock()
        self._last_round_seconds = now - self._round_started
        self._round_started = now

    @property
    def rate(self) -> float | None:
        """Units of the current phase per second; None before two measurements."""
        if self._last is None or self._phase.seconds <= 0:
            return None
        done = self._last.done - self._phase.first_done
        return done / self._phase.seconds if done else None

    @property
    def phase_seconds_left(self) -> float | None:
        """Expected rest of the current phase in seconds."""
        if self._last is None or not self.rate:
            return None
        return (self._last.total - self._last.done) / self.rate

    def seconds_left(self, finished_rounds: int) -> float | None:
        """Expected rest of all rounds in seconds; None where the last tells nothing of the next."""
        if self._last_round_seconds is None or not self._are_alike:
            return None
        elapsed = self._clock() - self._round_started
        expected = self._last_round_seconds * (self._rounds - finished_rounds) - elapsed
        return max(expected, self.phase_seconds_left or 0.0, 0.0)
