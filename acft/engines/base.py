"""What an engine is, and the registry of them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from acft.backbone.loading import Backbone
from acft.registry import Registry, summary_of
from acft.sampling import DrawRequest, Samples
from acft.settings import AdapterSettings, RunSettings

T = TypeVar("T")


@runtime_checkable
class Engine(Protocol):
    """Draws responses of a policy."""

    def publish(self, tuned: Backbone, merged: Backbone, adapter: AdapterSettings | None) -> str:
        """Makes new weights available to ``draw``; returns the name it knows them by.

        Args:
            tuned: The model with its trainable part.
            merged: The same function as plain weights.
            adapter: What kind of trainable part it is; None is all weights.
        """
        ...

    def draw(self, backbone: Backbone, weights: str, request: DrawRequest) -> Samples:
        """Responses ordered by prompt and sample number, as ``sampling.draw`` returns them.

        Args:
            backbone: The policy that is drawn from, here.
            weights: Its name given by ``publish``; empty for the base policy.
            request: What to draw.
        """
        ...

    def prepared(self, backbone: Backbone) -> AbstractContextManager[None]:
        """Within it, draws of this policy, whose weights stay as they are, share their set-up."""
        ...

    def close(self) -> None:
        """Takes back what ``publish`` has left anywhere, once nobody draws from it any more."""
        ...


class Prepared(Generic[T]):
    """Makes what an engine draws with from a policy: once within ``scope``, else for each draw."""

    def __init__(self, make: Callable[[Backbone], T]) -> None:
        self._make = make
        self._model: Any = None
        self._made: T | None = None

    def of(self, backbone: Backbone) -> T:
        """What is drawn with."""
        if backbone.model is not self._model:
            return self._make(backbone)
        if self._made is None:
            self._made = self._make(backbone)
        return self._made

    @contextmanager
    def scope(self, backbone: Backbone) -> Iterator[None]:
        """Keeps what is made of this policy until the end."""
        self._model = backbone.model
        try:
            yield
        finally:
            self._model = self._made = None


@dataclass(frozen=True)
class EngineKind:
    """A registered engine."""

    build: Callable[[RunSettings], Engine]
    needs_server: bool = False
    """Whether a server must be running, whose address somebody says."""

    @property
    def summary(self) -> str:
        """First line of the builder's documentation."""
        return summary_of(self.build)


ENGINES: Registry[EngineKind] = Registry("engine", "acft.engines", EngineKind)
"""Every engine by name."""


def build_engine(run: RunSettings) -> Engine:
    """The engine a run names.

    Raises:
        ConfigError: There is no such engine, or a setting that it needs is missing.
    """
    return ENGINES.get(run.engine.kind).build(run)
