"""Peak memory of the KL term against the plain formula's tensors, and its error.

    python -m benchmarks.memory                          8 x 1024 positions, vocabularies 49k, 128k
    python -m benchmarks.memory --device cuda --dtype bfloat16
    python -m benchmarks.memory --quick                  a smoke test

The plain formula holds three float32 tensors of [positions, vocabulary]: log p, log q and their
product. Measured is everything that value and gradient of cross-entropy and KL take beyond their
inputs, q and its oracle's factors included; each case has a process of its own, and its peak is
the allocator's on CUDA and the resident set elsewhere. Errors are against float64 on the same
upcast logits.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.nn.functional import linear

from acft.backbone.loading import resolve_device
from acft.chunked import Head, Penalty, PolicyLogprobs, _chunk, _Terms, token_losses
from acft.objective import guided_next_logprobs, kl_divergence
from acft.oracle.nado import FactoredHead

VOCABULARIES = (49_152, 128_256)
POSITIONS = 8 * 1024
WIDTH, STATE = 576, 64
"""Of the hidden states and of the oracle's memory."""
SHARE_MAX, ERROR_MAX = 0.10, 1e-3
ERROR_POSITIONS = 32
QUICK = {"vocab": 2_000, "positions": 2_048}


class Inputs:
    """Random hidden states of policy and anchor, their head, and an oracle's."""

    def __init__(self, vocab: int, positions: int, device: str, dtype: torch.dtype) -> None:
        generator = torch.Generator(device).manual_seed(0)

        def normal(*shape: int, scale: float = 1.0) -> Tensor:
            drawn = torch.empty(shape, device=device, dtype=dtype)
            return drawn.normal_(std=scale, generator=generator)

        self.hidden = normal(positions, WIDTH).requires_grad_()
        self.anchor = normal(positions, WIDTH, scale=0.1) + self.hidden.detach()
        self.head = normal(vocab, WIDTH, scale=WIDTH**-0.5)
        self.targets = torch.randint(vocab, (positions,), device=device, generator=generator)
        self.weights = torch.full((positions,), 1 / positions, device=device)
        self.states = normal(positions, STATE).float()
        torch.manual_seed(0)
        self.oracle = FactoredHead(self.head, STATE, None).to(device).eval()

    @torch.no_grad()
    def guided(self, rows: Tensor, _: PolicyLogprobs) -> Tensor:
        """Log-probabilities of the guided policy."""
        next_logprobs = linear(self.anchor[rows], self.head).float().log_softmax(dim=-1)
        next_log_r = torch.nn.functional.logsigmoid(self.oracle(self.states[rows]))
        return guided_next_logprobs(next_logprobs, next_log_r)


def peak_bytes(vocab: int, positions: int, device: str, dtype: torch.dtype, *, kl: bool) -> int:
    """Bytes in use at most beyond the inputs while losses and gradients are computed."""
    inputs = Inputs(vocab, positions, device, dtype)

    def work(n: int) -> None:
        penalty = Penalty(inputs.weights[:n], inputs.guided) if kl else None
        head = Head((inputs.head,))
        arguments = inputs.hidden[:n], head, inputs.targets[:n], inputs.weights[:n]
        token_losses(*arguments, penalty).total.sum().backward()

    work(1)  # what libraries take at first use is no part of it
    inputs.oracle.train().eval()  # nor do the oracle's factors from that
    inputs.hidden.grad = None
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work(positions)
        return torch.cuda.max_memory_allocated() - before
    before = psutil.Process().memory_info().rss
    work(positions)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before


