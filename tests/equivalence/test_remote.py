"""The oracle's job done elsewhere gives the numbers of the job done here."""

import importlib.util
import os
import pickle
import sys
import types
from collections.abc import Generator
from pathlib import Path

import pytest
import torch

from acft.costs import bill
from acft.distributed import Ranks
from acft.errors import ConfigError
from acft.events import Event, Note, Progress
from acft.training.oracle_job import OracleRound, build_oracle, oracle_job
from acft.training.outputs import Output, TrainContext
from acft.training.remote import OracleRequest, OracleWorker, RayOracle, plain, remote_oracle_job
from acft.training.world import World, load_world
from tests.fake_scorers import save_classifier
from tests.toy_runs import Trained, drained, largest_difference, toy_run, trained, world_of

pytestmark = pytest.mark.equivalence

ACFT = {"name": "acft", "anchor": "snapshot"}
PARALLEL = ("schedule.kind=parallel", "schedule.threads=2", "oracle.replay_rounds=1")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))


def assert_same(here: Trained, elsewhere: Trained) -> None:
    assert elsewhere.scalars() == here.scalars()
    assert elsewhere.rows("rollouts") == here.rows("rollouts")
    assert largest_difference(elsewhere.weights(3), here.weights(3)) == 0.0


@pytest.mark.parametrize("kind", ["nado_recurrent", "dinado_lora"])
def test_a_worker_with_its_own_models_gives_the_local_numbers(tmp_path, monkeypatch, kind):
    """The worker sees only what survives pickling, as it would in another process."""
    workers: list[OracleWorker] = []

    def stream(self, request):
        if not workers:
            workers.append(OracleWorker(self.run, self.threads))
        for item in workers[0].job(pickle.loads(pickle.dumps(request))):
            yield pickle.loads(pickle.dumps(item))

    monkeypatch.setattr(RayOracle, "stream", stream)
    # threads of this process would share torch's generator with the worker
    monkeypatch.setattr("acft.methods.acft.both", _in_turn)
    run = toy_run(tmp_path, *PARALLEL, f"oracle.kind={kind}")
    elsewhere = run.model_copy(
        update={"schedule": run.schedule.model_copy(update={"executor": "ray"})}
    )
    here = trained(tmp_path / "a", run, ACFT)
    assert_same(here, trained(tmp_path / "b", elsewhere, ACFT))
    assert workers


def _in_turn(first, second, **_):
    one = yield from first
    other = yield from second
    return one, other


def request_of(world: World) -> OracleRequest:
    oracle = build_oracle(world)
    return OracleRequest(1, 0, {}, plain(oracle.state_dict()), oracle.version)


def heard(job: Generator[Output, None, OracleRound], said: list[Output]) -> OracleRound:
    """What a job returns, and what it says as it comes."""
    while True:
        try:
            said.append(next(job))
        except StopIteration as end:
            return end.value


def phases(said: list[Output]) -> list[str]:
    return [output.phase for output in said if isinstance(output, Progress)]


def test_what_the_worker_asks_scorers_is_billed_as_if_the_run_had_asked(tmp_path):
    folder = save_classifier(tmp_path / "scorer", ["fine", "rude"])
    judged = {"kind": "scorer", "scorer": f"model:{folder}#rude"}
    run = toy_run(tmp_path, constraint=[judged])
    build_oracle(world_of(run))  # verdicts on the vocabulary are remembered on disk
    context = TrainContext(run)
    world = drained(load_world(context))
    drained(oracle_job(world, build_oracle(world), world.base, 1, []))
    items = list(OracleWorker(run, 1).job(request_of(world)))
    spent = bill(item for item in items if isinstance(item, Event))
    assert spent == {name: n for name, n in context.texts.take().items() if n}
    assert any(name.startswith("texts/") for name in spent)


def test_a_stop_cuts_the_drawing_of_the_worker_short(tmp_path, monkeypatch):
    run = toy_run(tmp_path, "oracle.rollouts_per_round=400")
    world = world_of(run)
    worker = OracleWorker(run, 1)
    monkeypatch.setattr(RayOracle, "stream", lambda _, request: worker.job(request))
    monkeypatch.setattr(RayOracle, "stop", lambda _: worker.stop())
    said: list[Output] = []
    job = remote_oracle_job(
        RayOracle(run, 1), request_of(world), build_oracle(world), world.base, lambda: bool(said)
    )
    assert not heard(job, said).is_whole
    assert set(phases(said)) == {"sample_oracle"}


