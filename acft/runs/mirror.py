"""Metrics sent on to other trackers through their own clients, never able to hold up or stop a run.

A thread of its own talks to the clients. The run only puts numbers into a queue: when that is full
they are dropped and counted, and whatever a client raises becomes a sentence in ``problems``.
"""

import importlib
import importlib.util
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from acft.errors import ConfigError
from acft.events import Event, Scalars

STEP = "step"
"""What W&B draws numbers over."""
QUEUE_SIZE = 10_000
CLOSE_SECONDS = 10.0
MAX_FAILURES = 5
"""A client that fails so often in a row is given up."""


@dataclass(frozen=True)
class Target:
    """What is mirrored."""

    run_id: str
    folder: Path
    """Where clients that write files put them."""
    project: str = "acft"
    settings: dict[str, Any] = field(default_factory=dict)
    """By dotted name."""


@runtime_checkable
class Client(Protocol):
    """One open connection to a tracker."""

    def log(self, step: int, values: dict[str, float]) -> None:
        """Sends the numbers of one step."""
        ...

    def close(self) -> None:
        """Sends what is left and ends."""
        ...


class _Session:
    """Trackio and Weights & Biases, whose modules have the same functions."""

    def __init__(self, module: str, target: Target, **options: Any) -> None:
        self._module = importlib.import_module(module)
        self._module.init(
            project=target.project, name=target.run_id, config=target.settings, **options
        )

    def log(self, step: int, values: dict[str, float]) -> None:
        self._module.log(values, step=step)

    def close(self) -> None:
        self._module.finish()


class _WandB(_Session):
    """Weights & Biases, whose own count of steps must never go back.

    Ours does: the oracle counts epochs, and a resumed run does a round again. What is logged
    against a lower step is ignored there, so ours is sent as a number to draw the others over.

    Source: W&B's documentation of ``Run.log`` and ``Run.define_metric``.
    """

    def __init__(self, target: Target) -> None:
        super().__init__("wandb", target, id=target.run_id, resume="allow", dir=str(target.folder))
        self._module.define_metric("*", step_metric=STEP)

    def log(self, step: int, values: dict[str, float]) -> None:
        self._module.log({**values, STEP: step})


class _TensorBoard:
    """Event files for TensorBoard."""

    def __init__(self, target: Target) -> None:
        module = importlib.import_module("torch.utils.tensorboard")
        self._writer = module.SummaryWriter(str(target.folder / "tensorboard"))

    def log(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


CLIENTS: dict[str, Callable[[Target], Client]] = {
    "trackio": lambda target: _Session("trackio", target, resume="allow"),
    "wandb": _WandB,
    "tensorboard": _TensorBoard,
}
"""How each tracker is opened; the name is also that of the package to install."""


def require_clients(names: Sequence[str]) -> None:
    """Checks before a run starts that its mirrors are known and installed.

    Raises:
        ConfigError: A name is unknown or its package missing.
    """
    for name in names:
        if name not in CLIENTS:
            raise ConfigError(f"unknown mirror {name!r} (allowed: {', '.join(CLIENTS)})")
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"mirror {name!r} is not installed; run: pip install {name}")


class Mirror:
    """Sends the numbers of one run to some trackers."""

    def __init__(
        self, openers: Sequence[Callable[[Target], Client]], target: Target, size: int = QUEUE_SIZE
    ) -> None:
        self.problems: list[str] = []
        """What went wrong so far, one sentence each."""
        self.n_dropped = 0
        """Steps that were not sent because the clients could not keep up."""
        self._target = target
        self._queue: queue.Queue[Scalars | None] = queue.Queue(size)
        # A daemon: a client that hangs must not keep the process alive.
        self._thread = threading.Thread(
            target=self._send_all, args=(list(openers),), name="mirror", daemon=True
        )
        self._thread.start()

    def take(self, event: Event) -> None:
        """Queues an event's numbers; returns at once, whatever the clients do."""
        if not isinstance(event, Scalars):
            return
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            self.n_dropped += 1

    def close(self, seconds: float = CLOSE_SECONDS) -> bool:
        """Whether everything was sent within the given time."""
        try:
            self._queue.put(None, timeout=seconds)
        except queue.Full:
            return False
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _send_all(self, openers: list[Callable[[Target], Client]]) -> None:
        clients = [client for client in map(self._open, openers) if client is not None]
        failures = [0] * len(clients)
        while (event := self._queue.get()) is not None:
            for index, client in enumerate(clients):
                if failures[index] < MAX_FAILURES:
                    is_sent = self._attempt(client, event)
                    failures[index] = 0 if is_sent else failures[index] + 1
        for client in clients:
            self._close(client)

    def _open(self, opener: Callable[[Target], Client]) -> Client | None:
        try:
            return opener(self._target)
        except Exception as error:  # noqa: BLE001 - a foreign client may raise anything; see above
            self._note("a mirror could not be opened", error)
            return None

    def _attempt(self, client: Client, event: Scalars) -> bool:
        try:
            client.log(event.step, event.values)
        except Exception as error:  # noqa: BLE001 - see above
            self._note(f"a mirror did not take step {event.step}", error)
            return False
        return True

    def _close(self, client: Client) -> None:
        try:
            client.close()
        except Exception as error:  # noqa: BLE001 - see above
            self._note("a mirror did not close", error)

    def _note(self, what: str, error: Exception) -> None:
        self.problems.append(f"{what}: {type(error).__name__}: {error}")


def open_mirror(names: Sequence[str], target: Target) -> Mirror:
    """A mirror to the named trackers; never raises for what a tracker does."""
    return Mirror([CLIENTS[name] for name in names], target)
