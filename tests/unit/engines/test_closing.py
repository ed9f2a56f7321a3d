"""Once a run is over, in whichever way, nothing of it stays on the server or in its folder."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from acft.engines import http
from acft.errors import ModelError
from acft.eventlog import Entry
from acft.events import RoundFinished
from acft.runs.directory import read_status
from acft.runs.launcher import create_here
from acft.runs.spec import parse_spec
from acft.runs.worker import run_worker
from acft.schema import RunPaths
from tests.completion_server import CompletionServer, serving
from tests.tiny_run import tiny_settings

FEW = (
    'method={name="sft"}', "evaluation.test_prompts=0", "evaluation.validation_prompts=2",
    "sampling.horizon=3",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _own_cache_and_no_pauses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))
    monkeypatch.setattr(http, "sleep", lambda seconds: None)


@pytest.mark.parametrize("ending", ["finished", "stopped", "failed", "server is gone"])
def test_a_run_leaves_no_weights_behind(tmp_path, ending):
    text = tiny_settings(tmp_path)
    server, there = CompletionServer(tmp_path / "model"), ExitStack()
    seen: list[set[str]] = []

    def listen(entry: Entry) -> None:
        if not isinstance(entry.event, RoundFinished):
            return
        seen.append({*server.models} | {f.name for f in (tmp_path / "weights").iterdir()})
        if ending == "stopped":
            paths.stop_request.write_text("now")
        elif ending == "failed":
            raise ModelError("of another kind")
        elif ending == "server is gone" and entry.event.round == 2:
            there.close()

    with there:
        there.enter_context(serving(server))
        paths = served_run(text, tmp_path, server.address)
        code = run_worker(paths, listen)
    state = "finished" if ending == "server is gone" else ending
    assert read_status(paths).state == state, read_status(paths).message
    assert (code == 0) == (state != "failed")
    assert len(seen[-1]) > 1
    assert not list((tmp_path / "weights").iterdir())
    if ending != "server is gone":
        assert set(server.models) == {"base"}


def served_run(text: str, folder: Path, address: str) -> RunPaths:
    """A run that is about to start and draws from the server."""
    engine = (
        "engine.kind=vllm", f"engine.address={address}", "engine.model=base",
        f"engine.folder={folder / 'weights'}",
    )  # fmt: skip
    return create_here(folder / "runs", parse_spec(text, (*FEW, *engine)))
