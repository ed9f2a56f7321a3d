"""What a method is given, and what it yields: events, rows to seal, checkpoints to save."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from acft.events import Event
from acft.scoring import ScorerPool, TextCounts
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
    documents: dict[int, Any] = field(default_factory=dict)  # their type would load torch
    """Documents by split of corpora that were read for the run's record and wait to be tokenized;
    by their place in the settings."""
    opened: ExitStack = field(default_factory=ExitStack)
    """Closes what was opened for the run; who runs a method exits it when that ends, however it
    ends."""

    @cached_property
    def scorers(self) -> ScorerPool:
        """The run's scorers, each loaded once for whoever asks; what it is asked is counted."""
        from acft.backbone.loading import resolve_device  # noqa: PLC0415 - imports torch

        return ScorerPool(resolve_device(self.run.device), counts=self.texts)
