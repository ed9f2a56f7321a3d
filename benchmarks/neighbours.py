"""A training step beside other work on the same cores, by how its threads wait for each other.

python -m benchmarks.neighbours [--shape smollm2-135m] [--steps 4]
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

import torch

from benchmarks.worlds import random_backbone

WAYS: dict[str, dict[str, str]] = {
    "torch alone": {},
    "acft": {"GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "")},
    "asleep": {"OMP_WAIT_POLICY": "PASSIVE"},
}
"""Variables that say how long a thread spins before it sleeps."""
BATCH = (8, 64)
"""Texts and tokens of a step."""


@contextmanager
def busy_process() -> Iterator[None]:
    """One process that keeps one core at work."""
    # a session of its own, as another program has; ends with us, however we end
    code = "import os; ours = os.getppid()\nwhile os.getppid() == ours: pass"
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def seconds_a_step(shape: str, steps: int) -> float:
    """Median time of a forward and backward pass in this process."""
    model = random_backbone(shape, "cpu", "float32").model
    ids = torch.randint(0, model.config.vocab_size, BATCH)
    embedded = model.get_input_embeddings()(ids).detach().requires_grad_()
    times = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        model(inputs_embeds=embedded, labels=ids).loss.backward()
        times.append(time.perf_counter() - start)
    return median(times[1:])


def measured(way: str, arguments: list[str]) -> float:
    """Seconds a step in a process of its own with one thread for each core."""
    threads = str(os.cpu_count() or 1)
    chosen = {name for variables in WAYS.values() for name in variables}
    environment = {name: value for name, value in os.environ.items() if name not in chosen}
    environment |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads} | WAYS[way]
    # torch first: it reads the variables before acft's choice is added to them
    code = "import torch; from benchmarks.neighbours import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--alone", *arguments],
        env=environment, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout)


def main() -> None:
    """Print a row for each way to wait: alone, and beside a busy process."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", default="smollm2-135m")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        print(seconds_a_step(args.shape, args.steps))
        return
    arguments = sys.argv[1:]
    first = measured("torch alone", arguments)
    print(f"{os.cpu_count()} threads; times of a step over those of torch alone without neighbour")
    for way in WAYS:
        alone = measured(way, arguments)
        with busy_process():
            beside = measured(way, arguments)
        print(f"{way:12} alone {alone / first:.2f}  beside {beside / first:.2f}", flush=True)


if __name__ == "__main__":
    main()
