"""How soon the workbench answers while somebody waits: live texts, token values, cancelling.

    python -m benchmarks.live                     the recorded run, on its processor
    python -m benchmarks.live --device cuda
    python -m benchmarks.live --quick             each thing once

Everything is asked of the inference process as the pages ask it, and compared with the model's own
forward passes in this process: with the one pass that any first token needs, with ``generate`` of
transformers for whole texts, with one pass of base and tuned policy for token values. All take
turns, and the best of the repeats counts.
"""

import argparse
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from acft.inference.client import Inference
from acft.inference.opened import OpenedRun, open_run
from acft.inference.server import Session
from acft.policy import Policy
from acft.runs.directory import all_runs
from acft.types import TokenBatch

DEMO = Path(__file__).parents[1] / "assets" / "demo"
PROMPT = "The neighbours met in the street because"
SAMPLES = 4
TOKENS = 40
LONG_SECONDS = 600.0


@dataclass(frozen=True)
class Bench:
    """The process that is asked, and the same models here."""

    models: Inference
    opened: OpenedRun
    version: int
    where: dict[str, str]

    def live(self, subject: str, tokens: int = TOKENS) -> Any:
        """Texts of one side as they grow."""
        side = {"subject": subject, "version": self.version}
        return self.models.stream(
            "generate", LONG_SECONDS, **self.where, prompt=PROMPT, sides=[side],
            samples=SAMPLES, horizon=tokens, top_p=0.9,
        )  # fmt: skip

    def first_text(self, subject: str) -> None:
        """Waits for the first token of each text, then cancels."""
        parts = self.live(subject)
        next(parts)
        parts.close()

    def texts(self, subject: str) -> None:
        """Waits for whole texts."""
        for _ in self.live(subject):
            pass

    def values(self, ids: list[int], start: int) -> None:
        """Waits for the values of every token of a text."""
        self.models.call(
            "score", LONG_SECONDS, **self.where, version=self.version, prompt=PROMPT,
            prompt_ids=ids[:start], response_ids=ids[start:],
        )  # fmt: skip

    def answer_after_cancelling(self) -> None:
        """Waits for the first token, cancels, waits for an answer that takes no time by itself."""
        parts = self.live("policy", 200)
        next(parts)
        parts.close()
        self.models.call("judge", LONG_SECONDS, **self.where, texts=["rain"])


def main(arguments: list[str] | None = None) -> int:
    """Prints every wait over what it is compared with."""
    parser = argparse.ArgumentParser(description="How soon live answers come.")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="each thing once")
    args = parser.parse_args(arguments)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    models = Inference(args.device)
    try:
        found = waits(open_bench(models, args.device), 1 if args.quick else args.repeats)
    finally:
        models.close()
    pairs = {
        "first token of tuned texts / one pass": ("first policy", "pass"),
        "first token of guided texts / one pass": ("first guided", "pass"),
        "tuned texts / generate": ("texts policy", "generate"),
        "guided texts / generate": ("texts guided", "generate"),
        "token values / a pass of base and one of tuned": ("values", "two passes"),
        "first token, cancelled, next answer / first token": ("cancelled", "first policy"),
    }
    for name, (above, below) in pairs.items():
        print(f"{name:50} {found[above] / found[below]:6.2f} times")
    return 0


def open_bench(models: Inference, device: str) -> Bench:
    """The recorded run, opened in both processes."""
    (paths,) = all_runs(DEMO)
    opened = open_run(Session(device), str(DEMO), paths.root.name)
    version = max(int(folder.name.rpartition("-")[2]) for folder in paths.checkpoints.iterdir())
    opened.policy(version)
    bench = Bench(models, opened, version, {"runs": str(DEMO), "run_id": paths.root.name})
    bench.texts("guided")
    return bench


def waits(bench: Bench, repeats: int) -> dict[str, float]:
    """Best seconds of each thing that is waited for, and of what it is compared with."""
    tuned, base = bench.opened.policy(bench.version), bench.opened.base
    prompt = base.backbone.tokenizer(PROMPT)["input_ids"]
    few = torch.tensor([prompt] * SAMPLES, device=tuned.device)
    long = generated(tuned, few)[0].tolist()
    text = torch.tensor([long], device=tuned.device)
    asked: dict[str, Callable[[], object]] = {
        "first policy": lambda: bench.first_text("policy"),
        "first guided": lambda: bench.first_text("guided"),
        "pass": lambda: passed(tuned, few),
        "texts policy": lambda: bench.texts("policy"),
        "texts guided": lambda: bench.texts("guided"),
        "generate": lambda: generated(tuned, few),
        "values": lambda: bench.values(long, len(prompt)),
        "two passes": lambda: (passed(base, text), passed(tuned, text)),
        "cancelled": bench.answer_after_cancelling,
    }
    times: dict[str, list[float]] = {name: [] for name in asked}
    for _ in range(repeats):
        for name, wait in asked.items():
            start = time.perf_counter()
            wait()
            if tuned.device != "cpu":
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)
    return {name: min(values) for name, values in times.items()}


@torch.inference_mode()
def passed(policy: Policy, token_ids: Tensor) -> Tensor:
    """Next-token distributions at every position."""
    mask = torch.ones_like(token_ids, dtype=torch.bool)
    return policy.next_logprobs(TokenBatch(token_ids, mask, mask))


@torch.inference_mode()
def generated(policy: Policy, token_ids: Tensor) -> Tensor:
    """Token ids of whole texts, drawn by transformers."""
    model: Any = policy.backbone.model
    return model.generate(
        token_ids, attention_mask=torch.ones_like(token_ids), do_sample=True, top_p=0.9, top_k=0,
        temperature=1.0, max_new_tokens=TOKENS, min_new_tokens=TOKENS,
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
