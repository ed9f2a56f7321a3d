"""Writing a run's tuned policy into the folder of the run, for other programs to open."""

from pathlib import Path

from acft.export import export_within, hints
from acft.inference.server import Session
from acft.runs.directory import find_run
from acft.runs.exports import Export
from acft.runs.space import check_room


def export(
    _: Session,
    runs: str,
    run_id: str,
    checkpoint: int,
    *,
    is_merged: bool,
    has_oracle: bool,
    quota_bytes: int = 0,
) -> list[str]:
    """What whoever uses the export has to know, once it is in the folder of the run.

    Raises:
        AcftError: The run has no such round, no adapter or no oracle, or there is no room.
    """
    check_room(Path(runs), 0, quota_bytes)
    paths = find_run(Path(runs), run_id)
    export_within(paths.root, Export(checkpoint, is_merged, has_oracle))
    return hints(paths.root, with_oracle=has_oracle)
