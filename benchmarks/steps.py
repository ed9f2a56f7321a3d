"""What the KL term costs: an ACFT step against a plain fine-tuning step on the same tokens.

    python -m benchmarks.steps                            random weights of SmolLM2-135M's shape
    python -m benchmarks.steps --experiment experiments/quickstart.toml     its model and texts
    python -m benchmarks.steps --device cuda --shape llama-1b --batch 16
    python -m benchmarks.steps --device cuda --shape llama-7b --batch 4 --micro-batch 1 --tokens 999
    python -m benchmarks.steps --compile                  and the same with compiled layers
    torchrun --standalone --nproc-per-node 8 -m benchmarks.steps --shape llama-7b --sharding fsdp
    python -m benchmarks.steps --profile                  where the time of an ACFT step goes
    python -m benchmarks.steps --quick                    a smoke test

*Step* is an optimiser step once the constraint's verdicts on the texts are known; *round* is a
whole pass over the steps that has to ask for them. Steps of all kinds take turns, and each step's
time is the best of the repeats, so that what else the machine does matters little. TRL's SFTTrainer
takes part where it is installed, on the same batches with its own collator and attention.

Several processes share the passes of each step, so tokens a second are those of all of them. The
bars and TRL's trainer are for one.
"""

import argparse
import copy
import dataclasses
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from acft.data import TokenizedDocument, mixture
from acft.distributed import leave, ranks
from acft.events import Scalars
from acft.methods.acft import AcftSettings, as_set
from acft.runs.spec import load_spec
from acft.seeding import derive_seed
from acft.training.fit_job import fit_job
from acft.training.optimization import PolicyOptimizer
from acft.training.oracle_job import Guide, build_oracle
from acft.training.precompute import precompute_guidance
from acft.training.regularizer import Regularizer
from acft.training.world import World
from benchmarks.toy_worlds import drained
from benchmarks.worlds import experiment_world, random_world, synchronize

BARS = {"cpu": (1.5, 2.0), "cuda": (1.25, 1.6)}
"""Largest ratios of step and round to plain fine-tuning."""
LR = 1e-6
"""So small that random weights stay what they are."""

QUICKSTART = Path(__file__).resolve().parents[1] / "experiments" / "quickstart.toml"
"""The recipe whose method is measured as it is set."""
RECIPE = "acft, as in quickstart"
JUDGED = ("acft", RECIPE)
"""Kinds that the bars are for."""

KEPT = {"acft, 64 tokens kept": 64}
"""Kinds whose guidance is computed before the steps, and how much of it is kept."""

Times = dict[str, list[list[float]]]
"""Kind of step to the seconds of each step in each repeat."""


def rules(world: World) -> dict[str, Regularizer | None]:
    """What is measured: by name, the KL term or none."""
    guide = Guide(build_oracle(world).eval(), 1.0, 0)
    snapshot = Regularizer(guide, world.base, kl_weight=1.0)
    return {
        "sft": None,
        "acft": snapshot,
        "acft, anchor current": dataclasses.replace(snapshot, anchor=None),
        "acft, 64 tokens kept": snapshot,
        "acft, not adaptive": dataclasses.replace(snapshot, is_adaptive=False),
        "acft, reach weighted": dataclasses.replace(snapshot, is_reach_weighted=True),
        RECIPE: recipe(snapshot),
    }


def recipe(snapshot: Regularizer) -> Regularizer:
    """The KL term with the settings of quickstart's method.

    Raises:
        ValueError: They ask for what is measured only with rollouts.
    """
    method = load_spec(QUICKSTART).method_settings
    assert isinstance(method, AcftSettings)
    if method.prefixes != ("corpus",) or method.guidance_top_k:
        raise ValueError(
            f"{QUICKSTART.name} [method] prefixes = {list(method.prefixes)}, guidance_top_k = "
            f"{method.guidance_top_k}: only ['corpus'] and 0 are measured here; extend rules()"
        )
    anchor = snapshot.anchor if method.anchor == "snapshot" else None
    rule = dataclasses.replace(snapshot, anchor=anchor, kl_weight=method.kl_weight)
    return as_set(rule, method)


def pass_over(world: World, rule: Regularizer | None, kept: int = 0) -> tuple[list[float], float]:
    """Seconds of each optimiser step, and of the whole pass."""
    optimizer = PolicyOptimizer(
        world.policy.parameters(), world.run.optimizer, world.run.optimizer.steps_per_round
    )
    synchronize(world.policy.device)
    start = time.perf_counter()
    if rule is not None and kept:
        rule = dataclasses.replace(rule, guide=drained(precompute_guidance(world, rule, 1, kept)))
    steps = [
        output.values["time/step_seconds"]
        for output in fit_job(world, optimizer, rule, 1)
        if isinstance(output, Scalars)
    ]
    synchronize(world.policy.device)
    return steps, time.perf_counter() - start


