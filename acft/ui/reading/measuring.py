"""What an evaluation measures on whom, from its settings and events."""

from typing import Any

from acft.ui.reading.reader import Run, table_of

FIRST = {"base": 0, "control": 1}
"""Subjects that the others are compared with are measured before them."""
JUDGED = ("rtp", "toxigen", "collateral")
"""Suites that say how many responses are toxic."""
KEEPING = (*JUDGED, "fluency", "win_rate")
"""Suites that keep the responses they draw."""


def suites_of(run: Run) -> list[str]:
    """The suites of an evaluation in order; none of a training."""
    return _names(run.settings, "method", "suites")


def judges_of(run: Run) -> list[str]:
    """The scorers that judge the responses of a run."""
    return _names(run.settings, "evaluation", "scorers")


def _names(settings: dict[str, Any], table: str, key: str) -> list[str]:
    found = table_of(settings, table).get(key)
    return [str(name) for name in found] if isinstance(found, (list, tuple)) else []


def subjects_of(run: Run) -> list[str]:
    """The subjects of an evaluation in the order in which they are measured."""
    names = table_of(table_of(run.settings, "method"), "subjects")
    return sorted(names, key=lambda name: (FIRST.get(name, len(FIRST)), name))


def being_measured(run: Run) -> str:
    """Suite and subject that are measured now; empty where what has failed hides it."""
    parts = [f"{suite} of {subject}" for subject in subjects_of(run) for suite in suites_of(run)]
    # A part that fails is not counted among the finished ones, and the next one goes on.
    has_failed = any(note.level == "warning" for _, note in run.history.notes)
    is_known = not has_failed and run.status.round < len(parts) == run.status.rounds
    return parts[run.status.round] if is_known else ""


def goes_on(run: Run) -> bool:
    """Whether a run is at work or will be without being asked to."""
    return run.state.is_live or run.state.state == "queued"


def may_tell(run: Run, suites: tuple[str, ...]) -> bool:
    """Whether one of these suites will still compare two policies in this run.

    A training measures base and policy itself.
    """
    if run.status.kind == "training":
        return goes_on(run)
    is_asked = any(suite in suites for suite in suites_of(run))
    return goes_on(run) and is_asked and len(subjects_of(run)) > 1
