"""Streams of a GPU for jobs at once: on the one that all threads share, kernels take turns."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch


@contextmanager
def own_stream(device: str, job: int) -> Iterator[None]:
    """Within it, what this thread asks of a GPU goes to the stream of the job with this number.

    The job sees what was asked for before it, and what is asked for afterwards sees the job's
    results. Nothing happens on another device.
    """
    if not device.startswith("cuda"):
        yield
        return
    shared, own = torch.cuda.current_stream(device), _stream(device, job)
    own.wait_stream(shared)
    try:
        with torch.cuda.stream(own):
            yield
    finally:
        shared.wait_stream(own)


# Always the same one: its memory is then reused in the order of its own kernels. What one job made
# and another reads is dropped between rounds, when both streams were waited for, so that no tensor
# has to be recorded on a second stream.
@cache
def _stream(device: str, job: int) -> torch.cuda.Stream:  # noqa: ARG001 - each job has another
    return torch.cuda.Stream(device)
