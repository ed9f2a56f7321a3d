"""A generator that blocks, made to answer often, so that it can be ended at any time."""

import queue
import threading
from collections.abc import Generator
from typing import Any

END = object()
"""Comes after the last part."""


def with_beats(
    parts: Any, beat: Any, over: threading.Event, seconds: float = 1.0
) -> Generator[Any]:
    """The parts of a generator as they come, and ``beat`` whenever none has for some seconds.

    The generator runs in a thread of its own. Closing this one sets ``over`` and returns at once;
    the other is closed as soon as it yields again. Gradio waits for a generator that it cancels,
    and meanwhile takes no new click, hence this.
    """
    answers: queue.Queue[Any] = queue.Queue()
    threading.Thread(target=_pump, args=(parts, answers, over), name="parts", daemon=True).start()
    try:
        while True:
            try:
                part = answers.get(timeout=seconds)
            except queue.Empty:
                yield beat
                continue
            if part is END:
                return
            if isinstance(part, BaseException):
                raise part
            yield part
    finally:
        over.set()


def _pump(parts: Any, answers: "queue.Queue[Any]", over: threading.Event) -> None:
    try:
        for part in parts:
            if over.is_set():
                parts.close()
                return
            answers.put(part)
    except BaseException as error:  # noqa: BLE001 - raised where the parts are read
        answers.put(error)
    else:
        answers.put(END)
