"""A process that trains along with the one that writes the run directory, and writes nothing."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from acft.distributed import agreed, together
from acft.runs.worker import StartingPoint
from acft.training.outputs import Checkpoint, TrainContext

if TYPE_CHECKING:
    from acft.runs.spec import Spec


def follow(spec: "Spec", begin: StartingPoint) -> None:
    """Do this process's part of a run from there on; see ``acft.distributed``."""
    context = TrainContext(spec.settings, *begin, should_stop=agreed(lambda: False))
    with context.opened, together():
        for output in spec.method.train(spec.method_settings, context):
            if isinstance(output, Checkpoint):
                with TemporaryDirectory() as folder:
                    output.save(Path(folder))  # parts of tensors go to the process that writes