def errors(vocab: int, device: str, dtype: torch.dtype) -> dict[str, float]:
    """Relative error of the KL's value and of its gradient alone for the logits."""
    inputs = Inputs(vocab, ERROR_POSITIONS, device, dtype)
    rows = torch.arange(ERROR_POSITIONS, device=device)
    penalty = Penalty(inputs.weights, inputs.guided)
    # the gradient of the cross-entropy, many times as large, would hide the error
    no_nll = torch.zeros_like(inputs.weights)
    with torch.no_grad():
        logits = linear(inputs.hidden, inputs.head)
        head = Head((inputs.head,))
        terms = _Terms(head, inputs.targets, no_nll, penalty, ERROR_POSITIONS, is_training=True)
        values, gradient = _chunk(inputs.hidden, rows, terms, penalty)
        q_logprobs = inputs.guided(rows, lambda: logits).double()
    exact_logits = logits.double().requires_grad_()
    logprobs = exact_logits.log_softmax(dim=-1)
    kl = kl_divergence(q_logprobs, logprobs)
    exact_kl = kl.detach()
    (inputs.weights * kl).sum().backward()
    exact = exact_logits.grad
    assert exact is not None
    return {
        "value error": float(((values[2] - exact_kl).abs() / exact_kl.abs()).max()),
        "gradient error": float((gradient - exact).norm() / exact.norm()),
    }


def measure(args: argparse.Namespace) -> dict[str, float]:
    """One case: the peak with or without the KL term, or the errors."""
    dtype = getattr(torch, args.dtype)
    if args.case == "errors":
        return errors(args.vocab, args.device, dtype)
    start = time.perf_counter()
    peak = peak_bytes(args.vocab, args.positions, args.device, dtype, kl=args.case == "kl")
    return {"bytes": peak, "seconds": time.perf_counter() - start}


def _in_process(case: str, vocab: int, args: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.memory", "--case", case, "--vocab", str(vocab)]
    command += ["--positions", str(args.positions), "--device", args.device, "--dtype", args.dtype]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=root)
    return json.loads(done.stdout)


def result(vocab: int, args: argparse.Namespace) -> tuple[str, bool]:
    """A line about one vocabulary, and whether its bars are met."""
    found: dict[str, Any] = {c: _in_process(c, vocab, args) for c in ("ce", "kl", "errors")}
    plain = 3 * 4 * args.positions * vocab
    share = found["kl"]["bytes"] / plain
    value, gradient = found["errors"].values()
    is_met = share <= SHARE_MAX and value <= ERROR_MAX and gradient <= ERROR_MAX
    line = (
        f"{vocab:7} tokens: {found['kl']['bytes'] / 2**20:8.0f} MiB with the KL, "
        f"{found['ce']['bytes'] / 2**20:6.0f} without; plain {plain / 2**20:7.0f} MiB: "
        f"{share:.1%}; value error {value:.1e}, gradient {gradient:.1e}"
    )
    return line + ("" if is_met or args.quick else "  MISSED"), is_met or args.quick


def main(arguments: list[str] | None = None) -> int:
    """0 when every bar is met."""
    parser = argparse.ArgumentParser(description="Memory of the KL term.")
    parser.add_argument("--positions", type=int, default=POSITIONS)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--quick", action="store_true", help="a small vocabulary, few positions")
    parser.add_argument("--case", choices=("ce", "kl", "errors"), help=argparse.SUPPRESS)
    parser.add_argument("--vocab", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    args.device = resolve_device(args.device)
    if args.case:
        print(json.dumps(measure(args)))
        return 0
    vocabularies = VOCABULARIES
    if args.quick:
        vocabularies, args.positions = (QUICK["vocab"],), QUICK["positions"]
    print(f"{args.positions} positions, {args.dtype} on {args.device}")
    bars = f"at most {SHARE_MAX:.0%} of the plain tensors, errors at most {ERROR_MAX}"
    print("so few positions are a single chunk: no bars" if args.quick else f"bars: {bars}")
    results = [result(vocab, args) for vocab in vocabularies]
    print("\n".join(line for line, _ in results))
    return int(not all(is_met for _, is_met in results))


if __name__ == "__main__":
    sys.exit(main())
