"""A folder of runs with a store beside it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from acft.store.connection import Store, open_memory_store
from acft.store.ingest import Ingester
from tests.store.directories import Directory


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_memory_store(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def ingester(store: Store) -> Ingester:
    return Ingester(store)


@pytest.fixture
def run(tmp_path: Path) -> Directory:
    return Directory(tmp_path)
