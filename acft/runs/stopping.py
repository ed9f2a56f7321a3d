"""How long a run that was asked to stop has before it is terminated and killed."""

import time

SAVE_SECONDS = 300.0
"""A run asked to stop after its step has so long before it is terminated."""
NOW_SECONDS = 20.0
"""A run asked to stop now has so long before it is terminated."""
TERMINATE_SECONDS = 20.0
"""A terminated run has so long before it is killed."""


def stop_action(mode: str, waited_seconds: float) -> tuple[str, float]:
    """What to do with a run that was asked to stop, and the seconds until the next stage.

    The stages are ``wait``, ``terminate`` and ``kill``.
    """
    patience = _patience(mode)
    if waited_seconds < patience:
        return "wait", patience - waited_seconds
    if waited_seconds < patience + TERMINATE_SECONDS:
        return "terminate", patience + TERMINATE_SECONDS - waited_seconds
    return "kill", 0.0


def waited_before(mode: str, asked: float) -> float:
    """Seconds that count as waited when a request made at ``asked`` is first seen.

    Who asked while nobody looked does not wait twice, but none is killed without termination.
    """
    return min(max(0.0, time.time() - asked), _patience(mode))


def outlook(mode: str, waited_seconds: float) -> str:
    """What was asked of a run, and what happens when it does not end by itself."""
    when = "after this step" if mode == "save" else "at once"
    action, left = stop_action(mode, waited_seconds)
    if action == "wait":
        then = f"if it does not end, it is terminated in {_span(left)}"
    elif action == "terminate":
        then = f"it did not end, so it is terminated, and killed in {_span(left)}"
    else:
        then = "it did not end, so it is terminated and killed"
    return f"stopping {when} (asked {_span(waited_seconds)} ago); {then}"


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _patience(mode: str) -> float:
    return SAVE_SECONDS if mode == "save" else NOW_SECONDS
