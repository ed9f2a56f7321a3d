"""Work side by side: its order, how much of it is there at once, and what an error ends."""

import threading

import pytest

from acft.machine import cores
from acft.threads import Workers


@pytest.mark.parametrize("n_items", [0, 1, 3, 12])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_results_come_in_the_order_of_the_items(count, n_items):
    items = range(n_items)
    workers = Workers(count)
    assert list(workers.imap(str, items)) == workers.map(str, items) == [str(n) for n in items]


@pytest.mark.parametrize("count", [2, 3])
def test_what_is_not_read_yet_holds_up_what_comes_later(count):
    begun, ended = [], threading.Semaphore(0)

    def work(item):
        begun.append(item)
        if item == 0:
            for _ in range(count):
                assert ended.acquire(timeout=60)
        ended.release()
        return item

    for result in Workers(count).imap(work, range(10)):
        assert max(begun) <= result + count


def test_after_an_error_nothing_else_is_begun():
    begun, may_fail = [], threading.Event()

    def work(item):
        begun.append(item)
        if item == 0:
            may_fail.wait(60)
            raise ValueError("lost")
        may_fail.set()

    with pytest.raises(ValueError, match="lost"):
        list(Workers(2).imap(work, range(10)))
    assert set(begun) <= {0, 1, 2}


def test_whoever_stops_reading_stops_the_work():
    begun = []
    read = Workers(2).imap(begun.append, range(10))
    next(read)
    read.close()
    assert len(begun) <= 3


def test_processes_that_were_started_together_share_the_cores_of_their_machine(monkeypatch):
    there = cores()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert cores() == max(1, there // 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(there + 1))
    assert cores() == 1
