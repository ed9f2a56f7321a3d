"""The process's end: reads requests, does them one after the other, can drop one halfway."""

import importlib
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from acft.errors import AcftError
from acft.inference.protocol import pack, unpack
from acft.redaction import redacted

log = logging.getLogger(__name__)

OPERATIONS = {
    "check": "acft.inference.settings:check",
    "outline": "acft.inference.settings:outline",
    "launch": "acft.inference.settings:launch",
    "plan_grid": "acft.inference.settings:plan_grid",
    "launch_grid": "acft.inference.settings:launch_grid",
    "weigh": "acft.inference.measuring:weigh",
    "measure": "acft.inference.measuring:measure",
    "preflight": "acft.inference.preflight:preflight",
    "rehearse": "acft.inference.rehearsal:rehearse",
    "export": "acft.inference.exporting:export",
    "describe": "acft.inference.settings:describe",
    "identify": "acft.inference.texts:identify",
    "score": "acft.inference.texts:score",
    "branch": "acft.inference.texts:branch",
    "generate": "acft.inference.texts:generate",
    "judge": "acft.inference.texts:judge",
}
"""Where each operation is; imported when first asked for, so that cheap ones stay cheap."""


@dataclass
class Session:
    """What outlives a request: the device, and whatever operations keep loaded."""

    device: str
    kept: dict[str, Any] = field(default_factory=dict)


class Server:
    """Serves one workbench until it closes the pipe."""

    def __init__(self, source: BinaryIO, sink: BinaryIO, device: str) -> None:
        self._source = source
        self._sink = sink
        self._session = Session(device)
        self._requests: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._cancelled: set[int] = set()

    def serve(self) -> None:
        """Returns when the workbench is gone."""
        threading.Thread(target=self._read, name="requests", daemon=True).start()
        while (request := self._requests.get()) is not None:
            self._answer(request)

    def _read(self) -> None:
        for line in self._source:
            message = unpack(line)
            if "cancel" in message:
                self._cancelled.add(message["cancel"])
            else:
                self._requests.put(message)
        self._requests.put(None)
        # The workbench is gone: nothing that is still being computed has a reader.
        os._exit(0)

    def _answer(self, request: dict[str, Any]) -> None:
        number = request["id"]
        if number in self._cancelled:  # before its turn came
            self._cancelled.discard(number)
            return
        try:
            for part in self._run(request):
                if number in self._cancelled:
                    return
                self._send({"id": number, **part})
        except AcftError as error:
            self._send({"id": number, "error": redacted(str(error))})
        except Exception as error:
            log.exception("operation %s failed", request.get("op"))
            said = redacted(f"{type(error).__name__}: {error}")
            self._send({"id": number, "error": said})
        finally:
            self._cancelled.discard(number)

    def _run(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if request["op"] not in OPERATIONS:
            raise AcftError(f"unknown operation {request['op']!r}")
        operation = _find(OPERATIONS[request["op"]])
        parts = operation(self._session, **request["args"])
        if not isinstance(parts, Iterator):
            yield {"result": parts}
            return
        while True:
            try:
                yield {"part": next(parts)}
            except StopIteration as end:
                yield {"result": end.value}
                return

    def _send(self, message: dict[str, Any]) -> None:
        self._sink.write(pack(message))
        self._sink.flush()


def _find(place: str) -> Callable[..., Any]:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def main() -> None:
    """Serves standard input and output; whatever prints goes to the log instead."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    Server(sys.stdin.buffer, sink, sys.argv[1] if len(sys.argv) > 1 else "cpu").serve()
