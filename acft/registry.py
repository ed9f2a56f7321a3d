"""Name to object, with discovery by scanning a folder and did-you-mean on unknown names.

A file that cannot be imported is skipped. The failure is logged, listed by ``problems``, and added
to the error about a name like its own that no other file registers.
"""

import difflib
import functools
import hashlib
import importlib
import pkgutil
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from acft.errors import ConfigError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")

FAILED: dict[str, str] = {}
"""Why a file is not there, by module: two registries share a folder, and nothing is tried twice."""


def did_you_mean(name: str, allowed: list[str]) -> str:
    """A suffix such as ``; did you mean 'rounds'?``, or an empty string when nothing is near."""
    near = difflib.get_close_matches(name, allowed, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def summary_of(item: object) -> str:
    """First line of a function's or class's documentation; empty where it has none."""
    return (item.__doc__ or "").strip().partition("\n")[0]


@functools.cache
def extensions() -> "tuple[EntryPoint, ...]":
    """Every entry point of every installed package."""
    from importlib import metadata  # noqa: PLC0415 - commands that register nothing start sooner

    return tuple(entry for package in metadata.distributions() for entry in package.entry_points)


class Registry(Generic[T]):
    """Objects of one sort by name; a file in the package's folder registers itself on import.

    So does a module that an installed package names as an entry point, in a group called as the
    folder is, such as ``acft.constraints``.
    """

    def __init__(self, noun: str, package: str, sort: type = object) -> None:
        self.noun = noun
        self._package = package
        self._sort = sort
        self._items: dict[str, T] = {}
        self._places: dict[str, str] = {}
        """The module that registered each name."""
        self._clashes: dict[str, str] = {}
        """Why nobody has a name that two files claim; either would change numbers unseen."""
        self._is_discovered = False
        # a file may ask while it is imported; another thread has to wait until all are there
        self._discovering = threading.RLock()
        EVERY.append(self)

    def add(self, name: str) -> Callable[[T], T]:
        """Decorator that registers its argument under ``name``.

        Where two files claim a name, neither has it; ``get`` and ``problems`` say so.

        Raises:
            ConfigError: The same file has registered another object under ``name``, or this one is
                not of the registry's sort.
        """
        place = _module_of_caller()

        def register(item: T) -> T:
            if not isinstance(item, self._sort):
                kind = self._sort
                wanted = "a class" if kind is type else f"an object of {kind.__name__}"
                raise ConfigError(f"{self.noun} {name!r} is {_called(item)}; register {wanted}")
            known = self._items.get(name)
            first = self._places.setdefault(name, place)
            if first != place:
                self._items.pop(name, None)
                self._clashes[name] = (
                    f"two {self.noun}s are called {name!r}, one in {first} and one in {place}, so "
                    "neither is used; rename one of them"
                )
                return item
            if known is not None and known is not item:
                raise ConfigError(f"two {self.noun}s are called {name!r}; rename one of them")
            if name not in self._clashes:
                self._items[name] = item
            return item

        return register

    def get(self, name: str) -> T:
        """The object registered under ``name``.

        Raises:
            ConfigError: No object of that name, or two; the message lists what there is.
        """
        self._discover()
        if name in self._clashes:
            raise ConfigError(self._clashes[name])
        if name not in self._items:
            raise ConfigError(
                f"unknown {self.noun} {name!r}{did_you_mean(name, self.names())} "
                f"(allowed: {', '.join(self.names())}){self._perhaps_in(name)}"
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

    def code_sha256(self) -> str:
        """SHA-256 over the files that register names: what was made by another is out of date."""
        self._discover()
        files = [
            sys.modules[module].__file__ for module in self._modules() if module in sys.modules
        ]
        digests = [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files if file]
        return hashlib.sha256("\n".join(digests).encode()).hexdigest()

    def problems(self) -> list[str]:
        """One sentence for each file that is not there and each name that two files claim."""
        self._discover()
        return [*self._failed(), *self._clashes.values()]

    def _failed(self) -> list[str]:
        return [FAILED[module] for module in self._modules() if module in FAILED]

    def _perhaps_in(self, name: str) -> str:
        """A suffix: why the file that may register the name is not there, else how many are not."""
        failed = {module: FAILED[module] for module in self._modules() if module in FAILED}
        called = [(module.rpartition(".")[2], module) for module in failed]
        called += [(entry.name, entry.module) for entry in extensions() if entry.module in failed]
        near = [module for word, module in called if did_you_mean(name, [word])]
        if near:
            return "".join(f"; {failed[module]}" for module in dict.fromkeys(near))
        files = "1 file" if len(failed) == 1 else f"{len(failed)} files"
        return f"; {files} could not be loaded, see 'acft doctor'" if failed else ""

    def _modules(self) -> dict[str, str]:
        """Where each module that may register names comes from: the folder, then packages."""
        package = importlib.import_module(self._package)
        own = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
        found = {f"{self._package}.{name}": "" for name in own}
        for entry in extensions():
            if entry.group == self._package:
                found.setdefault(entry.module, entry.dist.name if entry.dist else "")
        return found

    def _discover(self) -> None:
        with self._discovering:
            if self._is_discovered:
                return
            self._is_discovered = True
            for module, origin in self._modules().items():
                _load(module, origin)
            for problem in self.problems():
                _warn(problem)


EVERY: list[Registry[Any]] = []
"""Those that there are."""


def modules_of(names: Collection[str]) -> list[str]:
    """The modules that register any of the names, in whichever registry that was asked for one."""
    return sorted({r._places[name] for r in EVERY for name in names if name in r._places})


def registering_modules() -> set[str]:
    """The modules that register any name."""
    return {place for registry in EVERY for place in registry._places.values()}


def all_problems(registries: Iterable[Registry[Any]]) -> list[str]:
    """The problems of several registries, each once: two of them may share a folder."""
    return list(dict.fromkeys(told for registry in registries for told in registry.problems()))


def _load(module: str, origin: str) -> None:
    """Imports a module, or notes in ``FAILED`` why it cannot be."""
    if module in FAILED:
        return
    try:
        with redirect_stdout(sys.stderr):  # what it prints is no part of a command's output
            importlib.import_module(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever somebody's file does
        of = f" of the package {origin}" if origin else ""
        told = _told(error, module)
        FAILED[module] = f"{module}{of} is not loaded: {told}; mend it or take it away"


def _told(error: BaseException, module: str) -> str:
    """An error in one line, with the last place in the module's own files that led to it."""
    import traceback  # noqa: PLC0415 - as above

    text = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        return text  # which names file and line itself
    package = module.partition(".")[0]
    theirs = module if package == "acft" else package
    places = [
        (f" ({frame.f_code.co_filename}, line {line})", str(frame.f_globals.get("__name__")))
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not frame.f_code.co_filename.startswith("<frozen ")
    ]
    own = [place for place, name in places if f"{name}.".startswith(f"{theirs}.")]
    return text + ["", *[place for place, _ in places], *own][-1]


def _called(item: object) -> str:
    """A class or function by its name, anything else as it prints."""
    sort = "class" if isinstance(item, type) else type(item).__name__
    name = getattr(item, "__name__", None)
    return f"the {sort} {name!r}" if name else repr(item)


@functools.cache
def _warn(problem: str) -> None:
    """Tells it once in this process."""
    import logging  # noqa: PLC0415 - as above

    logging.getLogger(__name__).warning("%s", problem)


def _module_of_caller() -> str:
    """Name of the module that is being imported, however it calls for ``add``."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_name != "<module>":
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", ""))
