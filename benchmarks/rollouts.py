"""Tokens per second of the workbench's sampler against ``generate`` of the unmerged LoRA model.

    python -m benchmarks.rollouts                         SmolLM2-135M's shape
    python -m benchmarks.rollouts --device cuda --shape llama-1b --horizon 128
    python -m benchmarks.rollouts --compiled              and [engine] kind = "compiled"
    python -m benchmarks.rollouts --profile               where the sampler's time goes
    python -m benchmarks.rollouts --quick                 a smoke test

All get the same prompts, adapter, cores, batch size, temperature and number of new tokens, and all
end with texts. ``generate`` runs as it is called by default, with its own cache and attention; the
sampler's time includes merging the adapter. They take turns, and the best of the repeats counts.
Draws of a round share compiled steps, so what comes before the first of them is told apart.
"""

import argparse
import copy
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from acft.engines.compiled import CompiledEngine
from acft.policy import Policy
from acft.settings import SamplingSettings
from acft.training.world import World
from acft.types import Prompt
from acft.windows import left_padded
from benchmarks.worlds import SHAPES, prompts, random_world, synchronize

BARS = {"cpu": 1.5, "cuda": 3.0}


@dataclass
class Contest:
    """What every contestant gets."""

    world: World
    unmerged: Any
    """Transformers adds ``generate`` to its models at run time only."""
    merged: Any
    prompts: list[Prompt]
    sampling: SamplingSettings

    def ours(self, policy: Policy | None = None, *, keep_hidden: bool = False) -> list[str]:
        """Responses of the workbench's sampler, of a new snapshot if no policy is given."""
        policy = policy or self.world.snapshot()
        samples = policy.sample(self.prompts, 1, self.sampling, seed=0, keep_hidden=keep_hidden)
        return [rollout.response_text for rollout in samples.rollouts]

    @torch.no_grad()
    def generated(self, model: Any) -> list[str]:
        """Responses of ``generate``."""
        tokenizer, sampling = self.world.base.backbone.tokenizer, self.sampling
        texts: list[str] = []
        for start in range(0, len(self.prompts), sampling.batch_size):
            some = self.prompts[start : start + sampling.batch_size]
            ids, mask = left_padded([tokenizer(prompt.text)["input_ids"] for prompt in some])
            drawn = model.generate(
                ids.to(model.device), attention_mask=mask.long().to(model.device), do_sample=True,
                temperature=sampling.temperature, top_p=sampling.top_p, top_k=0,
                max_new_tokens=sampling.horizon, min_new_tokens=sampling.horizon,
            )  # fmt: skip
            texts += tokenizer.batch_decode(drawn[:, ids.shape[1] :], skip_special_tokens=True)
        return texts

    def contestants(self) -> dict[str, Callable[[], list[str]]]:
        """By name, what is measured; the first is what the others are compared with."""
        return {
            "generate, unmerged LoRA": lambda: self.generated(self.unmerged),
            "generate, merged": lambda: self.generated(self.merged),
            "sampler": self.ours,
            "sampler, with hidden states": lambda: self.ours(keep_hidden=True),
        }


def contest(shape: str, device: str, n: int, sampling: SamplingSettings) -> Contest:
    """Contestants of one model shape on a device."""
    world = random_world(shape, device)
    unmerged = copy.deepcopy(world.policy.backbone.model).eval()
    merged = world.snapshot().backbone.model
    for model in (unmerged, merged):
        model.set_attn_implementation("sdpa")
    some = prompts(SHAPES[shape]["vocab_size"], n, "train")
    return Contest(world, unmerged, merged, some, sampling)


def seconds(contest: Contest, repeats: int) -> dict[str, float]:
    """Best time of each contestant."""
    times: dict[str, list[float]] = {name: [] for name in contest.contestants()}
    for repeat in range(repeats + 1):
        for name, draw in contest.contestants().items():
            taken = timed(contest, draw)
            if repeat:  # the first warms up
                times[name].append(taken)
    return {name: min(values) for name, values in times.items()}


@dataclass(frozen=True)
class CompiledSeconds:
    """Times of the sampler with compiled steps."""

    draw: float
    """Of a draw in a round that has drawn before."""
    round: float
    """What the first draw of a round takes more: merging, caches and, on a GPU, graphs."""
    compiler: float
    """What the first draw of all takes more than that."""


def compiled_seconds(contest: Contest, engine: CompiledEngine, repeats: int) -> CompiledSeconds:
    """Best times over the repeats, each of which is a round with two draws."""
    first, later = [], []
    for _ in range(repeats + 1):
        synchronize(contest.world.base.device)
        start = time.perf_counter()
        policy = replace(contest.world.snapshot(), engine=engine)
        with policy.prepared():
            timed(contest, lambda policy=policy: contest.ours(policy))
            first.append(time.perf_counter() - start)
            later.append(timed(contest, lambda policy=policy: contest.ours(policy)))
    draw = min(later[1:])
    return CompiledSeconds(draw, min(first[1:]) - draw, first[0] - min(first[1:]))


def timed(contest: Contest, draw: Callable[[], list[str]]) -> float:
    """Seconds of a draw."""
    synchronize(contest.world.base.device)
    start = time.perf_counter()
    texts = draw()
    synchronize(contest.world.base.device)
    assert len(texts) == len(contest.prompts)
    return time.perf_counter() - start


def profile(contest: Contest) -> str:
    """A table of the sampler's operations by the time they take themselves."""
    contest.ours()
    with torch.profiler.profile() as profiler:
        contest.ours()
    column = "self_cpu_time_total"
    if contest.world.base.device != "cpu":
        column = "self_cuda_time_total"
    return profiler.key_averages().table(sort_by=column, row_limit=25)


def main(arguments: list[str] | None = None) -> int:
    """0 when the bar is met."""
    parser = argparse.ArgumentParser(description="Speed of sampling.")
    parser.add_argument("--shape", default="smollm2-135m", choices=SHAPES)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--horizon", type=int, default=20, help="new tokens of each response")
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compiled", action="store_true", help="a minute more for the compiler")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--quick", action="store_true", help="a tiny model, once")
    args = parser.parse_args(arguments)
    if args.quick:
        args.shape, args.prompts, args.batch, args.repeats = "tiny", 8, 4, 1
    logging.getLogger("transformers").setLevel(logging.ERROR)
    sampling = SamplingSettings(horizon=args.horizon, top_p=args.top_p, batch_size=args.batch)
    subject = contest(args.shape, args.device, args.prompts, sampling)
    if args.profile:
        print(profile(subject))
        return 0
    device = subject.world.base.device
    found = seconds(subject, args.repeats)
    compiled = None
    if args.compiled:
        compiled = compiled_seconds(subject, CompiledEngine(), args.repeats)
        found["sampler, compiled"] = compiled.draw
    slowest = found["generate, unmerged LoRA"]
    print(f"{args.shape} on {device}, {torch.get_num_threads()} threads, batches of {args.batch}")
    for name, value in found.items():
        speed = args.prompts * args.horizon / value
        print(f"{name:28} {speed:9.0f} tokens/s {slowest / value:6.2f} times")
    if compiled is not None:
        print(
            f"compiled: {compiled.round:.2f} s of set-up in a round before its first draw, and "
            f"{compiled.compiler:.1f} s once for the compiler, are not in its tokens/s"
        )
    bar = BARS["cpu" if device == "cpu" else "cuda"]
    is_met = slowest / found["sampler"] >= bar
    print(f"bar: sampler >= {bar} times generate: {'met' if is_met else 'MISSED'}")
    return int(not is_met)


if __name__ == "__main__":
    sys.exit(main())
