"""What a training method is: settings and a generator of outputs.

A method knows neither files, processes, the store nor the screen. It yields events, rows to be
sealed and checkpoints to be saved; whoever runs it decides where they go.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from acft.config import Config
from acft.errors import ConfigError
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
    """Whether optimiser steps, the oracle's responses, and plain ones for corpora, validation and
    test are all that the method computes; where they are not, its estimated time is too short."""

    def __post_init__(self) -> None:
        """Refuses at registration what would fail a run.

        Raises:
            ConfigError: The settings are no class of settings, or what is called is no function.
        """
        kind = self.settings_type
        if not (isinstance(kind, type) and issubclass(kind, Config)):
            raise ConfigError(
                f"settings_type of a Method is {kind!r}; give a class of settings, a subclass of "
                "acft.config.Config, an empty one where there are none"
            )
        functions = [field.name for field in fields(self)[1:] if field.type is not bool]
        for name in functions:
            if not callable(getattr(self, name)):
                raise ConfigError(f"{name} of a Method is {getattr(self, name)!r}; give a function")

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


def parse_method(table: Any) -> tuple[str, Method, Config]:
    """The name, the method and its own settings that a ``[method]`` table asks for.

    Raises:
        ConfigError: It is no table, names no registered method, or a setting of it is wrong.
    """
    if not isinstance(table, Mapping):
        raise ConfigError(f"[method] = {table!r}: must be a table with a name")
    if not isinstance(table.get("name"), str):
        raise ConfigError(f"[method] name: is missing (allowed: {', '.join(METHODS.names())})")
    try:
        method = METHODS.get(table["name"])
    except ConfigError as error:
        raise ConfigError(f"[method] name = {table['name']!r}: {error}") from None
    own = {key: value for key, value in table.items() if key != "name"}
    return table["name"], method, method.settings_type.parse(own, "method")
