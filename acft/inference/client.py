"""The workbench's end: starts the process on first use, asks, cancels, and releases it."""

import itertools
import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from acft.errors import AcftError, ModelError
from acft.inference.protocol import pack, unpack
from acft.runs.devices import variables as device_variables
from acft.runs.spawn import PYTHON, environment

COMMAND = (*PYTHON, "acft.inference")
CLOSE_SECONDS = 5.0
DEFAULT_SECONDS = 120.0
LOOK_SECONDS = 0.2
"""Between two looks whether what is waited for was withdrawn."""
NEVER = threading.Event()
"""What nobody can withdraw."""

Process = subprocess.Popen[bytes]
Answers = queue.Queue[dict[str, Any]]


class OperationError(AcftError):
    """An operation refused or failed; the process is there and answers other questions."""


class Inference:
    """One inference process; safe to use from several threads."""

    def __init__(self, device: str = "cpu", command: tuple[str, ...] = COMMAND) -> None:
        self.device = device
        self._command = command
        self._process: Process | None = None
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._answers: dict[int, tuple[Process, Answers]] = {}
        """Who was asked, and where its answers are waited for, by number of the request."""
        self._opened: Any = None
        """The run that the process answered about last, whose models it holds."""
        self._reasons: dict[Process, str] = {}
        """Why processes are being ended, where there is more to say than that."""
        self._failed_log: Any = None
        """File of what the process that failed last had printed; an error told its place."""

    @property
    def is_running(self) -> bool:
        """Whether the process is there now."""
        return self._process is not None and self._process.poll() is None

    def has_opened(self, run_id: str) -> bool:
        """Whether the process holds the models of a run now."""
        return self.is_running and self._opened == run_id

    @property
    def pid(self) -> int:
        """Process number, 0 when it does not run."""
        return self._process.pid if self._process and self.is_running else 0

    def call(self, operation: str, seconds: float = DEFAULT_SECONDS, **arguments: Any) -> Any:
        """The result of an operation; arguments are those of ``stream``.

        Raises:
            AcftError: The operation refused or was withdrawn, the process ended, or the time was
                over.
        """
        return result_of(self.stream(operation, seconds, **arguments))

    def stream(
        self,
        operation: str,
        seconds: float = DEFAULT_SECONDS,
        withdrawn: threading.Event = NEVER,
        **arguments: Any,
    ) -> Iterator[Any]:
        """Partial results as they come; the generator returns the result.

        Closing the generator cancels the operation, and so does setting ``withdrawn`` while it is
        waited for. A process that then still opens the models of a run for nobody else is ended.

        Raises:
            OperationError: The operation refused or failed.
            ModelError: It was withdrawn, the process ended, or nothing came for ``seconds``.
        """
        about = arguments.get("run_id")
        number, process, answers = self._ask(operation, arguments)
        is_over = False
        try:
            while True:
                message = self._next(answers, operation, seconds, withdrawn)
                self._note(process, about, is_error="error" in message)
                if "part" in message:
                    yield message["part"]
                    continue
                is_over = True
                if "error" in message:
                    is_ended = message.get("is_ended", False)
                    raise (ModelError if is_ended else OperationError)(message["error"])
                return message.get("result")
        finally:
            is_opening = withdrawn.is_set() and about != self._opened
            self._leave(number, process, is_over=is_over, is_opening=is_opening)

    def close(self, reason: str = "") -> None:
        """Ends the process and with it everything it holds in memory.

        Whoever waits for an answer of it is told the reason.
        """
        with self._lock:
            process, self._process = self._process, None
            if process is not None and reason:
                self._reasons[process] = reason
        if process is not None:
            _end(process)

    def _ask(self, operation: str, arguments: dict[str, Any]) -> tuple[int, Process, Answers]:
        number, answers = next(self._numbers), Answers()
        try:
            line = pack({"id": number, "op": operation, "args": arguments})
        except ValueError as error:
            raise ModelError(f"{operation!r} cannot be asked: {error}") from None
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._process = self._started()
            process = self._process
            self._answers[number] = process, answers
        self._send(process, line)
        return number, process, answers

    def _leave(self, number: int, process: Process, *, is_over: bool, is_opening: bool) -> None:
        """Waits for a request no longer, and ends a process that works for it alone in vain."""
        with self._lock:
            del self._answers[number]
            others = [asked for asked, _ in self._answers.values() if asked is process]
            is_useless = is_opening and not is_over and not others and self._process is process
            if is_useless:
                self._process = None
        if is_useless:
            _end(process)
        elif not is_over:
            self._send(process, pack({"cancel": number}))

    def _note(self, process: Process, about: Any, *, is_error: bool) -> None:
        """Keeps which run the process holds now; opening one, even in vain, gives up the other."""
        with self._lock:
            if process is self._process and about != self._opened:
                self._opened = None if is_error else about

    def _next(
        self, answers: Answers, operation: str, seconds: float, withdrawn: threading.Event
    ) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while not withdrawn.is_set():
            with suppress(queue.Empty):
                return answers.get(timeout=min(LOOK_SECONDS, seconds))
            if time.monotonic() >= deadline:
                raise ModelError(
                    f"{operation!r} gave no sign of life for {seconds:.0f} s; "
                    "the inference process may be short of memory, try again or use shorter texts"
                )
        raise ModelError(f"{operation!r} was withdrawn")

    def _started(self) -> Process:
        kind = self.device.partition(":")[0]
        self._opened = None
        log = tempfile.NamedTemporaryFile(prefix="acft-inference-", suffix=".log")  # noqa: SIM115 - goes with who listens
        process = subprocess.Popen(
            [*self._command, kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment(**device_variables(self.device)),
            start_new_session=True,
        )
        threading.Thread(
            target=self._listen, args=(process, log), name="inference", daemon=True
        ).start()
        return process

    def _listen(self, process: Process, log: Any) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            try:
                message = unpack(line)
            except ValueError:  # printed by something else in that process
                continue
            asked = self._answers.get(message.get("id", 0))
            if asked is not None:
                asked[1].put(message)
        process.wait()
        why = self._reasons.pop(process, "")
        if self._process is not process:  # closed by us, or replaced
            reason = f"the inference process was ended{why and f', since {why}'}; ask again"
        else:
            self._failed_log = log
            reason = (
                f"the inference process ended with code {process.returncode}; it may have run out "
                f"of memory, see its log {log.name}"
            )
        with self._lock:  # whoever finds the process at work is in the list before this is read
            waiting = [answers for asked, answers in self._answers.values() if asked is process]
        for answers in waiting:
            answers.put({"error": reason, "is_ended": True})

    def _send(self, process: Process, line: bytes) -> None:
        assert process.stdin is not None
        with self._lock:
            try:
                process.stdin.write(line)
                process.stdin.flush()
            except (BrokenPipeError, ValueError):
                return  # the listening thread tells everybody who waits


def result_of(parts: Iterator[Any]) -> Any:
    """What a generator returns, whose partial results nobody looks at."""
    while True:
        try:
            next(parts)
        except StopIteration as end:
            return end.value


def _end(process: Process) -> None:
    """Ends a process: it leaves when its input does, or is killed when it cannot."""
    if process.stdin:
        with suppress(BrokenPipeError):  # what a dead process never read
            process.stdin.close()
    try:
        process.wait(CLOSE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
