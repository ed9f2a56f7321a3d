"""Run directories of every older version open, and nothing they hold was renamed or removed."""

import dataclasses
import json

import pyarrow.parquet as pq
import pytest

from acft.eventlog import effective, read_events
from acft.events import KINDS
from acft.runs.directory import all_runs, read_labels, read_launch, read_status
from acft.schema import FAILURES, SCHEMA_VERSION, STATES, TABLES, Labels, Launch, RunPaths, Status
from tests.golden.record_run import RECORDED

VERSIONS = range(1, SCHEMA_VERSION + 1)


@pytest.fixture(params=VERSIONS, ids=lambda version: f"v{version}")
def recorded(request) -> RunPaths:
    """The recorded run directory of one version."""
    (run,) = all_runs(RECORDED / f"v{request.param}")
    return run


def keys(path) -> set[str]:
    return set(json.loads(path.read_text(encoding="utf-8")))


def fields(record: type) -> set[str]:
    return {field.name for field in dataclasses.fields(record)}


def test_every_event_is_read(recorded):
    entries = read_events(recorded.events)
    lines = recorded.events.read_text(encoding="utf-8").splitlines()
    assert [entry.seq for entry in entries] == list(range(1, len(lines) + 1))
    assert effective(entries) == entries


def test_no_event_kind_lost_a_field(recorded):
    for line in recorded.events.read_text(encoding="utf-8").splitlines():
        values = json.loads(line)
        assert set(values) - {"seq", "time", "kind"} <= fields(KINDS[values["kind"]])


@pytest.mark.parametrize(
    ("name", "record"), [("status", Status), ("launch", Launch), ("labels", Labels)]
)
def test_no_small_file_lost_a_field(recorded, name, record):
    assert keys(getattr(recorded, name)) <= fields(record)


def test_small_files_are_read(recorded):
    status = read_status(recorded)
    assert (status.state, status.round) == ("finished", 7)
    assert read_labels(recorded).tags == ("a", "b")
    assert read_launch(recorded).overrides == ("a", "b")


def test_no_shard_lost_a_column_or_changed_its_type(recorded):
    for path in sorted(recorded.shards.iterdir()):
        columns = {field.name: field.type for field in TABLES[path.name.split("-")[0]]}
        for field in pq.read_schema(path):
            assert columns.get(field.name) == field.type, f"{path.name}: {field.name}"


def test_store_takes_in_every_row(recorded, tmp_path):
    import shutil

    from acft.store.connection import open_store
    from acft.store.ingest import Ingester

    shutil.copytree(recorded.root, tmp_path / recorded.root.name)
    store = open_store(tmp_path)
    try:
        assert Ingester(store).poll() == len(read_events(recorded.events))
        for table in TABLES:
            assert store.rows(f"SELECT count(*) FROM {table}") == [(1,)]
    finally:
        store.close()


def test_states_and_failures_are_plain_words():
    assert all(word.isalpha() and word.islower() for word in (*STATES, *FAILURES))
    assert len({*STATES, *FAILURES} - {"failed"}) == len(STATES) + len(FAILURES) - 1
