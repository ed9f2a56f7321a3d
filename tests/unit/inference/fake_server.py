"""An inference process with operations that need no model."""

import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from acft.errors import DataError
from acft.inference import server


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


def sleep(session: server.Session, until: str, run_id: str = "", begun: str = "") -> None:
    if begun:
        Path(begun).touch()
    while not Path(until).exists():
        time.sleep(0.02)


def touch(session: server.Session, path: str) -> None:
    Path(path).touch()


def chatty(session: server.Session) -> str:
    print("{not an answer}")
    return "still fine"


if __name__ == "__main__":
    for name in ("echo", "count", "forever", "refuse", "crash", "sleep", "touch", "chatty"):
        server.OPERATIONS[name] = f"__main__:{name}"
    sys.modules["__main__"] = sys.modules[__name__]
    server.main()
