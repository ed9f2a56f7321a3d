"""A finished run of the real method, trained once for all tests that only read one."""

import shutil
from pathlib import Path

import pytest

from acft.schema import RunPaths
from tests.tiny_run import tiny_settings, train


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory) -> Path:
    """Where the finished run lies, with its model, prompts, texts and caches."""
    return tmp_path_factory.mktemp("tiny-run")


@pytest.fixture(scope="session")
def _finished_run(session_folder) -> RunPaths:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACFT_ASSETS", str(session_folder / "cache"))
        paths, code = train(tiny_settings(session_folder), session_folder / "runs")
    assert code == 0, paths.status.read_text()
    return paths


@pytest.fixture
def tiny_run(_finished_run, session_folder, monkeypatch) -> RunPaths:
    """The finished run, to be read only; caches go beside it."""
    monkeypatch.setenv("ACFT_ASSETS", str(session_folder / "cache"))
    return _finished_run


@pytest.fixture
def own_run(tiny_run, tmp_path) -> RunPaths:
    """A copy of the finished run that a test may damage."""
    shutil.copytree(tiny_run.root.parent, tmp_path / "runs")
    return RunPaths(tmp_path / "runs" / tiny_run.root.name)
