"""A process that trains along with the one that writes the run directory, and writes nothing."""

from typing import TYPE_CHECKING

from acft.distributed import agreed
from acft.methods.base import TrainContext

if TYPE_CHECKING:
    from acft.runs.spec import Spec


def follow(spec: "Spec") -> None:
    """Do this process's part of a run; see ``acft.distributed``."""
    context = TrainContext(spec.settings, should_stop=agreed(lambda: False))
    for _ in spec.method.train(spec.method_settings, context):
        pass
