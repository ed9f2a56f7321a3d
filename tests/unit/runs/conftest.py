"""Runs of a method that needs no model, on a disk that is not waited for."""

import os

import pytest

from acft.schema import RunPaths
from tests import fake_method
from tests.fake_runs import create, do


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    """A test's machine does not lose its power."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def fake_method_known() -> None:
    """Settings may name the method of ``tests/fake_method.py``."""
    fake_method.register()


@pytest.fixture
def done(fake_method_known, tmp_path) -> RunPaths:
    """A finished run of it."""
    paths = create(tmp_path)
    assert do(paths) == 0
    return paths
