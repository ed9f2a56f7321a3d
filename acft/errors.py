"""Errors that are shown to users as one sentence.

Every message reads: what is wrong, where, the value, what is allowed, what to do.
"""


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


class NonFiniteError(AcftError):
    """A loss, gradient or KL became NaN, infinite or larger than its configured limit."""

    kind = "nonfinite"


class RunError(AcftError):
    """A run cannot be started, stopped, resumed or found."""

    kind = "unknown"
