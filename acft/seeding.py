"""Seeds: one for a run, a derived one for every consumer, a number in [0, 1) for every text."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on the run's seed and on who asks, and on nothing else."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def derive_short_seed(seed: int, *names: str | int) -> int:
    """``derive_seed`` in 32 bits, the most that scikit-learn and numpy's global generator take."""
    return derive_seed(seed, *names) % 2**32


def hash_fraction(text: str) -> float:
    """A number in [0, 1) that depends on the text alone; used for stable splits."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


@contextmanager
def local_torch_seed(seed: int) -> Iterator[None]:
    """Seeds torch's generators within it and restores the CPU's afterwards."""
    import torch  # noqa: PLC0415 - seeds are also derived where torch is not needed

    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)
