"""A training method that takes milliseconds, obeys the contract and fails on request.

Run as a program it is a worker that knows this method and no other, so that it starts fast.
"""

import dataclasses
import errno
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq

from acft.config import Config
from acft.costs import BILL
from acft.errors import DataError
from acft.eventlog import effective, read_events
from acft.events import BestCheckpoint, Evaluated, Note, Progress, Scalars, ShardSealed
from acft.methods.base import METHODS, Method
from acft.runs.worker import RESERVE, main
from acft.schema import RunPaths
from acft.seeding import derive_seed, hash_fraction
from acft.training.outputs import Checkpoint, Output, Rows, TrainContext
from tests.light_worker import start_light

WORKER = (sys.executable, str(Path(__file__).resolve()))
POLL_SECONDS = 0.005


class FakeSettings(Config):
    """What the fake does."""

    fail: Literal[
        "", "oom", "data", "disk", "nonfinite", "bug", "secret", "exit", "kill", "deaf"
    ] = ""
    """How the run ends in ``fail_round``."""
    fail_round: int = 2
    """The round that fails."""
    gate: str = ""
    """Each round waits until this file exists."""
    step_seconds: float = 0.0
    """Length of a step."""
    full_disk_after: int = 0
    """The disk is full from this fsync on until the worker gives its reserve back; 0: never."""


def train(settings: FakeSettings, context: TrainContext) -> Iterator[Output]:
    """Adds pseudo-random numbers; the sum after each round is the checkpoint."""
    total = 0.0
    if context.resume_from is not None:
        total = json.loads((context.resume_from / "policy" / "state.json").read_text())["total"]
        yield BestCheckpoint(
            context.resume_round, f"checkpoints/{context.resume_from.name}", "again"
        )
    if settings.full_disk_after:
        _fill_disk(settings.full_disk_after, Path(os.environ["FAKE_RUN"]))
    steps = context.run.optimizer.steps_per_round
    for number in range(context.resume_round + 1, context.run.schedule.rounds + 1):
        yield Note("info", f"round {number} begins", number)
        _wait_for(settings.gate, context)
        yield Rows("rollouts", number, [_rollout(context, number, n) for n in range(3)])
        _fail(settings, number)
        for step in range(1, steps + 1):
            if context.should_stop():
                return
            time.sleep(settings.step_seconds)
            total += hash_fraction(f"{context.run.seed}/{number}/{step}")
            yield Progress("fit_policy", step, steps, number)
            done = (number - 1) * steps + step
            value = float("nan") if _is_now(settings, "nonfinite", number) else total
            yield Scalars(number, done, {"policy/ce": value})
        yield Scalars(number, 99, {"oracle/loss_train": 0.5})  # an epoch, not a step of the policy
        yield Rows("scores", number, _scores(context, number))
        yield Checkpoint(number, number, number, lambda folder, total=total: _save(folder, total))
        yield BestCheckpoint(number, f"checkpoints/round-{number}", "the latest")
    yield Evaluated("rtp/fake", "toxic_share", "policy", total / 10, 3, low=0.1, high=0.9)


OF_A_PROCESS = ("memory/", *(f"{BILL}{name}/" for name in ("seconds", "texts", "remembered")))
"""What differs after a resume: memory, clock, and scores that only the dead process remembered."""


def numbers(paths: RunPaths) -> dict[str, Any]:
    """Everything a run measured that must not depend on interruptions."""
    scalars, notes, rows = [], [], []
    for entry in effective(read_events(paths.events)):
        if isinstance(entry.event, Scalars):
            event = dataclasses.asdict(entry.event)
            known = {k: v for k, v in event["values"].items() if not k.startswith(OF_A_PROCESS)}
            scalars.append({**event, "values": known})
        elif isinstance(entry.event, Note):
            notes.append(entry.event.text)
        elif isinstance(entry.event, ShardSealed):
            rows.append(pq.read_table(paths.shards / entry.event.name).to_pylist())
    return {"scalars": scalars, "notes": notes, "rows": rows}


def _wait_for(gate: str, context: TrainContext) -> None:
    while gate and not Path(gate).exists() and not context.should_stop():
        time.sleep(POLL_SECONDS)


def _is_now(settings: FakeSettings, failure: str, number: int) -> bool:
    return settings.fail == failure and settings.fail_round == number


def _fail(settings: FakeSettings, number: int) -> None:
    if settings.fail_round != number:
        return
    errors: dict[str, Exception] = {
        "oom": RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        "data": DataError("corpus 'sotu' has no documents"),
        "disk": OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "shards/x.parquet"),
        "bug": KeyError("no such thing"),
    }
    if settings.fail == "secret":
        print("asking with", os.environ["HF_TOKEN"], flush=True)
        raise RuntimeError(f"the hub refused {os.environ['HF_TOKEN']}")
    if settings.fail in errors:
        raise errors[settings.fail]
    if settings.fail == "exit":
        os._exit(7)
    if settings.fail == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if settings.fail == "deaf":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Event().wait()


def _fill_disk(after: int, root: Path) -> None:
    real, calls = os.fsync, iter(range(1, after))

    def fsync(descriptor: int) -> None:
        if next(calls, None) is None and (root / RESERVE).exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    os.fsync = fsync


def _rollout(context: TrainContext, number: int, sample: int) -> dict[str, Any]:
    seed = derive_seed(context.run.seed, "rollout", number, sample)
    return {
        "rollout_id": f"{number}-{sample}",
        "round": number,
        "subject": "policy",
        "response_text": f"harmless {seed}",
        "response_ids": [1, 2, seed % 7],
        "n_tokens": 3,
        "satisfaction": hash_fraction(str(seed)),
    }


def _scores(context: TrainContext, number: int) -> list[dict[str, Any]]:
    rollouts = [_rollout(context, number, n) for n in range(3)]
    return [
        {"rollout_id": r["rollout_id"], "scorer": "fake", "value": 1.0 - r["satisfaction"]}
        for r in rollouts
    ]


def _save(folder: Path, total: float) -> None:
    (folder / "policy").mkdir()
    (folder / "policy" / "state.json").write_text(json.dumps({"total": total}))


def register() -> None:
    """Adds the fake to the methods."""
    if "fake" not in METHODS._items:
        METHODS.add("fake")(Method(FakeSettings, train))


if __name__ == "__main__":
    start_light()
    register()
    os.environ["FAKE_RUN"] = sys.argv[1]
    sys.exit(main())
