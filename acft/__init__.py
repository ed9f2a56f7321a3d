"""Attribute-controlled fine-tuning of causal language models."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acft.notebook import open_runs
    from acft.trained import open_run

__all__ = ["__version__", "open_run", "open_runs"]

__version__ = "0.1.0"

# OpenMP reads this when torch is loaded. A thread that has done its part of a product would spin
# for milliseconds until the others are done, and keep the core from whatever else is at work, the
# very thread it waits for included (``python -m benchmarks.neighbours``).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")


def __getattr__(name: str) -> Any:
    """``open_run`` and ``open_runs``, imported when first used: torch and pandas take seconds."""
    if name == "open_run":
        from acft.trained import open_run  # noqa: PLC0415 - see above

        return open_run
    if name == "open_runs":
        from acft.notebook import open_runs  # noqa: PLC0415 - see above

        return open_runs
    raise AttributeError(f"module 'acft' has no attribute {name!r}")
