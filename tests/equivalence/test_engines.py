"""Runs whose responses come from a server: real HTTP, new weights after every round."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from acft.backbone.loading import load_backbone
from acft.engines import build_engine
from acft.events import Scalars
from acft.policy import Policy, trainable_policy
from acft.settings import AdapterSettings, ModelSettings, RunSettings, SamplingSettings
from acft.types import Prompt
from tests.completion_server import CompletionServer, serving
from tests.toy_runs import largest_difference, toy_run, trained

pytestmark = pytest.mark.equivalence

ACFT = {"name": "acft", "kl_weight": 1.0}
FEW_ROLLOUTS = ("oracle.rollouts_per_round=32", "oracle.validation_rollouts=16")
START_SECONDS = 120
SERVE = (sys.executable, "-m", "transformers.cli.transformers", "serve", "--device", "cpu")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))


def checks(outputs, name: str) -> list[float]:
    """Values of one check, draw by draw."""
    found = [o.values for o in outputs if isinstance(o, Scalars)]
    return [v for values in found for key, v in values.items() if key.startswith(f"engine/{name}")]


@pytest.mark.parametrize(("kind", "threads"), [("sequential", 1), ("parallel", 2)])
def test_adapters_are_loaded_round_by_round_and_drawn_from(tmp_path, kind, threads):
    schedule = (f"schedule.kind={kind}", f"schedule.threads={threads}", "schedule.rounds=2")
    run = toy_run(tmp_path, *schedule, *FEW_ROLLOUTS)
    with serving(CompletionServer(tmp_path / "model")) as server:
        engine = {"kind": "vllm", "address": server.address, "model": "base", "requests": 2}
        served = run.model_copy(update={"engine": RunSettings.parse({"engine": engine}).engine})
        first = trained(tmp_path / "a", served, ACFT)
        versions = list(dict.fromkeys(body["model"] for body in server.requests))
        again = trained(tmp_path / "b", served, ACFT)
    assert len(versions) == 3  # the base and two rounds
    assert max(checks(first.outputs, "logprob_gap")) < 1e-4
    assert max(map(abs, checks(first.outputs, "surprise_z"))) < 4
    assert again.scalars() == first.scalars()
    assert largest_difference(again.weights(2), first.weights(2)) == 0.0


def test_transformers_serve_opens_the_weights_of_every_round(tmp_path):
    run = toy_run(tmp_path, "schedule.rounds=2", *FEW_ROLLOUTS)
    with transformers_serve(tmp_path / "log") as address:
        engine = RunSettings.parse({"engine": {"kind": "transformers", "address": address}}).engine
        result = trained(tmp_path / "a", run.model_copy(update={"engine": engine}), ACFT)
    assert result.checkpoints.keys() == {1, 2}
    assert checks(result.outputs, "refused_share") == [0.0] * 4
    assert max(map(abs, checks(result.outputs, "surprise_z"))) < 4


@pytest.mark.slow
@pytest.mark.assets
def test_transformers_serve_draws_what_smollm2_would(tmp_path, monkeypatch):
    from acft.assets import packaged_model_path

    monkeypatch.undo()
    model = packaged_model_path("smollm2-135m")
    backbone = load_backbone(ModelSettings(name=str(model)), "cpu", "float32")
    places = ("The weather today", "My neighbour said that", "In the year 1900", "Cooking is")
    prompts = [Prompt(f"p{i}", text, "train") for i, text in enumerate(places)]
    with transformers_serve(tmp_path / "log") as address:
        values = {"kind": "transformers", "address": address, "folder": str(tmp_path / "weights")}
        run = RunSettings.parse({"model": {"name": str(model)}, "engine": values})
        base = Policy(backbone, engine=build_engine(run))
        sampling = SamplingSettings(horizon=12, batch_size=16)
        drawn = base.sample(prompts, 12, sampling, seed=1)
        tuned = trainable_policy(base, AdapterSettings(rank=4), seed=0)
        for number, parameter in enumerate(tuned.parameters()):
            parameter.data += 0.02 * ((number % 3) - 1)
        frozen = tuned.snapshot(base)
        moved = frozen.sample(prompts, 12, sampling, seed=1)
    for samples in (drawn, moved):
        assert len(samples.rollouts) == 48
        assert abs(samples.checks.z) < 4
        assert samples.checks.scalars()["engine/refused_share"] < 0.2
    assert [r.response_ids for r in drawn.rollouts] != [r.response_ids for r in moved.rollouts]


@contextmanager
def transformers_serve(log: Path) -> Iterator[str]:
    """The address of a server of its own process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [*SERVE, "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}
        )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(address, process, log)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def _wait(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            direct.open(f"{address}/health").close()
        except OSError:
            is_hopeful = process.poll() is None and time.monotonic() < until
            assert is_hopeful, log.read_text()[-2000:]
            time.sleep(0.2)
        else:
            return
