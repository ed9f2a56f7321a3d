"""Starting processes that outlive us: fixed program, no shell, own session, few variables."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import acft
from acft.machine import VISIBLE_GPUS
from acft.runs.devices import ORDER

PYTHON = (sys.executable, "-P", "-m")
"""``-P`` keeps the working directory off the import path."""
WORKER = (*PYTHON, "acft.runs.worker")
SUPERVISOR = (*PYTHON, "acft.runs.detached")
PASSED_ON = frozenset(
    [
        "PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV",
        "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy",
        "https_proxy", "no_proxy", "XDG_CACHE_HOME", "XDG_DATA_HOME", VISIBLE_GPUS, ORDER,
        "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "MKL_NUM_THREADS",
        "TORCH_HOME", "RAY_ADDRESS", "COVERAGE_PROCESS_START", "CC", "CXX", "CUDA_HOME",
    ]
)  # fmt: skip
PASSED_PREFIXES = ("LC_", "HF_", "TRANSFORMERS_", "ACFT_", "NVIDIA_", "PYTORCH_", "TRITON_",
                   "TORCHINDUCTOR_")  # fmt: skip
"""``HF_`` includes the hub token: gated models are loaded by the worker."""


def environment(mirrors: Sequence[str] = (), **extra: str) -> dict[str, str]:
    """The variables a child gets, with where it imports from; nothing else of ours reaches it.

    Those of a tracker, such as its key, are passed on only to runs that are mirrored to it.
    """
    prefixes = (*PASSED_PREFIXES, *(f"{name.upper()}_" for name in mirrors))
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in PASSED_ON or name.startswith(prefixes)
    }
    return {**kept, "PYTHONPATH": _import_path(), "PYTHONUNBUFFERED": "1", **extra}


def _import_path() -> str:
    """Where a child looks before what is installed, whatever folder it works in."""
    # this very package, also where it is used from its source folder without installation
    package_parent = str(Path(acft.__file__).resolve().parents[1])
    named = "" if sys.flags.ignore_environment else os.environ.get("PYTHONPATH", "")
    ours = map(os.path.abspath, filter(None, named.split(os.pathsep)))
    return os.pathsep.join([package_parent, *ours])


def spawn(
    command: Sequence[str], folder: Path, output: Path, variables: dict[str, str]
) -> subprocess.Popen[bytes]:
    """A process in its own session, with its output appended to a file."""
    with output.open("ab") as log:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=variables,
            start_new_session=True,
        )
