"""Asking the process that holds the models: who may, on which device, and how it fails."""

from collections.abc import Generator
from typing import Any

from acft.assets import is_ready
from acft.errors import AcftError, RunError
from acft.inference.client import result_of
from acft.ui import page
from acft.ui.page import Visit, Workbench
from acft.ui.reading.reader import Run
from acft.ui.web.dom import Node, choose, el

NO_MODEL = (
    "live answers are off in this read-only demonstration: they need the packaged model, which a "
    "workbench of your own has"
)
OBTAINING = (
    "live answers begin here once this Space has obtained the model, some minutes after it "
    "started; try again in a while"
)
WAITING = "Waiting for the models to be free, one question is answered at a time"
LOAD_SECONDS = 900.0
"""Opening a model on a busy machine takes minutes at worst."""


def is_possible(bench: Workbench) -> bool:
    """Whether anybody who opens this workbench could get live results."""
    on_space = is_ready() or bench.obtaining.is_going
    return not bench.bind.is_demo or (bench.bind.is_space and on_space)


def may_compute(bench: Workbench, visit: Visit) -> bool:
    """Whether this visit may use the machine's processor for live results."""
    return visit.may_change or (bench.bind.is_space and is_ready())


def refusal(bench: Workbench) -> str:
    """Why a visit may not compute."""
    if bench.obtaining.is_going:
        return OBTAINING
    return NO_MODEL if bench.bind.is_demo else page.refusal(bench)


def ask(bench: Workbench, visit: Visit, operation: str, run: Run, **arguments: Any) -> Any:
    """The result of an operation on a run's models.

    Raises:
        AcftError: The visit may not compute, the device is training, or the operation failed.
    """
    return result_of(follow(bench, visit, operation, run, **arguments))


def follow(
    bench: Workbench, visit: Visit, operation: str, run: Run, **arguments: Any
) -> Generator[Any, None, Any]:
    """Partial results of an operation on a run's models; the generator returns the result.

    Raises:
        AcftError: The visit may not compute, the device is training, or the operation failed.
    """
    if not may_compute(bench, visit):
        raise AcftError(refusal(bench))
    not_while_training(bench)
    runs = str(bench.reader.runs_dir)
    return (
        yield from bench.model_process.stream(
            operation, LOAD_SECONDS, visit.withdrawn, runs=runs, run_id=run.run_id, **arguments
        )
    )


def not_while_training(bench: Workbench) -> None:
    """A GPU that trains has no room for a second copy of the model."""
    device = bench.model_process.device
    if device == "cpu":
        return
    runs = bench.reader.runs()
    busy = [run.title for run in runs if run.state.is_live and run.status.device == device]
    if busy:
        raise RunError(
            f"{device} is training {busy[0]!r}; live results return when it has finished, "
            "or stop the run"
        )


def trained(bench: Workbench, run: Run | None) -> Run | None:
    """The run that trained the policies a run is about: itself, or the one a measurement measures.

    A measurement keeps numbers in its checkpoints and no policy. None where there is no such run.
    """
    if run is None or run.status.kind == "training":
        return run
    return bench.reader.run(run.launch.subject)


def policies_of(bench: Workbench, run: Run | None) -> Run:
    """As ``trained``, for who is going to ask it.

    Raises:
        RunError: There is no such run.
    """
    found = trained(bench, run)
    if found is None:
        raise RunError(_nobody(run))
    return found


def unavailable(run: Run | None) -> Node:
    """Why no policy of a run can answer or score a text live."""
    why = _nobody(run)
    return el("p.side", f"{why[:1].upper()}{why[1:]}.")


def _nobody(run: Run | None) -> str:
    if run is None:
        return "there is no run yet whose policies could answer or score a text"
    if run.status.kind == "training":
        return "live answers need a run with a sealed round"
    return (
        f"live answers need the run that {run.run_id} measures, and "
        f"{run.launch.subject or 'what it measures'} is no run here with a sealed round"
    )


def versions(run: Run) -> list[int]:
    """Policy versions that can be opened: the base and every sealed checkpoint."""
    sealed = {r.policy_version for r in run.history.rounds
              if run.paths.checkpoint(r.policy_version).is_dir()}  # fmt: skip
    return [0, *sorted(sealed)]


def preferred_version(run: Run) -> int:
    """The version that is measured and exported unasked; where it is freed, the newest there is."""
    sealed, best = versions(run), run.history.best
    return best.round if best and best.round in sealed else sealed[-1]


def version_menu(run: Run, chosen: int, base: str, **attributes: Any) -> Node:
    """A menu of the versions that can be opened; ``base`` names the frozen start."""
    best, names = run.history.best, {0: base}
    if best:
        names[best.round] = f"version {best.round}, preferred"
    options = [(str(v), names.get(v, f"version {v}")) for v in versions(run)]
    return choose(options, str(chosen), "Policy version", data_query="live_version", **attributes)