def measure(
    world: World, repeats: int, compiled: World | None = None
) -> dict[str, tuple[float, float]]:
    """(Seconds of all steps, seconds of a round) of every kind; the best of the repeats.

    The first passes, which warm up, tell the peak memory of each kind where the device counts it.

    Args:
        world: Whose steps are measured.
        repeats: Of each kind.
        compiled: The same world with compiled layers, whose plain kinds take part.
    """
    kinds = {name: (world, rule, KEPT.get(name, 0)) for name, rule in rules(world).items()}
    if compiled is not None:
        rule = rules(compiled)
        kinds |= {f"{name}, compiled": (compiled, rule[name], 0) for name in ("sft", "acft")}
    for name, kind in kinds.items():
        if world.policy.device != "cpu":
            torch.cuda.reset_peak_memory_stats()
        pass_over(*kind)
        if world.policy.device != "cpu":
            peak = torch.cuda.max_memory_allocated() / 2**30
            _say(f"{name}: at most {peak:.1f} GiB allocated, models included")
    steps: Times = {name: [] for name in kinds}
    rounds: dict[str, list[float]] = {name: [] for name in kinds}
    for repeat in range(1, repeats + 1):
        _say(f"repeat {repeat}/{repeats}", file=sys.stderr)
        for name, kind in kinds.items():
            kind[0]._document_verdicts.clear()
            rounds[name].append(pass_over(*kind)[1])
            steps[name].append(pass_over(*kind)[0])
    return {name: (best_sum(steps[name]), min(rounds[name])) for name in kinds}


def best_sum(repeats: list[list[float]]) -> float:
    """Sum over steps of the best repeat of each."""
    return sum(min(times) for times in zip(*repeats, strict=True))


def batches(world: World) -> list[list[TokenizedDocument]]:
    """The documents of each optimiser step, as ``fit_job`` draws them."""
    settings = world.run.optimizer
    seed = derive_seed(world.run.seed, "mixture")
    return list(mixture(world.corpora, settings.steps_per_round, settings.batch_size, seed))


def trl_seconds(world: World, repeats: int) -> float:
    """Seconds of all steps of TRL's SFTTrainer with the same adapter; the best of the repeats."""
    times = [_trl_steps(world) for _ in range(repeats + 1)]
    return best_sum(times[1:])


