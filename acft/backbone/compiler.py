"""The compiler behind ``torch.compile``: whether there is one, and what its failures mean."""

import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch._dynamo.exc import TorchDynamoException
from torch._inductor.exc import InductorError

from acft.errors import ConfigError, ModelError

Backend = str | Callable[..., Any]
"""Of ``torch.compile``."""


def require_compiler(setting: str, instead: str) -> None:
    """Refuses a setting that needs a compiler where there is none.

    Args:
        setting: What needs it, as written in a settings file.
        instead: What does not.

    Raises:
        ConfigError: There is no compiler.
    """
    compiler, *_ = shlex.split(os.environ.get("CXX", "")) or ["g++"]
    if shutil.which(compiler) is None:
        raise ConfigError(
            f"{setting}: needs the compiler {compiler!r}, which is not installed; install it, name "
            f"another in the environment variable CXX, or set {instead}"
        )


@contextmanager
def compiling(what: str, instead: str) -> Iterator[None]:
    """Says what to do where something cannot be compiled.

    Raises:
        ModelError: It cannot.
    """
    try:
        yield
    except (TorchDynamoException, InductorError) as error:
        reason = " ".join(line.strip() for line in str(error).splitlines()[:2])
        raise ModelError(f"{what} cannot be compiled: {reason}; set {instead}") from error
