"""Running jobs in threads of their own: two of a round at once, or one that cannot yield."""

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, TypeVar

from acft.training.outputs import Output
from acft.training.streams import own_stream

A = TypeVar("A")
B = TypeVar("B")


def both(
    first: Generator[Output, None, A],
    second: Generator[Output, None, B],
    *,
    at_once: bool,
    device: str = "cpu",
) -> Generator[Output, None, tuple[A, B]]:
    """Outputs of both jobs; returns their results.

    Run at once, each job has a thread of its own. Outputs come as they are made; an error in either
    is raised here, and the other ends after its present output.

    Args:
        first: Job that begins.
        second: Job that runs beside it, or after it.
        at_once: Whether they overlap.
        device: Where both compute; on a GPU each gets a stream of its own.
    """
    if not at_once:
        a = yield from first
        b = yield from second
        return a, b
    outputs: queue.Queue[Output | _Job] = queue.Queue()
    jobs = [
        _Job(generator, outputs, partial(own_stream, device, number))
        for number, generator in enumerate((first, second))
    ]
    try:
        for job in jobs:
            job.start()
        yield from _until_ended(outputs, len(jobs))
    finally:
        for job in jobs:
            job.cancel()
        for job in jobs:
            job.join()
    return jobs[0].result, jobs[1].result


Emit = Callable[[Output], None]


def emitted(work: Callable[[Emit], None]) -> Generator[Output, None, None]:
    """What ``work`` passes to its argument, as it comes; ``work`` runs in a thread of its own.

    An error in it is raised here. When nobody asks for more, its next call raises in the thread.
    """
    outputs: queue.Queue[Output | _Job] = queue.Queue()
    is_abandoned = threading.Event()

    def emit(output: Output) -> None:
        if is_abandoned.is_set():
            raise _Abandoned
        outputs.put(output)

    def run() -> Generator[Output, None, None]:
        work(emit)
        yield from ()

    job = _Job(run(), outputs)
    job.start()
    try:
        yield from _until_ended(outputs, 1)
    finally:
        is_abandoned.set()
        job.join()


class _Abandoned(Exception):  # noqa: N818 - not an error
    """Ends work whose outputs nobody reads."""


class _Job(threading.Thread):
    """A generator being run to its end by a thread of its own."""

    def __init__(
        self,
        generator: Generator[Output, None, Any],
        outputs: "queue.Queue[Output | _Job]",
        within: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        super().__init__(daemon=True)
        self._generator = generator
        self._outputs = outputs
        self._within = within
        self._is_cancelled = threading.Event()
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """Pass on every output, then the job itself."""
        try:
            with self._within():
                self._run()
        except BaseException as error:  # noqa: BLE001 - raised again in the waiting thread
            self.error = error
        finally:
            self._outputs.put(self)

    def _run(self) -> None:
        try:
            while not self._is_cancelled.is_set():
                self._outputs.put(next(self._generator))
            self._generator.close()
        except StopIteration as end:
            self.result = end.value

    def cancel(self) -> None:
        """End after the present output."""
        self._is_cancelled.set()


def _until_ended(outputs: "queue.Queue[Output | _Job]", n_jobs: int) -> Iterator[Output]:
    """Outputs until all jobs have ended; raises the error of the first that fails."""
    while n_jobs:
        output = outputs.get()
        if not isinstance(output, _Job):
            yield output
        elif output.error is not None:
            raise output.error
        else:
            n_jobs -= 1
