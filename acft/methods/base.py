"""What a training method is: settings and a generator of outputs.

A method knows neither files, processes, the store nor the screen. It yields events, rows to be
sealed and checkpoints to be saved; whoever runs it decides where they go.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acft.config import Config
from acft.events import Event
from acft.registry import Registry
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


@dataclass(frozen=True)
class Method:
    """A registered method."""

    settings_type: type[Config]
    train: Callable[[Any, TrainContext], Iterator[Output]]
    """Takes the method's settings and the context."""
    facts: Callable[[TrainContext], dict[str, Any]] = lambda _: {}
    """Hashes and versions of models and scorers, recorded before the first step."""
    used_with: Callable[[Any], dict[str, Any]] = lambda _: {}
    """Takes the method's settings; what an evaluation's subject needs beside the checkpoint to
    answer as the method means it to (see subjects.py)."""
    contradictions: Callable[[Any, RunSettings], list[str]] = lambda _, __: []
    """Takes the method's settings and the run's; one sentence for each of the method's settings
    that the run's make impossible or without effect."""
    missing: Callable[[Any], list[str]] = lambda _: []
    """Takes the method's settings; one sentence for each file, model or package that they need and
    this machine lacks."""

    @property
    def summary(self) -> str:
        """First line of the training function's documentation."""
        return (self.train.__doc__ or "").strip().splitlines()[0]


METHODS: Registry[Method] = Registry("method", "acft.methods")
"""Every training method by name."""
