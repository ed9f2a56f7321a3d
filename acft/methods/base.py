"""What a training method is: settings and a generator of outputs.

A method knows neither files, processes, the store nor the screen. It yields events, rows to be
sealed and checkpoints to be saved; whoever runs it decides where they go.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from acft.config import Config
from acft.registry import Registry, summary_of
from acft.settings import RunSettings
from acft.training.outputs import Output, TrainContext


@dataclass(frozen=True)
class Method:
    """A registered method."""

    settings_type: type[Config]
    train: Callable[[Any, TrainContext], Iterator[Output]]
    """Takes the method's settings and the context."""
    facts: Callable[[TrainContext], dict[str, Any]] = lambda _: {}
    """Hashes and versions of models, scorers and texts, recorded before the first step."""
    used_with: Callable[[Any], dict[str, Any]] = lambda _: {}
    """Takes the method's settings; the decoder or control text with which an evaluation uses the
    policy as the method intends (see training/subjects.py)."""
    contradictions: Callable[[Any, RunSettings], list[str]] = lambda _, __: []
    """Takes the method's settings and the run's; one sentence for each of the method's settings
    that the run's make impossible or without effect."""
    missing: Callable[[Any, RunSettings], list[str]] = lambda _, __: []
    """Takes the method's settings and the run's; one sentence for each file, model or package that
    the method's need and this machine lacks."""
    takes_steps: Callable[[Any], bool] = lambda _: True
    """Takes the method's settings; whether each round takes ``[optimizer] steps_per_round``."""
    has_oracle: bool = False
    """Whether each round trains an oracle on responses that are judged at every prefix."""
    is_counted: bool = False
    """Whether these steps, these responses, and plain ones for corpora, validation and test are all
    its work; what else a method draws or computes is told by no estimate."""

    @property
    def summary(self) -> str:
        """First line of the training function's documentation."""
        return summary_of(self.train)

    def control(self, settings: Config) -> str:
        """Text that the tuned policy was taught to answer behind; empty for most methods."""
        return str(self.used_with(settings).get("control", ""))

    def decoder(self, settings: Config) -> str:
        """Decoder that holds the policy to the constraint; empty where its weights do."""
        return str(self.used_with(settings).get("decoder", ""))


METHODS: Registry[Method] = Registry("method", "acft.methods", Method)
"""Every training method by name."""
