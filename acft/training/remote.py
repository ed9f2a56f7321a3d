"""The oracle's job in another process or machine, by Ray: requests and replies without models.

The actor loads a world of its own from the run's settings, so a request carries only what changes:
trainable weights, oracle weights and earlier rollouts. Its numbers are those of the local job at
the same number of threads.
"""

import os
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from acft.backbone.loading import resolve_device
from acft.costs import BILL
from acft.distributed import ranks
from acft.errors import ConfigError
from acft.events import Note, Scalars
from acft.machine import VISIBLE_GPUS
from acft.oracle.base import Oracle
from acft.policy import Policy
from acft.settings import RunSettings
from acft.training.oracle_job import Guide, OracleRound, build_oracle, oracle_job
from acft.training.outputs import Output, TrainContext
from acft.training.world import World, load_world
from acft.types import Rollout

SHARED_GPU = (
    "both jobs of the parallel schedule share one GPU, since this run sees no other; a queued run "
    "is given one, so start it with 'acft train' where there are several, or set RAY_ADDRESS to a "
    "cluster"
)


@dataclass(frozen=True)
class OracleRequest:
    """What the oracle's job of a round reads."""

    round_index: int
    policy_version: int
    policy_weights: dict[str, Tensor]
    """Trainable weights of that version; empty for the base policy."""
    oracle_weights: dict[str, Tensor]
    oracle_version: int
    earlier: Sequence[tuple[list[Rollout], list[float]]] = ()
    """Rollouts of earlier rounds with their satisfaction."""
    delta: float = 1.0


@dataclass(frozen=True)
class OracleReply:
    """What the oracle's job of a round leaves behind, without models."""

    oracle_weights: dict[str, Tensor]
    oracle_version: int
    strength: float
    rollouts: list[Rollout]
    satisfaction: list[float]
    is_whole: bool
    """False where a stop cut the job short."""


class OracleWorker:
    """Does the oracle's jobs of a run, with models of its own.

    What it leaves for a server has the names that the run itself gives it, and goes with the run.
    """

    def __init__(self, run: RunSettings, threads: int) -> None:
        self._is_stopped = threading.Event()
        self._context = TrainContext(run, should_stop=self._is_stopped.is_set)
        loading = load_world(self._context)
        while True:
            try:
                next(loading)
            except StopIteration as end:
                self._world: World = end.value
                break
        torch.set_num_threads(threads)
        self._world.threads = threads
        if self._world.base.device == "cpu":  # one thread feeds a GPU
            self._world.base.workers.count = threads
        self._oracle = build_oracle(self._world)

    def job(self, request: OracleRequest) -> Iterator[Output | OracleReply]:
        """Outputs of the job as they come, what it asked scorers, and last its reply."""
        oracle = self._oracle.copied()
        oracle.load_state_dict(request.oracle_weights)
        oracle.version = request.oracle_version
        policy = self._policy(request)
        oracle.follow(policy.backbone)
        earlier = [
            OracleRound(Guide(oracle, 1.0, 0), rollouts, satisfaction)
            for rollouts, satisfaction in request.earlier
        ]
        new = yield from oracle_job(
            self._world, oracle, policy, request.round_index, earlier,
            self._context.should_stop, delta=request.delta,
        )  # fmt: skip
        # the run's bill counts the scorers of its own process only
        spent = {f"{BILL}{name}": float(n) for name, n in self._context.texts.take().items() if n}
        if spent:
            yield Scalars(request.round_index, 0, spent)
        guide = new.guide
        yield OracleReply(
            plain(guide.oracle.state_dict()), guide.oracle.version, guide.strength,
            new.rollouts, new.satisfaction, new.is_whole,
        )  # fmt: skip

    def stop(self) -> None:
        """From now on jobs end as soon as they can."""
        self._is_stopped.set()

    @torch.no_grad()
    def _policy(self, request: OracleRequest) -> Policy:
        if request.policy_version == 0:
            return self._world.base
        parameters = dict(self._world.policy.backbone.model.named_parameters())
        for name, value in request.policy_weights.items():
            parameters[name].copy_(value)
        self._world.policy.version = request.policy_version
        return self._world.snapshot()


