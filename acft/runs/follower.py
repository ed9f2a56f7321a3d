"""A process that trains along with the one that writes the run directory, and writes nothing."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from acft.distributed import agreed, together
from acft.runs.worker import StartingPoint
from acft.training.outputs import Checkpoint, TrainContext

if TYPE_CHECKING:
    from acft.runs.spec import Spec


def follow(spec: "Spec", begin: StartingPoint) -> None:
    """Do this process's part of a run from there on; see ``acft.distributed``.

    Ctrl-C, which a launcher passes on to all processes, is left to the first one.
    """
    context = TrainContext(spec.settings, *begin, should_stop=agreed(lambda: False))
    with _deaf(), context.opened, together():
        for output in spec.method.train(spec.method_settings, context):
            if isinstance(output, Checkpoint):
                with TemporaryDirectory() as folder:
                    output.save(Path(folder))  # parts of tensors go to the process that writes


@contextmanager
def _deaf() -> Iterator[None]:
    """Within it Ctrl-C does nothing; only the main thread may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
