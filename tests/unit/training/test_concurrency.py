"""Two jobs at once: what they return, and the end of one when the other fails."""

import threading
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from acft.errors import ModelError
from acft.events import Note
from acft.training import streams
from acft.training.concurrency import both

MANY = 10_000
"""Outputs of a job that takes ten seconds if it is left to its end."""


def saying(*texts):
    """Says each text, and returns their number."""
    for text in texts:
        yield Note("info", text)
    return len(texts)


def failing(error):
    yield Note("info", "begun")
    raise error


def long(said, threads):
    """Fails as well when it is ended early."""
    try:
        for number in range(MANY):
            said.append(number)
            yield Note("info", str(number))
            threading.Event().wait(0.001)
    finally:
        threads.append(threading.current_thread())
        raise RuntimeError("ended early")


@pytest.mark.parametrize("at_once", [True, False])
def test_results_are_in_the_order_of_the_jobs(at_once):
    results = []

    def job():
        results.append((yield from both(saying("a", "b"), saying("c"), at_once=at_once)))

    assert sorted(note.text for note in job() if isinstance(note, Note)) == ["a", "b", "c"]
    assert results == [(2, 1)]


class Stream:
    """Notes who waits for it and which thread works on it."""

    def __init__(self, name, heard):
        self.name = name
        self._heard = heard

    def wait_stream(self, other):
        self._heard.append(f"{self.name} waits for {other.name}")


@pytest.fixture
def heard(monkeypatch):
    """What is asked of the streams of a GPU that is played."""
    heard, here, made = [], threading.local(), []

    def make(device):
        made.append(Stream(f"{device} {len(made)}", heard))
        return made[-1]

    @contextmanager
    def entered(stream):
        here.stream = stream
        try:
            yield
        finally:
            del here.stream
            heard.append(f"{stream.name} is left")

    shared = Stream("shared", heard)
    monkeypatch.setattr(torch.cuda, "Stream", make)
    monkeypatch.setattr(torch.cuda, "stream", entered)
    monkeypatch.setattr(
        torch.cuda, "current_stream", lambda _=None: getattr(here, "stream", shared)
    )
    streams._stream.cache_clear()
    yield heard
    streams._stream.cache_clear()


def telling(heard, name):
    """Says on which stream it works."""
    for _ in range(2):
        stream: Any = torch.cuda.current_stream()
        heard.append(f"{name} on {stream.name}")
        yield Note("info", name)


def test_jobs_at_once_have_streams_of_their_own_on_a_gpu_that_are_waited_for(heard):
    for _ in range(2):
        heard.clear()
        jobs = telling(heard, "oracle"), telling(heard, "fit")
        list(both(*jobs, at_once=True, device="cuda:0"))
        names = {line.rpartition(" on ")[2] for line in heard if " on " in line}
        assert names == {"cuda:0 0", "cuda:0 1"}  # the same in the second round
        for job in ("oracle", "fit"):
            assert len({line for line in heard if line.startswith(f"{job} on ")}) == 1
        for stream in names:
            order = [line for line in heard if stream in line]
            assert order[0] == f"{stream} waits for shared"
            assert order[-2:] == [f"{stream} is left", f"shared waits for {stream}"]


@pytest.mark.parametrize(("at_once", "device"), [(True, "cpu"), (False, "cuda:0")])
def test_jobs_elsewhere_or_in_turn_share_the_one_stream(heard, at_once, device):
    list(both(telling(heard, "oracle"), telling(heard, "fit"), at_once=at_once, device=device))
    assert sorted(heard) == ["fit on shared"] * 2 + ["oracle on shared"] * 2


def test_a_stream_is_waited_for_although_its_job_failed(heard):
    with pytest.raises(ModelError):
        list(both(failing(ModelError("cause")), saying("a"), at_once=True, device="cuda:0"))
    assert sorted(line for line in heard if line.startswith("shared waits")) == [
        "shared waits for cuda:0 0", "shared waits for cuda:0 1"
    ]  # fmt: skip


@pytest.mark.parametrize("is_first", [True, False])
def test_an_error_ends_the_other_job_after_its_present_output(is_first):
    said, threads = [], []
    error = ModelError("the cause")
    jobs = (failing(error), long(said, threads))
    outputs = both(*(jobs if is_first else jobs[::-1]), at_once=True)
    with pytest.raises(ModelError) as raised:
        for _ in outputs:
            pass
    assert raised.value is error
    assert len(said) < MANY
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()  # where its outputs were made


def test_both_jobs_end_when_nobody_reads_them():
    said, threads = [], []
    outputs = both(long(said, threads), long(said, threads), at_once=True)
    next(outputs)
    outputs.close()
    assert len(threads) == 2
    assert len(said) < MANY