@pytest.mark.parametrize(
    ("visible", "ours", "seen"),
    [(None, 0, "1,2"), ("4,5,7", 1, "4,7"), ("GPU-5f3c", 0, "GPU-5f3c")],
)
def test_a_cluster_of_our_own_leaves_our_gpu_to_us(tmp_path, monkeypatch, visible, ours, seen):
    class Started(Exception):  # noqa: N818 - not an error
        pass

    def init(**_):
        raise Started(os.environ.get("CUDA_VISIBLE_DEVICES"))

    ray = types.SimpleNamespace(__spec__=object(), is_initialized=lambda: False, init=init)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr("acft.training.remote.resolve_device", lambda _: "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: ours)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    request = OracleRequest(1, 0, {}, {}, 0)
    with pytest.raises(Started, match=f"^{seen}$"):
        list(RayOracle(toy_run(tmp_path), 1).stream(request))
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible
    monkeypatch.setenv("RAY_ADDRESS", "cluster:6379")
    with pytest.raises(Started, match=f"^{visible}$"):
        list(RayOracle(toy_run(tmp_path), 1).stream(request))


@pytest.mark.parametrize(("n_gpus", "is_told"), [(1, True), (2, False)])
def test_a_run_that_sees_one_gpu_only_says_that_its_jobs_share_it(
    tmp_path, monkeypatch, n_gpus, is_told
):
    class Worker:
        def __getattr__(self, _):
            return self

        def __call__(self, *_, **__):
            return self

        def __iter__(self):
            return iter(["what it says"])

    is_begun = []
    ray = types.SimpleNamespace(
        __spec__=object(), is_initialized=lambda: bool(is_begun),
        init=lambda **_: is_begun.append(True), get=lambda said: said,
        remote=lambda **_: Worker(),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr("acft.training.remote.resolve_device", lambda _: "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    remote = RayOracle(toy_run(tmp_path), 1)
    said = [[*remote.stream(OracleRequest(number, 0, {}, {}, 0))] for number in (2, 3)]
    notes = [output for output in said[0] if isinstance(output, Note)]
    assert ["share one GPU" in note.text for note in notes] == [True] * is_told
    assert said[1] == ["what it says"], "once"


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_a_local_ray_cluster_gives_the_local_numbers(tmp_path):
    run = toy_run(tmp_path, *PARALLEL)
    ray_run = toy_run(tmp_path, *PARALLEL, "schedule.executor=ray")
    here = trained(tmp_path / "a", run, ACFT)
    try:
        elsewhere = trained(tmp_path / "b", ray_run, ACFT)
    finally:
        import ray  # pyright: ignore[reportMissingImports]

        ray.shutdown()
    assert_same(here, elsewhere)


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_a_stop_reaches_a_ray_worker_in_the_middle_of_its_job(tmp_path):
    run = toy_run(tmp_path, "oracle.rollouts_per_round=4000")
    world = world_of(run)
    said: list[Output] = []
    job = remote_oracle_job(
        RayOracle(run, 1), request_of(world), build_oracle(world), world.base, lambda: bool(said)
    )
    try:
        found = heard(job, said)
    finally:
        import ray  # pyright: ignore[reportMissingImports]

        ray.shutdown()
    assert not found.is_whole
    assert set(phases(said)) == {"sample_oracle"}


def test_without_ray_one_sentence_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("acft.training.remote.find_spec", lambda name: None)
    run = toy_run(tmp_path, *PARALLEL, "schedule.executor=ray")
    with pytest.raises(ConfigError, match="ray is not installed; install"):
        trained(tmp_path / "a", run, ACFT)


def test_ray_beside_a_sequential_schedule_is_refused_with_the_settings(tmp_path):
    with pytest.raises(ConfigError, match="set kind to 'parallel'"):
        toy_run(tmp_path, "schedule.kind=sequential", "schedule.executor=ray")


def test_ray_is_refused_to_several_processes_before_anything_loads(tmp_path, monkeypatch):
    monkeypatch.setattr("acft.training.remote.ranks", lambda: Ranks(0, 2))
    monkeypatch.setattr("acft.methods.acft.load_world", lambda context: pytest.fail("loaded"))
    with pytest.raises(ConfigError, match="with 2 processes"):
        trained(tmp_path / "a", toy_run(tmp_path, *PARALLEL, "schedule.executor=ray"), ACFT)
