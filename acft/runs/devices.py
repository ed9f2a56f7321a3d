"""Where runs may compute: devices, how many runs each takes, and GPU memory others use."""

import os
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from acft.errors import ConfigError
from acft.machine import VISIBLE_GPUS, cores
from acft.runs.sizes import size

CORES_PER_RUN = 2
"""CPU runs share the machine in portions of this many cores, unless ``CPU_RUNS`` says otherwise."""
CPU_RUNS = "ACFT_CPU_RUNS"
"""Environment variable: most runs on the CPU at once."""
GPU_FREE_FRACTION = 0.5
"""A GPU with less free memory than this is taken by somebody else."""
ORDER = "CUDA_DEVICE_ORDER"
"""Environment variable: how GPUs are counted."""
UUIDS = ("GPU-", "MIG-")
"""How names of GPUs begin that cluster schedulers write into ``CUDA_VISIBLE_DEVICES``."""


@dataclass(frozen=True)
class Device:
    """One place for runs."""

    name: str
    """cpu, mps, cuda:INDEX (counted by place on the bus, as the driver does) or cuda:UUID."""
    slots: int = 1
    """Runs at once."""


def devices() -> list[Device]:
    """All places for runs, GPUs first.

    Raises:
        ConfigError: ``ACFT_CPU_RUNS`` is not a number from 1 to that of the cores.
    """
    gpus = [Device(f"cuda:{gpu}") for gpu in _gpus()]
    apple = [Device("mps")] if sys.platform == "darwin" and os.uname().machine == "arm64" else []
    return [*gpus, *apple, Device("cpu", _cpu_runs())]


def _cpu_runs() -> int:
    wanted = os.environ.get(CPU_RUNS, "")
    if not wanted:
        return max(1, cores() // CORES_PER_RUN)
    if not wanted.isdecimal() or not 1 <= int(wanted) <= cores():
        raise ConfigError(
            f"{CPU_RUNS} is {wanted!r}; set it to a whole number from 1 to {cores()}, "
            "the number of cores, or unset it"
        )
    return int(wanted)


def candidates(wanted: str, present: list[Device]) -> list[Device]:
    """Devices on which a run that asks for ``wanted`` may be put; ``auto`` as the worker takes it.

    A named device that is missing gives the CPU's place in the queue: the worker then says what is
    missing instead of waiting forever.
    """
    kinds = ["cuda", "cpu"] if wanted == "auto" else [wanted]
    for kind in kinds:
        found = [device for device in present if device.name.partition(":")[0] == kind]
        if found:
            return found
    return [device for device in present if device.name == "cpu"]


def variables(name: str) -> dict[str, str]:
    """Environment variables of a process that computes on a device."""
    kind, _, index = name.partition(":")
    if kind != "cuda" or not index:
        return {}
    chosen = {VISIBLE_GPUS: index}
    if VISIBLE_GPUS not in os.environ:  # else our indices are those of whoever made the choice
        chosen |= {ORDER: "PCI_BUS_ID"}  # CUDA alone counts the fastest first
    return chosen


def gpu_obstacle(name: str) -> str:
    """Why a GPU cannot take a run now, empty when it can or when nothing is known about it."""
    if not name.startswith("cuda:") or find_spec("pynvml") is None:
        return ""
    import pynvml  # noqa: PLC0415 - optional  # pyright: ignore[reportMissingImports]

    try:
        free, total = _gpu_memory(pynvml, name.partition(":")[2])
    except pynvml.NVMLError as error:
        return f"the driver of {name} does not answer ({error}); nvidia-smi shows its state"
    if free >= GPU_FREE_FRACTION * total:
        return ""
    return f"{size(total - free)} of {size(total)} of {name} are in use by other processes"


def pin(pid: int, slots: int, neighbours: Iterable[int]) -> None:
    """Gives a process one of ``slots`` portions of our cores, the one with fewest neighbours.

    Two thread pools on the same cores are many times slower than each on its own. Where the
    operating system cannot do this, nothing happens.
    """
    if slots < 2 or not hasattr(os, "sched_setaffinity"):
        return
    ours = sorted(os.sched_getaffinity(0))
    portions = [frozenset(ours[start::slots]) for start in range(slots)]
    taken = Counter(frozenset(_cores_of(neighbour)) for neighbour in neighbours)
    chosen = min((portion for portion in portions if portion), key=lambda cores: taken[cores])
    with suppress(ProcessLookupError):
        os.sched_setaffinity(pid, chosen)


def _cores_of(pid: int) -> set[int]:
    try:
        return os.sched_getaffinity(pid)
    except ProcessLookupError:
        return set()


def _gpus() -> list[str]:
    """Index or UUID of every GPU that is there and not hidden from us."""
    names = (path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*"))
    # a container that has one GPU of eight sees it as nvidia5, say, and its driver as the first
    found = [str(index) for index in range(sum(name.isdigit() for name in names))]
    visible = os.environ.get(VISIBLE_GPUS)
    if visible is None or not found:
        return found
    wanted = [part.strip() for part in visible.split(",")]
    by_uuid = [part for part in wanted if part.startswith(UUIDS)]
    return by_uuid or [number for number in found if number in wanted]


def _gpu_memory(driver: Any, gpu: str) -> tuple[int, int]:
    """Free and total bytes."""
    driver.nvmlInit()
    try:
        by_index, by_uuid = driver.nvmlDeviceGetHandleByIndex, driver.nvmlDeviceGetHandleByUUID
        handle = by_index(int(gpu)) if gpu.isdigit() else by_uuid(gpu)
        memory = driver.nvmlDeviceGetMemoryInfo(handle)
    finally:
        driver.nvmlShutdown()
    return int(memory.free), int(memory.total)
