"""Name to object, with discovery by scanning a folder and did-you-mean on unknown names."""

import difflib
import importlib
import pkgutil
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from acft.errors import ConfigError

T = TypeVar("T")


def did_you_mean(name: str, allowed: list[str]) -> str:
    """A suffix such as ``; did you mean 'rounds'?``, or an empty string when nothing is near."""
    near = difflib.get_close_matches(name, allowed, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def summary_of(item: object) -> str:
    """First line of a function's or class's documentation; empty where it has none."""
    return (item.__doc__ or "").strip().partition("\n")[0]


class Registry(Generic[T]):
    """Objects of one sort by name; a file in the package's folder registers itself on import."""

    def __init__(self, noun: str, package: str) -> None:
        self.noun = noun
        self._package = package
        self._items: dict[str, T] = {}
        self._is_discovered = False
        # a file may ask while it is imported; another thread has to wait until all are there
        self._discovering = threading.RLock()

    def add(self, name: str) -> Callable[[T], T]:
        """Decorator that registers its argument under ``name``.

        Raises:
            ConfigError: ``name`` is taken by another object.
        """

        def register(item: T) -> T:
            known = self._items.get(name)
            if known is not None and known is not item:
                raise ConfigError(f"two {self.noun}s are called {name!r}; rename one of them")
            self._items[name] = item
            return item

        return register

    def get(self, name: str) -> T:
        """The object registered under ``name``.

        Raises:
            ConfigError: No object of that name; the message lists what there is.
        """
        self._discover()
        if name not in self._items:
            raise ConfigError(
                f"unknown {self.noun} {name!r}{did_you_mean(name, self.names())} "
                f"(allowed: {', '.join(self.names())})"
            )
        return self._items[name]

    def names(self) -> list[str]:
        """All registered names, sorted."""
        self._discover()
        return sorted(self._items)

    def items(self) -> Iterator[tuple[str, T]]:
        """Name and object of everything registered, sorted by name."""
        for name in self.names():
            yield name, self._items[name]

    def _discover(self) -> None:
        with self._discovering:
            if self._is_discovered:
                return
            self._is_discovered = True
            package = importlib.import_module(self._package)
            for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda m: m.name):
                importlib.import_module(f"{self._package}.{module.name}")
