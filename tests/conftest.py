"""What every test gets: one thread, no network, no hub, and marks that must be asked for."""

import gc
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from functools import partial
from importlib.machinery import SourceFileLoader
from ipaddress import ip_address
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import _import_hook, install_import_hook

# before torch is imported: two thread pools on two cores are many times slower than one, and those
# of the tests that have two threads do not spin while they wait
os.environ.update(
    OMP_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    GOMP_SPINCOUNT="0",
    TOKENIZERS_PARALLELISM="false",
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    GRADIO_ANALYTICS_ENABLED="False",
)

# a shell ignores it for what it starts in the background, and so would all that tests start
signal.signal(signal.SIGINT, signal.default_int_handler)
# whoever ends the tests this way leaves no browser or worker behind either
signal.signal(signal.SIGTERM, signal.default_int_handler)

# how long an example takes says how busy the machine is
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

ROOT = Path(__file__).parents[1]
ARRAYS = re.compile(r"\b(Tensor|Floats|NDArray|ndarray)\b")


def modules_with_arrays() -> list[str]:
    """Modules that name arrays or tensors, which annotations do."""
    return [
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for file in sorted((ROOT / "acft").rglob("*.py"))
        if ARRAYS.search(file.read_text(encoding="utf-8"))
    ]


class CheckedLoader(_import_hook._JaxtypingLoader):
    """Loads a module with its checks, from a compiled file that is no other module's.

    The loader it stands for looks for such files until the module is executed, so that torch and
    whatever else is imported meanwhile would be compiled again.
    """

    def get_code(self, fullname: str) -> CodeType | None:
        named = partial(_import_hook._optimized_cache_from_source, self._typechecker.get_hash())
        with patch("importlib._bootstrap_external.cache_from_source", named):
            return super().get_code(fullname)

    def exec_module(self, module: ModuleType) -> None:
        SourceFileLoader.exec_module(self, module)


_import_hook._JaxtypingLoader = CheckedLoader
# each call is checked against its annotations; everywhere that would take a quarter of all time
install_import_hook(modules_with_arrays(), "beartype.beartype")

pytest_plugins = ["tests.chromium"]

ON_REQUEST = ("slow", "gpu", "ui")
"""Marks whose tests run only with the option of the same name."""


def pytest_addoption(parser: pytest.Parser) -> None:
    for mark in ON_REQUEST:
        parser.addoption(f"--{mark}", action="store_true", help=f"also run tests marked {mark}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    from acft.assets import is_ready

    unmet = {mark: f"needs --{mark}" for mark in ON_REQUEST if not config.getoption(f"--{mark}")}
    if not is_ready():
        unmet["assets"] = "needs the packaged assets: make assets"
    for item in items:
        for mark, reason in unmet.items():
            if item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish() -> None:
    """What was imported stays to the end, so no search for garbage need look at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reaches for another machine fails at that line."""
    resolve = socket.getaddrinfo

    def checked_resolve(host: Any, *args: Any, **kwargs: Any) -> Any:
        _refuse_remote(host)
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", checked_resolve)
    for name in ("connect", "connect_ex"):
        connect = getattr(socket.socket, name)

        def checked_connect(self: socket.socket, address: Any, connect: Any = connect) -> Any:
            if self.family != socket.AF_UNIX:
                _refuse_remote(address[0])
            return connect(self, address)

        monkeypatch.setattr(socket.socket, name, checked_connect)


@pytest.fixture(autouse=True)
def _one_thread_again() -> Iterator[None]:
    """A run in a test's own process takes all cores; the tests after it do not."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def _refuse_remote(host: str | bytes | None) -> None:
    name = host.decode() if isinstance(host, bytes) else host
    if name in (None, "", "localhost", "0.0.0.0", "::"):
        return
    try:
        is_local = ip_address(name.split("%")[0]).is_loopback
    except ValueError:
        is_local = False
    if not is_local:
        raise RuntimeError(f"this test reached for {name!r}; tests talk to loopback only")
