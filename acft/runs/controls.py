"""Runs that may serve as control of another: what a change of its policy must exceed."""

from pathlib import Path
from typing import Any

from acft.errors import AcftError
from acft.runs.directory import all_runs, find_run, read_labels, read_status
from acft.runs.measure import CONTROL, POLICY, best_subject, unlike
from acft.runs.spec import Spec, spec_of
from acft.schema import RunPaths
from acft.settings import UNMEASURED

PLAIN = "sft"
REGULARIZED = "acft"
"""Method that is plain fine-tuning where its ``WEIGHT`` is 0; without it others are not."""
WEIGHT = "method.kl_weight"
OF_THE_METHOD = ("method.", "oracle.")
"""Beginnings of settings by which a method may differ from its control."""


def controls(runs_dir: Path, run_id: str) -> tuple[list[str], str]:
    """Finished trainings that ``acft evaluate --control`` takes for a run, newest first, and one.

    That one has the same settings without the constraint at work; empty where none or several have.

    Raises:
        AcftError: There is no such run, its settings cannot be read, or no round of it is sealed.
    """
    paths = find_run(runs_dir, run_id)
    measured = spec_of(paths)
    result = best_subject(paths, measured)
    found, twins = [], []
    for other in reversed(all_runs(runs_dir)):
        control = _trained(other) if other.root.name != run_id else None
        if control is None:
            continue
        spec, subject = control
        if unlike(measured, spec, {POLICY: result, CONTROL: subject}):
            continue
        found.append(other.root.name)
        if _is_plain(spec) and not _is_plain(measured) and _shared(spec) == _shared(measured):
            twins.append(other.root.name)
    return found, twins[0] if len(twins) == 1 else ""


def _trained(paths: RunPaths) -> tuple[Spec, dict[str, Any]] | None:
    """Settings and result of a finished training that is listed; None of any other run."""
    status = read_status(paths)
    if status.state != "finished" or status.kind != "training" or read_labels(paths).archived:
        return None
    try:
        spec = spec_of(paths)
        return spec, best_subject(paths, spec)
    except AcftError:  # it cannot be opened, so it is no choice; its own page says why
        return None


def _is_plain(spec: Spec) -> bool:
    is_unweighted = spec.method_name == REGULARIZED and spec.values[WEIGHT] == 0
    return spec.method_name == PLAIN or is_unweighted


def _shared(spec: Spec) -> dict[str, Any]:
    """The settings that a run shares with its control."""
    return {
        name: value
        for name, value in spec.values.items()
        if name not in UNMEASURED and not name.startswith(OF_THE_METHOD)
    }
