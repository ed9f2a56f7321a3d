"""An inference process with operations that need no model."""

import itertools
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from acft.errors import DataError
from acft.inference import server

GIVEN_UP = threading.Event()
"""Set once this process has read that a request was given up."""


class GivenUp(set[int]):
    """Numbers of the requests that were given up; tells when one comes."""

    def add(self, number: int) -> None:
        super().add(number)
        GIVEN_UP.set()


class Server(server.Server):
    """The server, of which an operation can wait for a request to be given up."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._cancelled = GivenUp()


def echo(session: server.Session, value: Any, run_id: str = "") -> Any:
    return value


def count(session: server.Session, to: int, run_id: str = "") -> Iterator[int]:
    yield from range(to)
    return "done"


def forever(session: server.Session) -> Iterator[int]:
    for number in itertools.count():
        yield number
        time.sleep(0.01)


def refuse(session: server.Session, run_id: str = "") -> None:
    raise DataError("the text is too long")


def crash(session: server.Session) -> float:
    return 1 / 0


def sleep(session: server.Session, until: str, run_id: str = "") -> None:
    while not Path(until).exists():
        time.sleep(0.02)


def outlast(session: server.Session, begun: str) -> bool:
    Path(begun).touch()
    return GIVEN_UP.wait(20)


def touch(session: server.Session, path: str) -> None:
    Path(path).touch()


def chatty(session: server.Session) -> str:
    print("{not an answer}")
    return "still fine"


if __name__ == "__main__":
    for operation in (echo, count, forever, refuse, crash, sleep, outlast, touch, chatty):
        server.OPERATIONS[operation.__name__] = f"__main__:{operation.__name__}"
    server.Server = Server
    sys.modules["__main__"] = sys.modules[__name__]
    server.main()
