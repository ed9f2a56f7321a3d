"""A device beside the CPU on machines that have none: see ``pretend_device.cpp``."""

import os
import subprocess
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch.utils import backend_registration

NAME = "pretend"
COMPILER = os.environ.get("CXX", "g++")
SOURCE = Path(__file__).with_name("pretend_device.cpp")


def build(folder: Path) -> Path:
    """The device as a library, compiled against the installed PyTorch; takes some seconds."""
    root, library = Path(torch.__file__).parent, folder / "pretend_device.so"
    flags = ["-O1", "-std=c++20", "-fPIC", "-shared", "-w", f"-I{root}/include"]
    links = [f"-L{root}/lib", "-ltorch", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{root}/lib"]
    subprocess.run([COMPILER, *flags, str(SOURCE), "-o", str(library), *links], check=True)
    return library


def load(library: Path) -> None:
    """Tell PyTorch of the device, which stays for the life of the process."""
    backend_registration.rename_privateuse1_backend(NAME)
    torch.ops.load_library(library)
    module = types.ModuleType(f"torch.{NAME}")
    vars(module).update(
        is_available=lambda: True,
        is_initialized=lambda: True,
        device_count=lambda: 1,
        current_device=lambda: 0,
        synchronize=lambda *_: None,
        manual_seed_all=lambda _: None,
        _is_in_bad_fork=lambda: False,
    )
    torch._register_device_module(NAME, module)
    backend_registration.generate_methods_for_privateuse1_backend()


def n_done() -> int:
    """Operations that the device has done."""
    return torch.ops.pretend.n_done()


@contextmanager
def instead_of_a_gpu() -> Iterator[None]:
    """What asks for CUDA gets the pretended device."""
    from acft.backbone import loading

    real = loading.resolve_device
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith("acft.") and getattr(module, "resolve_device", None) is real:
                patch.setattr(module, "resolve_device", lambda d: NAME if d == "cuda" else real(d))
        yield
