"""Opening the policies that are measured: the model itself, a checkpoint, another model."""

import os
from pathlib import Path

from acft.config import Config
from acft.errors import DataError
from acft.policy import Policy, base_policy, trainable_policy
from acft.settings import NonNegative, RunSettings

POLICY_FOLDER = "policy"
"""Inside a checkpoint."""


class SubjectSettings(Config):
    """One policy to be measured."""

    model: str = ""
    """Model, as in ``[model]``; empty takes the run's own."""
    checkpoint: str = ""
    """Folder of a sealed checkpoint of that model; empty measures the model as it is."""
    version: NonNegative = 0
    """Finished policy updates, for the record."""


def open_subject(run: RunSettings, subject: SubjectSettings) -> Policy:
    """The policy with its adapter merged, ready to draw.

    Raises:
        DataError: The checkpoint is not there.
        ModelError: Model or weights do not open.
    """
    if subject.model:
        model = run.model.model_copy(update={"name": subject.model, "revision": ""})
        run = run.model_copy(update={"model": model})
    base = base_policy(run, workers=os.cpu_count() or 1)
    if subject.checkpoint:
        folder = Path(subject.checkpoint) / POLICY_FOLDER
        if not folder.is_dir():
            raise DataError(
                f"no checkpoint at {subject.checkpoint!r}; name a sealed round's folder"
            )
        trained = trainable_policy(base, run.adapter, run.seed)
        trained.load(folder, subject.version)
        base = trained.snapshot(base)
    base.version = subject.version
    return base
