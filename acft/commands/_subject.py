"""Whom a command means: a run by its id, or a model."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from acft.errors import ModelError, RunError

if TYPE_CHECKING:
    from acft.settings import ModelSettings


def check_subject(runs_dir: Path, name: str, model: "ModelSettings | None" = None) -> None:
    """Returns if there is such a run, or a model that could be opened; nothing is opened.

    Args:
        runs_dir: Directory of all runs.
        name: What was typed.
        model: Settings of the model, where more than its name was typed.

    Raises:
        RunError: It is neither, or the folder of a run, which is told by its id.
    """
    from acft.backbone.loading import check_model
    from acft.runs.directory import RUN_ID, find_run
    from acft.settings import ModelSettings

    if RUN_ID.fullmatch(name):
        find_run(runs_dir, name)
        return
    folder = Path(name).resolve()
    if RUN_ID.fullmatch(folder.name) and folder.is_dir():
        raise RunError(
            f"{name!r} is the folder of a run; name the run by its id: {folder.name} "
            f"--runs {shlex.quote(str(folder.parent))}"
        )
    try:
        check_model(model or ModelSettings(name=name))
    except ModelError as error:
        raise RunError(
            f"no run and no model {name!r}: {error}; ``acft runs`` lists the runs"
        ) from None
