"""The compiler behind ``torch.compile``: whether there is one, and what its failures mean."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException
from torch._inductor import config
from torch._inductor.exc import InductorError, InvalidCxxCompiler

from acft.errors import ConfigError, ModelError

Backend = str | Callable[..., Any]
"""Of ``torch.compile``."""


def require_compiler(setting: str, instead: str, device: str) -> None:
    """Refuses a setting that needs a compiler where there is none.

    Args:
        setting: What needs it, as written in a settings file.
        instead: What does not.
        device: What is compiled for.

    Raises:
        ConfigError: There is no compiler.
    """
    missing, variable = _missing(device)
    if missing:
        raise ConfigError(
            f"{setting}: needs {missing}, which is not installed; install it, name another one in "
            f"the environment variable {variable}, or set {instead}"
        )


def _missing(device: str) -> tuple[str, str]:
    """What compiling for a device lacks, empty where nothing, and the variable that names it.

    Source: where Triton and Inductor look, in their ``runtime.build`` and ``cpp_builder``.
    """
    if device == "cuda":
        if find_spec("triton") is None:
            return "the package triton", "CC"
        names = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"]
        return "" if any(map(shutil.which, names)) else f"the compiler {names[0]!r}", "CC"
    # slow to import, and most runs never compile
    from torch._inductor.cpp_builder import get_cpp_compiler  # noqa: PLC0415

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return f"the compiler {config.cpp.cxx[-1]!r}", "CXX"
    return "", "CXX"


@contextmanager
def compiling(what: str, instead: str) -> Iterator[None]:
    """Says what to do where something cannot be compiled.

    Raises:
        ModelError: It cannot.
    """
    try:
        yield
    except (TorchDynamoException, FailOnRecompileLimitHit, InductorError) as error:
        reason = " ".join(line.strip() for line in str(error).splitlines()[:2])
        raise ModelError(f"{what} cannot be compiled: {reason}; set {instead}") from error
