"""How near the method comes to the exact answer in worlds that can be enumerated.

    python -m benchmarks.toy_worlds                     every measurement, minutes on one core
    python -m benchmarks.toy_worlds oracle --kinds nado_recurrent dinado_recurrent
    python -m benchmarks.toy_worlds acft --schedules parallel --cases 0

Worlds are 6 symbols x 6 steps, written by random two-layer Llamas; every number is a sum over all
46,656 sequences. Bars: KL(q* || q) <= 0.01 nats and satisfaction >= 0.995 for a learned oracle,
KL(q* || policy) <= 0.03 nats and satisfaction >= 0.99 for a tuned policy.
"""

import argparse
import json
import tempfile
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from acft import toy
from acft.backbone.toy import START_ID, save_toy_model, symbol_ids
from acft.methods.acft import AcftSettings, train
from acft.oracle.base import ORACLES, Oracle
from acft.oracle.verdicts import prefix_verdicts
from acft.policy import Policy
from acft.settings import RunSettings
from acft.toy import Tables, ToyWorld
from acft.training.oracle_job import Guide, build_oracle, oracle_job
from acft.training.outputs import Checkpoint, TrainContext
from acft.training.world import World, load_world
from acft.types import TokenBatch
from acft.windows import response_windows

T = TypeVar("T")

N_SYMBOLS, LENGTH = 6, 6
WORLD = ToyWorld(N_SYMBOLS, LENGTH)

RUN: dict[str, Any] = {
    "device": "cpu",
    "prompts": {"source": "toy"},
    "corpus": [{"source": "base_rollouts", "domain": "attribute", "max_documents": 64}],
    "sampling": {"horizon": LENGTH, "batch_size": 1024},
    "adapter": {"kind": "full"},
    "evaluation": {"scorers": [], "validation_continuations": 100, "test_prompts": 0},
}
"""What every measurement shares."""

ORACLE: dict[str, Any] = {
    "rollouts_per_round": 20_000,
    "validation_rollouts": 4_000,
    "strength": 1.0,
}
"""As the bar demands."""

ANNEALED: dict[str, Any] = {
    "batch_size": 256, "lr": 3e-3, "decay": "cosine", "max_epochs": 32, "patience": 32,
}  # fmt: skip
"""Without decay an oracle ends three times as far from q*."""

KINDS: dict[str, dict[str, Any]] = {
    "exact": {},
    "nado_recurrent": ANNEALED,
    "dinado_recurrent": ANNEALED,
    "nado_lora": ANNEALED | {"lr": 2e-3},
}
"""Oracles that are measured, with their settings."""

ACFT: dict[str, Any] = {"ce_weight": 0.0, "kl_weight": 1.0, "prefixes": ["on_policy"]}
TUNING: dict[str, Any] = {
    "oracle": ORACLE | {"kind": "nado_recurrent"} | ANNEALED,
    "optimizer": {
        "lr": 2e-3, "steps_per_round": 400, "batch_size": 256, "micro_batch_size": 128,
        "max_tokens": 16, "decay": "cosine",
    },
}  # fmt: skip
ROUNDS = 2
"""What the first round leaves undone, later ones hardly mend: their oracles see few violations."""


@dataclass(frozen=True)
class Case:
    """A random policy and a constraint that about half of its responses satisfy."""

    seed: int
    pattern: str
    must: str

    @property
    def table(self) -> dict[str, str]:
        """The constraint as a run's settings write it."""
        return {"kind": "pattern", "pattern": self.pattern, "must": self.must}

    def run(self, folder: Path, **changes: Any) -> RunSettings:
        """Settings of a run in this world; the model is written into ``folder`` once."""
        model = folder / f"toy-{self.seed}"
        if not model.exists():
            save_toy_model(model, N_SYMBOLS, seed=self.seed)
        values = RUN | {"model": {"name": str(model)}, "constraint": [self.table]}
        return RunSettings.parse(values | changes)


CASES = (
    Case(0, r"\ba b\b", "not_occur"),
    Case(1, r"\bb b\b", "not_occur"),
    Case(4, r"e.*e", "occur"),
)
"""Two forbidden bigrams and one symbol that must come twice."""


@dataclass(frozen=True)
class Nearness:
    """A distribution over sequences beside the exact q*."""

    satisfaction_base: float
    satisfaction: float
    kl_target: float
    """KL(q* || it), nats a sequence."""


def drained(generator: Generator[Any, None, T]) -> T:
    """What a generator returns in the end."""
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value


def policy_tables(policy: Policy) -> Tables:
    """Log-probabilities of the policy after every prefix."""
    return toy.enumerate_policy(
        lambda ids: policy.next_logprobs(_batch(ids)), WORLD, [START_ID], symbol_ids(N_SYMBOLS)
    )


