"""Every training method on the packaged model: killed at any moment, resumed, same numbers."""

import random
import time
from pathlib import Path

import pytest

from acft.methods.base import METHODS
from acft.runs import launcher
from acft.runs.devices import Device
from acft.runs.directory import create_run, read_status
from acft.runs.process import Identity, is_alive, kill
from acft.runs.spec import EVALUATE
from acft.runs.supervisor import Supervisor
from acft.schema import Launch, RunPaths, Status
from tests.fake_method import OF_A_PROCESS, numbers
from tests.fake_runs import become, wait_until

SPEC = """
seed = 3
device = "cpu"
[schedule]
threads = 1
rounds = 2
[oracle]
rollouts_per_round = 24
validation_rollouts = 24
max_epochs = 2
strength_max = 1.5
[optimizer]
steps_per_round = 2
batch_size = 2
micro_batch_size = 1
max_tokens = 32
warmup_steps = 1
[[corpus]]
source = "base_rollouts"
domain = "attribute"
max_documents = 16
[[corpus]]
source = "sotu"
max_documents = 50
[evaluation]
validation_prompts = 2
validation_continuations = 2
test_prompts = 2
continuations = 2
perplexity_documents = 2
"""
MEASURED_BY_THE_CLOCK = ("time/", *OF_A_PROCESS)
VARIANTS = [["schedule.kind='sequential'"], ["schedule.kind='parallel'"]]


def comparable(paths: RunPaths) -> dict:
    """Everything measured but durations and memory."""
    found = numbers(paths)
    for scalars in found["scalars"]:
        scalars["values"] = {
            name: value
            for name, value in scalars["values"].items()
            if not name.startswith(MEASURED_BY_THE_CLOCK)
        }
    found["scalars"] = [scalars for scalars in found["scalars"] if scalars["values"]]
    return found


def start(runs_dir: Path, *overrides: str) -> RunPaths:
    launch = Launch(created=time.time(), device="cpu", overrides=overrides)
    return create_run(runs_dir, SPEC, launch, Status(state="queued"))


@pytest.mark.slow
@pytest.mark.assets
@pytest.mark.parametrize(
    "overrides",
    [
        [f"method.name='{name}'", *variant]
        for name in METHODS.names()
        if name != EVALUATE
        for variant in (VARIANTS if name == "acft" else VARIANTS[:1])
    ],
    ids=" ".join,
)
def test_kills_change_no_number(overrides, tmp_path):
    dice = random.Random(str(overrides))
    supervisor = Supervisor(tmp_path, places=[Device("cpu", 1)])
    assert supervisor.start()
    try:
        whole = start(tmp_path, *overrides)
        become(whole, "finished", seconds=1800.0)
        n_events = read_status(whole).events
        killed = start(tmp_path, *overrides)
        for share in sorted(dice.uniform(0.02, 0.95) for _ in range(3)):
            kill_after(killed, int(share * n_events))
            become(killed, "failed (killed)")
            launcher.resume(tmp_path, killed.root.name)
        become(killed, "finished", seconds=1800.0)
        assert comparable(killed) == comparable(whole)
    finally:
        supervisor.close()


def kill_after(paths: RunPaths, events: int) -> None:
    """Kills the worker when its run has at least so many events."""
    wait_until(
        lambda: read_status(paths).events >= events and read_status(paths).pid > 0, seconds=1800
    )
    status = read_status(paths)
    who = Identity(status.pid, status.pid_started, status.boot_id)
    kill(who)
    wait_until(lambda: not is_alive(who), "death of the worker")
