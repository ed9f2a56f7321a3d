"""What this process may use of its machine, what it needed at most, and what is free."""

import os
import resource
import shutil
import sys

import psutil

VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
"""Environment variable: which GPUs a process sees."""
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""Names of Chromium; the first has no window, and draws a page in fewer seconds."""
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def cores() -> int:
    """CPU cores of this process; a launched run is pinned to a part of the machine's.

    Processes that a launcher started together on one machine have equal shares.
    """
    is_known = hasattr(os, "sched_getaffinity")
    there = len(os.sched_getaffinity(0)) if is_known else os.cpu_count() or 1
    return max(1, there // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def peak_memory() -> tuple[int, int]:
    """Bytes this process held at most, and bytes there are: of its GPU if it uses one."""
    torch = sys.modules.get("torch")  # who has not imported it holds nothing on a GPU
    if torch is not None and torch.cuda.is_available() and torch.cuda.max_memory_reserved():
        total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        return torch.cuda.max_memory_reserved(), int(total)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT
    return peak, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_memory(device: str) -> int:
    """Bytes this process could hold in all now, beside what others hold: of that GPU, if it is one.

    Of other devices it is the machine's memory, with what this process holds of it already.
    """
    torch = sys.modules.get("torch")
    if torch is not None and device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device))
    return psutil.virtual_memory().available + psutil.Process().memory_info().rss


def chromium() -> str:
    """The browser that tests and pictures are made with, empty where there is none."""
    return os.environ.get("ACFT_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), "")
