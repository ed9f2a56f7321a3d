"""A thread that goes on in a better database, and in the one it has where that fails."""

import threading

import pytest

from acft.errors import DataError
from acft.events import Note, Started
from acft.store import ingest
from acft.store.connection import StoreError, open_memory_store, open_store
from acft.store.ingest import Ingester
from acft.store.journal import load_journal, record_comparison
from tests.store.test_ingest import column, wait_for

COUNT = "SELECT count(*) FROM events"
VOTES = "SELECT comparison_id FROM comparisons"


@pytest.mark.parametrize("error", [StoreError("made by a newer version"), OSError("disk is full")])
def test_runs_are_read_on_where_a_better_database_cannot_be_had(store, run, monkeypatch, error):
    monkeypatch.setattr(ingest, "POLL_SECONDS", 0.01)
    tries = []

    def better():
        tries.append(1)
        raise error

    ingester = Ingester(store, better=better)
    run.say(Started(pid=1))
    ingester.start()
    wait_for(lambda: column(store, COUNT) == [1])
    wait_for(lambda: ingester.problem == str(error))
    for number in (2, 3):
        run.say(Note("info", "more of it"))
        wait_for(lambda number=number: column(store, COUNT) == [number])
    ingester.stop()
    assert ingester.problem == str(error)
    assert len(tries) == 1


def test_a_better_database_is_taken_only_with_its_votes_and_asked_for_again(
    store, run, tmp_path, monkeypatch
):
    monkeypatch.setattr(ingest, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(ingest, "MOVE_SECONDS", 0.01)
    vote = record_comparison(store, {"left": "base"})
    is_readable, others = threading.Event(), []

    def load(other):
        if other is not store and not is_readable.is_set():
            raise DataError("votes cannot be read")
        load_journal(other)

    def better():
        if not store.is_in_memory:
            return None
        others.append(open_store(tmp_path))
        return others[-1]

    monkeypatch.setattr(ingest, "load_journal", load)
    ingester = Ingester(store, better=better)
    ingester.start()
    wait_for(lambda: len(others) > 1)
    assert ingester.problem == "votes cannot be read"
    assert store.is_in_memory
    assert column(store, VOTES) == [vote]
    is_readable.set()
    wait_for(lambda: not store.is_in_memory and not ingester.problem)
    run.say(Started(pid=1))
    wait_for(lambda: column(store, COUNT) == [1])
    ingester.stop()
    assert column(store, VOTES) == [vote]


def test_a_vote_that_comes_during_the_takeover_is_there_afterwards(store, monkeypatch, tmp_path):
    other, votes = open_memory_store(tmp_path), []

    def load(loaded):
        load_journal(loaded)
        if loaded is other:
            votes.append(record_comparison(store, {"left": "base"}))

    monkeypatch.setattr(ingest, "load_journal", load)
    Ingester(store, better=lambda: other)._move()
    assert column(store, VOTES) == votes
