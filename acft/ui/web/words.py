"""Numbers as people read them, with unit, n, or a dash, and what they type to search for."""

import math
import time
from collections.abc import Callable

DASH = "–"
MINUS = "−"
INFINITY = "∞"
Number = float | int
TURNS = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)])
"""Marks of direction, which would turn round what stands beside a text. Source: UAX 9."""
MINUTE, HOUR, DAY = 60, 3600, 86400


def number(value: Number | None, digits: int = 3) -> str:
    """A plain number with ``digits`` significant figures, or a dash."""
    if value is None or not math.isfinite(value):
        return DASH
    if value == 0 or 0.001 <= abs(value) < 100_000:
        decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else digits - 1
        return _minus(f"{value:,.{min(decimals, 4)}f}")
    return _minus(f"{value:.{digits - 1}e}")


def percent(share: Number | None, digits: int = 1) -> str:
    """A share in [0, 1] as percent, or a dash."""
    if share is None or not math.isfinite(share):
        return DASH
    return _minus(f"{100 * share:.{digits}f} %")


def signed(value: Number | None, digits: int = 2) -> str:
    """A number with ``digits`` decimals and, unless they are all zero, its sign; or a dash."""
    if value is None or not math.isfinite(value):
        return DASH
    text = f"{value:+.{digits}f}"
    return _minus(text) if float(text) else text[1:]


def _minus(text: str) -> str:
    """The number with a real minus sign, which is not taken for a dash."""
    return MINUS + text[1:] if text.startswith("-") else text


def interval(low: Number | None, high: Number | None, as_percent: bool = False) -> str:  # noqa: FBT001, FBT002
    """A 95 % interval such as ``12.0 – 18.3 %``; empty when there is none."""
    if not as_percent:
        return ends(low, high, number)
    said = ends(low, high, lambda end: _minus(f"{100 * end:.1f}"))
    return f"{said} %" if said else ""


def ends(
    low: Number | None, high: Number | None, form: Callable[[Number], str], joint: str = " – "
) -> str:
    """Both ends of an interval, one that is unknown or infinite as ∞; empty where none is known."""
    if low is None and high is None:
        return ""
    known = -math.inf if low is None else low, math.inf if high is None else high
    return joint.join(
        form(end) if math.isfinite(end) else INFINITY if end > 0 else MINUS + INFINITY
        for end in known
    )


def count(n: int, noun: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def short(text: str, letters: int) -> str:
    """The text without marks of direction, or its beginning and end where it is longer.

    Titles often differ at the end.
    """
    text = text.translate(TURNS)
    if len(text) <= letters:
        return text
    n_last = letters // 3
    return f"{text[: letters - n_last - 1].rstrip()}…{text[-n_last:].lstrip()}"


def pattern(searched: str) -> str:
    """The regular expression between slashes; empty where the text is to be found as it is."""
    is_pattern = len(searched) > 2 and searched.startswith("/") and searched.endswith("/")
    return searched[1:-1] if is_pattern else ""


def duration(seconds: Number | None) -> str:
    """``42 s``, ``3 min 10 s``, ``2 h 05 min``, ``3 d 4 h``, or a dash."""
    if seconds is None or seconds < 0 or not math.isfinite(seconds):
        return DASH
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE:02d} s"
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE:02d} min"
    return f"{whole // DAY} d {whole % DAY // HOUR} h"


def seconds(value: Number | None) -> str:
    """A short time with its tenths: ``0.35 s``, ``4.2 s``, ``42 s``, then like ``duration``."""
    if value is None or not 0 <= value < MINUTE:
        return duration(value)
    return f"{value:.2f} s" if value < 1 else f"{value:.1f} s" if value < 10 else f"{value:.0f} s"


def span(low: Number, high: Number) -> str:
    """A time between two bounds, or about the one they share when they are close."""
    if high - low < 0.1 * high:
        return f"about {seconds(high)}"
    return f"{seconds(low)} to {seconds(high)}"


def ago(moment: Number) -> str:
    """How long ago a moment (seconds since the epoch) was."""
    if not moment:
        return DASH
    seconds = time.time() - moment
    return "just now" if seconds < 5 else f"{duration(seconds)} ago"
