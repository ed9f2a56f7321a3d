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
    asked = "to end after its step" if mode == "save" else "to end at once"
    action, left = stop_action(mode, waited_seconds)
    if action == "wait":
        then = f"else terminated in {left:.0f} s and killed {TERMINATE_SECONDS:.0f} s later"
    elif action == "terminate":
        then = f"did not, so it is terminated, and killed in {left:.0f} s"
    else:
        then = "did not, so it is terminated and killed"
    return f"asked {asked} {waited_seconds:.0f} s ago; {then}"


def _patience(mode: str) -> float:
    return SAVE_SECONDS if mode == "save" else NOW_SECONDS