def oracle_tables(world: World, oracle: Oracle, policy: Policy) -> Tables:
    """Log R after every prefix and next symbol, as the oracle sees it."""
    oracle.eval()

    def next_log_r(ids: Tensor) -> Tensor:
        batch = _batch(ids)
        starts = torch.ones(len(ids), dtype=torch.long)
        window = response_windows(batch, policy.hidden(batch), starts, ids.shape[1] - 1)
        if ORACLES.get(world.run.oracle.kind).reads_verdicts:
            window.verdicts.copy_(
                prefix_verdicts(
                    world.decode,
                    [""] * len(ids),
                    ids[:, :1].tolist(),
                    ids[:, 1:].tolist(),
                    world.constraint.score,
                    ids.shape[1],
                )
            )
        return oracle.next_log_r(oracle.states(window))

    return toy.enumerate_values(next_log_r, WORLD, [START_ID], symbol_ids(N_SYMBOLS))


def satisfied(world: World) -> Tensor:
    """The constraint's verdict on every sequence."""
    return WORLD.judge_texts(lambda text: world.constraint.score([""], [text])[0])


def nearness(world: World, tables: Tables) -> Nearness:
    """How near a policy given by its tables is to q* of the base policy."""
    base, c = policy_tables(world.base), satisfied(world)
    target = toy.target_logprobs(base, c)
    return Nearness(
        toy.satisfaction(base, c),
        toy.satisfaction(tables, c),
        toy.sequence_kl(target, toy.sequence_logprobs(tables)),
    )


def measure_oracle(case: Case, folder: Path, kind: str, settings: dict[str, Any]) -> Nearness:
    """The guided policy of a learned oracle of the base policy at strength 1."""
    run = case.run(folder, oracle=ORACLE | {"kind": kind} | settings)
    world = drained(load_world(TrainContext(run)))
    guide = fitted(world)
    tables = guided_tables(world, guide, world.base)
    return nearness(world, tables)


def fitted(world: World) -> Guide:
    """The oracle of a run's first round."""
    return drained(oracle_job(world, build_oracle(world), world.base, 1, [])).guide


def guided_tables(world: World, guide: Guide, policy: Policy) -> Tables:
    """Log-probabilities of the guided policy after every prefix."""
    return toy.guided_tables(
        policy_tables(policy), oracle_tables(world, guide.oracle, policy), strength=guide.strength
    )


def measure_acft(
    case: Case, folder: Path, method: dict[str, Any], **changes: Any
) -> list[Nearness]:
    """The tuned policy after each round."""
    run = case.run(folder, **changes)
    context = TrainContext(run)
    result = []
    for output in train(AcftSettings.parse(ACFT | method), context):
        if isinstance(output, Checkpoint):
            with tempfile.TemporaryDirectory() as place:
                output.save(Path(place))
                result.append(measured_checkpoint(run, Path(place)))
    return result


def measured_checkpoint(run: RunSettings, checkpoint: Path) -> Nearness:
    """The policy of a checkpoint."""
    world = drained(load_world(TrainContext(run)))
    world.policy.load(checkpoint / "policy", 1)
    return nearness(world, policy_tables(world.policy))


def _batch(ids: Tensor) -> TokenBatch:
    everything = torch.ones_like(ids, dtype=torch.bool)
    return TokenBatch(ids, everything, everything)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one JSON object a measurement."""
    options = _options(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for number in options.cases:
            case = CASES[number]
            for kind in options.kinds if options.what != "acft" else ():
                settings = KINDS.get(kind, ANNEALED) | json.loads(options.oracle)
                found = measure_oracle(case, folder, kind, settings)
                _print("oracle", number, found, oracle=kind)
            for schedule in options.schedules if options.what != "oracle" else ():
                changes = _tuning(options, schedule)
                for index, found in enumerate(measure_acft(case, folder, {}, **changes), start=1):
                    _print("acft", number, found, schedule=schedule, round=index)


def _tuning(options: argparse.Namespace, schedule: str) -> dict[str, Any]:
    changes = {**TUNING, "schedule": {"rounds": options.rounds, "threads": 1, "kind": schedule}}
    changes["oracle"] = changes["oracle"] | json.loads(options.oracle)
    changes["optimizer"] = changes["optimizer"] | json.loads(options.optimizer)
    return changes


def _print(what: str, case: int, found: Nearness, **labels: Any) -> None:
    numbers = {name: round(value, 5) for name, value in asdict(found).items()}
    print(json.dumps({"what": what, "case": case, **labels, **numbers}), flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Distances to q* in enumerated worlds.")
    parser.add_argument("what", nargs="?", choices=["all", "oracle", "acft"], default="all")
    parser.add_argument("--cases", type=int, nargs="+", default=list(range(len(CASES))))
    parser.add_argument("--kinds", nargs="+", default=list(KINDS))
    parser.add_argument("--schedules", nargs="+", default=["sequential", "parallel"])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--oracle", default="{}", help="settings of the oracle, as JSON")
    parser.add_argument("--optimizer", default="{}", help="settings of the optimizer, as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
