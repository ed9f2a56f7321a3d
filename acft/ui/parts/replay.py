"""A run played as if it were live: the same page, shown only what was known at each moment."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from acft.eventlog import Entry
from acft.runs.directory import status_after
from acft.runs.status import RunState
from acft.schema import Status
from acft.ui.reading.reader import Run, history_of
from acft.ui.web import words
from acft.ui.web.dom import Node, act, choose, el

SPEEDS = (10.0, 30.0, 100.0, 300.0)
NORMAL = 30.0
FRAME_SECONDS = 1.0
"""Between two pictures of a replay."""


@dataclass(frozen=True)
class Clock:
    """Where a replay is; runs by itself unless ``speed`` is 0."""

    since: float
    """Monotonic time at which it was set."""
    at: float
    """Recorded seconds since the run began, then."""
    speed: float
    """Recorded seconds for one real second."""
    resume: float = NORMAL
    """Speed to go on with after a pause."""

    def position(self, now: float) -> float:
        """Recorded seconds since the run began."""
        return self.at + (now - self.since) * self.speed

    def is_moving(self, now: float, length: float) -> bool:
        """Whether the next picture will differ: neither paused nor over."""
        return self.speed > 0 and self.position(now) < length

    def changed(self, now: float, length: float, data: dict[str, Any]) -> "Clock":
        """The clock after a control was used: pause, continue, speed or place."""
        at, do = min(self.position(now), length), data.get("do")
        if do == "pause":
            return Clock(now, at, 0.0, self.speed or self.resume)
        if do == "continue":
            return Clock(now, at, self.resume, self.resume)
        value = _number(data.get("value"))
        if do == "place":
            return Clock(now, max(0.0, min(value, length)), self.speed, self.resume)
        speed = value if value in SPEEDS else NORMAL
        return Clock(now, at, speed if self.speed else 0.0, speed)


def as_of(run: Run, entries: Sequence[Entry], seconds: float) -> Run:
    """The run as an observer saw it ``seconds`` after its beginning."""
    if not entries or seconds >= duration(entries):
        return run
    moment = entries[0].time + seconds
    known = [entry for entry in entries if entry.time <= moment]
    before = Status(
        state="starting", kind=run.status.kind, created=run.status.created,
        rounds=run.status.rounds, steps=run.status.steps, device=run.status.device,
    )  # fmt: skip
    status = replace(
        status_after(known, before), heartbeat=moment, seconds_left=entries[-1].time - moment
    )
    return replace(run, status=status, state=RunState(status.state), history=history_of(known))


def duration(entries: Sequence[Entry]) -> float:
    """Seconds from the first to the last event."""
    return entries[-1].time - entries[0].time if entries else 0.0


def started(query: dict[str, str], now: float | None = None) -> Clock | None:
    """The clock of an address that asks for a replay (``play=30&place=90``), else None."""
    asked = _number(query.get("play", ""))
    if not asked:
        return None
    speed = asked if asked in SPEEDS else NORMAL
    place = max(0.0, _number(query.get("place", "")))
    place = place if math.isfinite(place) else 0.0
    return Clock(time.monotonic() if now is None else now, place, speed, speed)


def link(run: Run) -> str:
    """Address of a run's replay."""
    return f"run?run={run.run_id}&play={NORMAL:.0f}"


def bar(run_id: str, clock: Clock, length: float, now: float) -> Node:
    """Where the replay is, and its controls."""
    at = min(clock.position(now), length)
    is_over = at >= length
    told = f"{words.duration(at)} of {words.duration(length)}"
    place = el(
        "input", type="range", min="0", max=str(math.ceil(length)), step="1", value=f"{at:.0f}",
        aria_label="Place in the recording, seconds", aria_valuetext=told,
        **act("replay", do="place"),
    )  # fmt: skip
    pairs = [(f"{speed:.0f}", f"{speed:.0f} ×") for speed in SPEEDS]
    speeds = choose(pairs, f"{clock.resume:.0f}", "Speed", **act("replay", do="speed"))
    pause = "continue" if clock.speed == 0 else "pause"
    again = el("a.do", "Play again", href=f"run?run={run_id}&play={clock.resume:.0f}")
    button = el("button.do", pause.capitalize(), type="button", **act("replay", do=pause))
    return el(
        "div.replay",
        el("b", "Replay over. " if is_over else "Replay of a recorded run. "),
        el("span.num", told),
        place,
        again if is_over else button,
        el("label.side", "speed ", speeds),
        el("a.do", "Show the finished run", href=f"run?run={run_id}"),
        role="group",
        aria_label="Replay",
        data_place=f"{at:.0f}",
    )  # fmt: skip


def _number(text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return 0.0