def check_executor(run: RunSettings) -> None:
    """Refuses executor ray to several processes, whose jobs run one after the other.

    Raises:
        ConfigError: There are several.
    """
    if run.schedule.executor == "ray" and (size := ranks().size) > 1:
        raise ConfigError(
            f"[schedule] executor = 'ray' with {size} processes: they do both jobs themselves, "
            "one after the other; start one process, or set executor to 'threads'"
        )


@dataclass
class RayOracle:
    """A Ray actor that does the oracle's jobs; made when the first job is asked for."""

    run: RunSettings
    threads: int
    _actor: Any = field(default=None, repr=False)

    def stream(self, request: OracleRequest) -> Iterator[Output | OracleReply]:
        """What the actor yields.

        Raises:
            ConfigError: Ray is not installed.
        """
        if find_spec("ray") is None:
            raise ConfigError(
                "[schedule] executor = 'ray', but ray is not installed; install acft[ray], or set "
                "executor to 'threads'"
            )
        import ray  # noqa: PLC0415 - optional  # pyright: ignore[reportMissingImports]

        needs_gpu = resolve_device(self.run.device) == "cuda"
        is_shared = False
        if not ray.is_initialized():
            is_ours = not os.environ.get("RAY_ADDRESS")
            own = {"_node_ip_address": "127.0.0.1"} if is_ours else {}
            with _other_gpus() if is_ours and needs_gpu else nullcontext():
                ray.init(include_dashboard=False, log_to_driver=False, **own)
            is_shared = is_ours and needs_gpu and torch.cuda.device_count() == 1
        if self._actor is None:
            resources = {"num_cpus": self.threads, "num_gpus": int(needs_gpu)}
            # a stop has to reach it in the middle of a job
            actor = ray.remote(**resources, max_concurrency=2)(OracleWorker)
            self._actor = actor.remote(self.run, self.threads)
        if is_shared:  # only now: whoever is told may ask for a stop
            yield Note("warning", SHARED_GPU, request.round_index)
        for reference in self._actor.job.options(num_returns="streaming").remote(request):
            yield ray.get(reference)

    def stop(self) -> None:
        """The job that is under way ends as soon as it can."""
        self._actor.stop.remote()


@contextmanager
def _other_gpus() -> Iterator[None]:
    """Within it, a cluster that is started finds the GPUs that this process does not compute on.

    It would give its first one to the actor, which is ours. Where there is one only, both share it.
    """
    before = os.environ.get(VISIBLE_GPUS)
    names = before.split(",") if before else [str(i) for i in range(torch.cuda.device_count())]
    del names[torch.cuda.current_device()]
    if names:
        os.environ[VISIBLE_GPUS] = ",".join(names)
    try:
        yield
    finally:
        os.environ.pop(VISIBLE_GPUS, None)
        if before is not None:
            os.environ[VISIBLE_GPUS] = before


def remote_oracle_job(
    remote: RayOracle,
    request: OracleRequest,
    oracle: Oracle,
    policy: Policy,
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[Output, None, OracleRound]:
    """Outputs of a job done elsewhere; returns what the local job would."""
    for item in remote.stream(request):
        if should_stop():
            remote.stop()
        if isinstance(item, OracleReply):
            oracle = oracle.copied()
            oracle.load_state_dict(item.oracle_weights)
            oracle.version = item.oracle_version
            oracle.follow(policy.backbone)
            guide = Guide(oracle.eval(), item.strength, policy.version)
            return OracleRound(guide, item.rollouts, item.satisfaction, item.is_whole)
        yield item
    raise RuntimeError("the oracle's job ended without a reply")


def plain(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights on the CPU, detached; those laid out over processes stay where they are."""
    kept = {name: value.detach() for name, value in weights.items()}
    return {name: w if isinstance(w, DTensor) else w.cpu() for name, w in kept.items()}