def _trl_steps(world: World) -> list[float]:
    from datasets import Dataset  # noqa: PLC0415 - optional, and slow to import
    from peft import LoraConfig  # noqa: PLC0415
    from transformers import TrainerCallback  # noqa: PLC0415
    from trl import SFTConfig, SFTTrainer  # noqa: PLC0415  # pyright: ignore

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.seconds: list[float] = []

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            synchronize(world.policy.device)
            self.start = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            synchronize(world.policy.device)
            self.seconds.append(time.perf_counter() - self.start)

    settings, adapter, clock = world.run.optimizer, world.run.adapter, Clock()
    model = copy.deepcopy(world.base.backbone.model)
    model.set_attn_implementation("sdpa")
    texts = [list(d.token_ids) for documents in batches(world) for d in documents]
    with tempfile.TemporaryDirectory() as folder, quiet():
        config = SFTConfig(
            output_dir=folder, report_to=[], use_cpu=world.policy.device == "cpu",
            per_device_train_batch_size=settings.micro_batch_size,
            gradient_accumulation_steps=settings.batch_size // settings.micro_batch_size,
            max_steps=settings.steps_per_round, learning_rate=LR, save_strategy="no",
            shuffle_dataset=False, train_sampling_strategy="sequential", disable_tqdm=True,
            activation_checkpointing=settings.checkpointing, bf16=world.policy.device != "cpu",
            logging_strategy="no", max_length=None,
        )  # fmt: skip
        config._n_gpu = min(config.n_gpu, 1)  # the trainer refuses more in one process
        trainer = SFTTrainer(
            model=model, args=config, train_dataset=Dataset.from_dict({"input_ids": texts}),
            processing_class=world.base.backbone.tokenizer, callbacks=[clock],
            peft_config=LoraConfig(
                r=adapter.rank, lora_alpha=int(adapter.alpha), target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
        )  # fmt: skip
        trainer.train()
    return clock.seconds


@contextmanager
def quiet() -> Iterator[None]:
    """Swallows what a trainer prints and warns of."""
    with warnings.catch_warnings(), Path(os.devnull).open("w") as sink:
        warnings.simplefilter("ignore")
        with redirect_stdout(sink), redirect_stderr(sink):
            yield


def profile(world: World) -> str:
    """A table of the operations of one pass of ACFT steps, by the time they take themselves."""
    world.base.workers.count = 1  # the profiler sees its own thread alone
    rule = rules(world)["acft"]
    pass_over(world, rule)
    with torch.profiler.profile() as profiler:
        pass_over(world, rule)
    column = "self_cpu_time_total" if world.policy.device == "cpu" else "self_cuda_time_total"
    return profiler.key_averages().table(sort_by=column, row_limit=25)


def report(
    world: World, seconds: dict[str, tuple[float, float]], trl: float | None
) -> tuple[list[str], bool]:
    """Lines of the result, and whether the bars are met; several processes have none."""
    tokens = sum(len(d.token_ids) - 1 for documents in batches(world) for d in documents)
    sft_step, sft_round = seconds["sft"]
    lines = [f"{'':24} {'ms a step':>10} {'tokens/s':>9} {'/ sft':>6} {'round / sft':>11}"]
    n_steps = world.run.optimizer.steps_per_round
    for name, (step, round_seconds) in seconds.items():
        lines.append(
            f"{name:24} {1000 * step / n_steps:10.1f} {tokens / step:9.0f} "
            f"{step / sft_step:6.2f} {round_seconds / sft_round:11.2f}"
        )
    if trl is not None:
        lines.append(
            f"{'SFTTrainer of trl':24} {1000 * trl / n_steps:10.1f} {tokens / trl:9.0f} "
            f"{trl / sft_step:6.2f}"
        )
    if ranks().size > 1:
        return lines, True
    step_bar, round_bar = BARS["cuda" if world.policy.device != "cpu" else "cpu"]
    is_met = all(
        seconds[name][0] / sft_step <= step_bar and seconds[name][1] / sft_round <= round_bar
        for name in JUDGED
    )
    bars = f"bars: each of {'; '.join(JUDGED)} / sft <= {step_bar} a step, <= {round_bar} a round"
    return [*lines, f"{bars}: {'met' if is_met else 'MISSED'}"], is_met


def build_world(args: argparse.Namespace, *, is_compiled: bool = False) -> World:
    """The world that the arguments ask for."""
    if args.experiment:
        overrides = [f"optimizer.lr={LR}", f"optimizer.steps_per_round={args.steps}"]
        overrides += ["optimizer.compile=true"] if is_compiled else []
        overrides += [f"device={args.device}", f"model.sharding={args.sharding}"]
        return experiment_world(args.experiment, overrides)
    optimizer = {
        "lr": LR, "steps_per_round": args.steps, "batch_size": args.batch,
        "micro_batch_size": min(args.micro_batch, args.batch), "checkpointing": args.checkpointing,
        "max_tokens": max(args.tokens, 128), "compile": is_compiled,
    }  # fmt: skip
    shape = "tiny" if args.quick else args.shape
    model = {"name": shape, "sharding": args.sharding}
    return random_world(shape, args.device, tokens=args.tokens, optimizer=optimizer, model=model)


def _say(text: str, file: Any = None) -> None:
    """Prints in the first process."""
    if ranks().rank == 0:
        print(text, file=file)


def main(arguments: list[str] | None = None) -> int:
    """0 when the bars are met."""
    parser = argparse.ArgumentParser(description="Cost of an ACFT step.")
    parser.add_argument("--experiment", type=Path, help="settings file whose world is used")
    parser.add_argument("--shape", default="smollm2-135m", help="of a model with random weights")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=12, help="documents in a step")
    parser.add_argument("--micro-batch", type=int, default=4, help="documents in a forward pass")
    parser.add_argument("--tokens", type=int, default=0, help="of every document, at least")
    parser.add_argument("--checkpointing", action="store_true", help="activations computed twice")
    parser.add_argument("--compile", action="store_true", help="minutes more for the compiler")
    parser.add_argument(
        "--sharding", default="none", choices=["none", "fsdp"], help="as in [model], of processes"
    )
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--quick", action="store_true", help="a tiny model, two steps, once")
    args = parser.parse_args(arguments)
    if args.quick:
        args.steps, args.repeats = 2, 1
    if args.compile and args.sharding != "none":
        parser.error("--compile: layers that --sharding divides are not compiled; leave one out")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    world = build_world(args)
    if args.profile:
        _say(profile(world))
        leave()
        return 0
    compiled = build_world(args, is_compiled=True) if args.compile else None
    seconds = measure(world, args.repeats, compiled)
    is_alone = ranks().size == 1
    trl = trl_seconds(world, args.repeats) if is_alone and find_spec("trl") is not None else None
    lines, is_met = report(world, seconds, trl)
    processes = "" if is_alone else f"{ranks().size} processes of "
    device = world.policy.device
    _say(f"{world.run.model.name} on {device}, {processes}{torch.get_num_threads()} threads")
    _say("\n".join(lines))
    if trl is None and is_alone:
        _say("trl is not installed; its trainer was not measured")
    leave()
    return int(not is_met)


if __name__ == "__main__":
    sys.exit(main())
