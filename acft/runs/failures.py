"""Why a run failed, in a sentence, with advice in terms of our own settings."""

import errno
from dataclasses import dataclass

from acft.errors import AcftError, ConstraintError, place_of
from acft.events import Phase
from acft.registry import registering_modules
from acft.settings import EVALUATE, RunSettings

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
MEMORY_WORDS = (
    "out of memory", "can't allocate memory", "cannot allocate memory",
    "status_alloc_failed",  # of cuBLAS and cuDNN
)  # fmt: skip
TRAINING = (Phase.FIT_POLICY, Phase.GUIDE)
"""Phases whose memory follows from ``optimizer.micro_batch_size``."""
DRAWING = (
    Phase.SAMPLE_ORACLE, Phase.SAMPLE_VALIDATION, Phase.SAMPLE_TRAIN, Phase.VALIDATE, Phase.CORPUS,
    Phase.EVALUATE,
)  # fmt: skip
"""Phases in which responses are drawn, ``sampling.batch_size`` at once."""
ADVICE = {
    "config": "change the settings and launch again; earlier rounds are kept",
    "data": "mend what is named above and resume, or launch the run again with other settings "
    "(``acft launch ID --set …``)",
    "model": "check the model or scorer named above; ``acft doctor`` shows what can be loaded",
    "constraint": "mend the constraint's file named above, then launch the run again with the same "
    "settings (``acft launch ID``); it is not resumed with another file",
    "nonfinite": "lower optimizer.lr or method.kl_weight, then clone the run; "
    "the last sealed round is from before the failure",
    "disk": "free space (``acft runs --space`` shows what each run takes), then resume",
    "unknown": "``acft runs ID`` tells where the log is, which holds the traceback",
}
RESUMABLE = "; the run can be resumed from its last sealed round"


@dataclass(frozen=True)
class Failure:
    """A classified failure."""

    kind: str
    """One of ``schema.FAILURES``."""
    message: str
    advice: str = ""
    retry_with: tuple[str, ...] = ()
    """Overrides that may avoid it."""


def classify(
    error: BaseException,
    settings: RunSettings | None,
    phase: str,
    *,
    is_over: bool = False,
    has_sealed: bool = False,
) -> Failure:
    """What went wrong in terms a user can act on.

    Args:
        error: What was raised.
        settings: Of the run, if they were understood.
        phase: The last one that was told of.
        is_over: That phase was done, so that it went wrong in whatever came next.
        has_sealed: A round of the run is sealed.
    """
    if _is_out_of_memory(error):
        where = f" {'after' if is_over else 'in'} phase {str(phase)!r}" if phase else ""
        return _out_of_memory(error, settings, "" if is_over else phase, where)
    unknown = ADVICE["unknown"] + RESUMABLE * has_sealed
    if isinstance(error, AcftError):
        topic = "constraint" if isinstance(error, ConstraintError) else error.kind
        return Failure(error.kind, str(error), ADVICE.get(topic, unknown))
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        place = f" while writing {error.filename!r}" if error.filename else ""
        return Failure("disk", f"the disk is full or over quota{place}", ADVICE["disk"])
    return Failure("unknown", f"{type(error).__name__}: {error}{_places(error)}", unknown)


def _places(error: BaseException) -> str:
    """Where an error arose, and the last place in a file that registers a name, such as a method's.

    What is wrong in such a file often fails in ours.
    """
    inner, own = place_of(error), place_of(error, registering_modules())
    return inner if own in ("", inner) else f"{inner[:-1]}, reached from {own[2:]}"


def smaller(settings: RunSettings, phase: str = "") -> tuple[str, ...]:
    """Overrides that need less memory; those that leave the numbers unchanged come first.

    Micro-batches and sampling batches change speed only. When both are down to one, documents are
    cut shorter, which changes what is trained on.
    """
    if settings.method.get("name") == EVALUATE:
        return _smaller_suites(settings)
    optimizer, batch = settings.optimizer, settings.sampling.batch_size
    changes: dict[tuple[Phase, ...], str] = {}
    if optimizer.micro_batch_size > 1:
        half = _largest_divisor(optimizer.batch_size, optimizer.micro_batch_size // 2)
        changes[TRAINING] = f"optimizer.micro_batch_size={half}"
    if batch > 1:
        changes[DRAWING] = f"sampling.batch_size={batch // 2}"
    to_blame = [change for phases, change in changes.items() if phase in phases]
    concerned = to_blame or list(changes.values())
    shorter = optimizer.max_tokens // 2
    if not concerned and shorter > settings.sampling.horizon:
        concerned = [f"optimizer.max_tokens={shorter}"]
    return tuple(concerned)


def _smaller_suites(settings: RunSettings) -> tuple[str, ...]:
    """The same of an evaluation, each of whose suites draws or reads so many at once."""
    from acft.methods.evaluate import EvaluateSettings  # noqa: PLC0415 - imports torch

    given = {key: value for key, value in settings.method.items() if key != "name"}
    options = EvaluateSettings.parse(given).options
    sizes = {name: own.get("batch_size", 1) for name, own in options.items()}
    return tuple(
        f"method.options.{name}.batch_size={size // 2}" for name, size in sizes.items() if size > 1
    )


def _out_of_memory(
    error: BaseException, settings: RunSettings | None, phase: str, where: str
) -> Failure:
    first_line = (str(error).splitlines() or [""])[0]
    message = f"the device ran out of memory{where}: {first_line}"
    knobs = "lower optimizer.micro_batch_size, sampling.batch_size or optimizer.max_tokens"
    if settings is None:
        return Failure("oom", message, knobs)
    changes = smaller(settings, phase)
    if settings.method.get("name") == EVALUATE:
        knobs = "lower batch_size of the suites under method.options, or measure a smaller model"
    if not changes:
        return Failure("oom", message, knobs)
    return Failure("oom", message, f"{knobs}; retry with {' '.join(changes)}", changes)


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or getattr(error, "kind", "") == "oom":
        return True
    # torch's own class is a RuntimeError; recognised by name so that torch need not be imported.
    return isinstance(error, RuntimeError) and (
        type(error).__name__ == "OutOfMemoryError"
        or any(words in str(error).lower() for words in MEMORY_WORDS)
    )


def _largest_divisor(number: int, limit: int) -> int:
    return next(size for size in range(min(number, max(limit, 1)), 0, -1) if number % size == 0)
