"""What a method is given, and what it yields: events, rows to seal, checkpoints to save."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acft.events import Event
from acft.scoring import TextCounts
from acft.settings import RunSettings


@dataclass(frozen=True)
class Rows:
    """Rows of one table (see ``schema.TABLES``), complete and ready to be sealed as a shard."""

    table: str
    round: int
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Checkpoint:
    """The end of a round: everything a resumed run needs can be saved now."""

    round: int
    policy_version: int
    oracle_version: int
    save: Callable[[Path], None]
    """Writes all files of the checkpoint into an empty folder."""


Output = Event | Rows | Checkpoint


@dataclass(frozen=True)
class TrainContext:
    """What a method gets beside its own settings."""

    run: RunSettings
    resume_from: Path | None = None
    """Folder of the sealed checkpoint to continue from."""
    resume_round: int = 0
    """Finished rounds in that checkpoint."""
    resume_step: int = 0
    """Optimiser steps of those rounds."""
    should_stop: Callable[[], bool] = lambda: False
    """Asked between steps; when true the method ends after sealing what it has."""
    texts: TextCounts = field(default_factory=TextCounts)
    """Counts what the run's scorers are asked; see accounting.py."""
    opened: ExitStack = field(default_factory=ExitStack)
    """Closes what was opened for the run; who runs a method exits it when that ends, however it
    ends."""
