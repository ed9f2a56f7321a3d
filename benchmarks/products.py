"""Float32 matrix products of the packaged model's shapes: MKL against oneDNN, speed and error.

python -m benchmarks.products
"""

import time
from statistics import median

import torch
from torch import Tensor
from torch.nn.functional import linear

from acft.backbone.loading import use_wide_vectors

SHAPES = ((512, 576, 1536), (512, 1536, 576), (12, 576, 1536), (160, 576, 49152))
"""Rows, inputs, outputs: a training batch, a batch being sampled, the vocabulary."""


def seconds(x: Tensor, weight: Tensor, repeats: int = 9) -> float:
    """Median time of one product."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        linear(x, weight)
        times.append(time.perf_counter() - start)
    return median(times)


def relative_error(x: Tensor, weight: Tensor) -> float:
    """Largest error against float64, over the mean size of an entry."""
    exact = x.double() @ weight.double().T
    return float((linear(x, weight) - exact).abs().max() / exact.abs().mean())


def main() -> None:
    """Print one line a shape."""
    torch.manual_seed(0)
    pairs = [(torch.randn(m, k), torch.randn(n, k)) for m, k, n in SHAPES]
    plain = [(seconds(*pair), relative_error(*pair)) for pair in pairs]
    if not use_wide_vectors():
        print("this CPU has matrix units or no 512-bit vectors: products are left to PyTorch")
        return
    wide = [(seconds(*pair), relative_error(*pair)) for pair in pairs]
    print(f"{torch.get_num_threads()} threads, float32")
    for shape, (t0, e0), (t1, e1) in zip(SHAPES, plain, wide, strict=True):
        print(f"{shape}: {t0 / t1:.2f} times as fast; error {e0:.1e} before, {e1:.1e} now")


if __name__ == "__main__":
    main()
