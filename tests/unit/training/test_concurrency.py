"""Two jobs at once: what they return, and the end of one when the other fails."""

import threading

import pytest

from acft.errors import ModelError
from acft.events import Note
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
