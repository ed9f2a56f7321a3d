"""Float32 products of the packaged model on one thread, by library and layout of the weights.

    python -m benchmarks.products

``nn.Linear`` keeps the weights of one output side by side; the workbench those of one input, which
products of few rows read faster. Every row of the table multiplies with weights that do not fit
into a core's caches, as a forward pass does. Settings take turns, and the median counts.
"""

import itertools
import time
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn

from acft.backbone.products import use_wide_vectors

ROWS = (1, 16, 32, 64, 384)
"""A live answer, batches that are drawn token by token, and a forward pass of training."""
SHAPES = ((576, 1536), (1536, 576), (576, 576))
"""Inputs and outputs of a layer's products."""
LAYERS = 10
"""Weights of each shape, 90 MB in all."""
LIBRARIES = {"MKL": "highest", "oneDNN": "medium"}
"""Precisions that make PyTorch choose them, where a CPU has no matrix units."""


@dataclass(frozen=True)
class Setting:
    """A way to multiply."""

    library: str
    layout: str

    def weights(self, weights: list[Tensor]) -> list[Tensor]:
        """The same weights as this setting has them in memory."""
        if self.layout == "by output":
            return weights
        return [weight.t().contiguous().t() for weight in weights]

    def seconds(self, n_rows: int, weights: list[Tensor]) -> float:
        """Time of one pass through all layers."""
        torch.set_float32_matmul_precision(LIBRARIES[self.library])
        inputs = {n: torch.randn(n_rows, n) for n, _ in SHAPES}
        start = time.perf_counter()
        for weight in weights:
            nn.functional.linear(inputs[weight.shape[1]], weight)
        return time.perf_counter() - start


def relative_error(library: str) -> float:
    """Largest error against float64, over the mean size of an entry."""
    torch.set_float32_matmul_precision(LIBRARIES[library])
    x, weight = torch.randn(64, 576), torch.randn(1536, 576)
    exact = x.double() @ weight.double().T
    found = nn.functional.linear(x, weight)
    return float((found - exact).abs().max() / exact.abs().mean())


def main() -> None:
    """Print billions of operations a second, one line for each number of rows."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    cpu = torch.cpu.get_capabilities()
    weights = [torch.randn(n, k) for _ in range(LAYERS) for k, n in SHAPES]
    settings = [Setting(*pair) for pair in itertools.product(LIBRARIES, ("by output", "by input"))]
    laid_out = {setting: setting.weights(weights) for setting in settings}
    chosen = "oneDNN" if use_wide_vectors() else "MKL"
    print(f"{cpu.get('cpu_name')}, matrix units: {cpu.get('amx_tile')}; chosen: {chosen}, by input")
    print("errors: " + ", ".join(f"{name} {relative_error(name):.1e}" for name in LIBRARIES))
    print("GFLOP/s      " + "".join(f"{s.library + ', ' + s.layout:>20}" for s in settings))
    for n_rows in ROWS:
        times: dict[Setting, list[float]] = {setting: [] for setting in settings}
        for _ in range(9):
            for setting in settings:
                times[setting].append(setting.seconds(n_rows, laid_out[setting]))
        work = 2 * n_rows * sum(weight.numel() for weight in weights)
        speeds = (f"{work / median(times[setting]) / 1e9:20.0f}" for setting in settings)
        print(f"{n_rows:4} rows    " + "".join(speeds))


if __name__ == "__main__":
    main()
