"""Errors that are shown to users as one sentence.

Every message reads: what is wrong, where, the value, what is allowed, what to do.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

FAILURES = (
    ArithmeticError, AssertionError, AttributeError, LookupError, NameError, OSError, RuntimeError,
    TypeError, ValueError,
)  # fmt: skip
"""What somebody's code may raise."""


class AcftError(Exception):
    """A problem a user, a file or a model output caused; shown as a message, never a traceback."""

    kind = "unknown"
    """How a run that ends with this error is classified in its status file."""


class ConfigError(AcftError):
    """A setting is missing, unknown, out of range or impossible together with another."""

    kind = "config"


class DataError(AcftError):
    """A corpus, prompt file or run directory is missing, empty or malformed."""

    kind = "data"


class ModelError(AcftError):
    """A model, tokenizer, adapter or scorer cannot be found, opened or used."""

    kind = "model"


class ConstraintError(ModelError):
    """A constraint's own code gives no judgement that can be used."""


class NonFiniteError(AcftError):
    """A loss, gradient or KL became NaN, infinite or larger than its configured limit."""

    kind = "nonfinite"


class RunError(AcftError):
    """A run cannot be started, stopped, resumed or found."""

    kind = "unknown"


@contextmanager
def failing_as(
    refused: Callable[[Exception], AcftError],
    failures: type[Exception] | tuple[type[Exception], ...] = FAILURES,
) -> Iterator[None]:
    """A block in which an error of somebody's code becomes what ``refused`` makes of it.

    An error for users stays as it is, and so does a lack of memory: the worker has advice for it.
    """
    try:
        yield
    except (AcftError, MemoryError):
        raise
    except failures as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise
        raise refused(error) from error


def place_of(error: BaseException, modules: Collection[str] = ()) -> str:
    """Such as `` (FILE, line 3)``: where an error arose; empty where it was never raised.

    Where modules are given: the last place in one of them that led to it; empty without any.
    """
    found, trace = "", error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if not modules or frame.f_globals.get("__name__") in modules:
            found = f" ({frame.f_code.co_filename}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return found


def place_outside(error: BaseException, asked_in: str) -> str:
    """Where an error arose, unless in the file that asked: an answer of another type."""
    place = place_of(error)
    return "" if place.startswith(f" ({asked_in}, ") else place


def written_at(function: Any) -> str:
    """Such as `` (FILE, line 3)``: where a function begins; empty for what Python did not write."""
    code = getattr(function, "__code__", None)
    return f" ({code.co_filename}, line {code.co_firstlineno})" if code else ""
