"""The workbench as a process of its own, with workers and checks that need no model.

``python tests/ui/story_server.py RUNS EXPERIMENTS PORT``
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

from acft.errors import AcftError
from acft.inference.client import NEVER, Inference
from acft.runs.devices import Device
from acft.runs.directory import all_runs, create_run, find_run, read_launch
from acft.runs.exports import Export
from acft.runs.supervisor import Supervisor
from acft.schema import Launch, Status
from acft.settings import RunSettings
from acft.ui import app
from acft.ui.control import Control
from acft.ui.options import Options
from acft.ui.parts import settings_text
from tests.ui.conftest import (
    REHEARSED,
    FakeModelProcess,
    FakeRehearsal,
    FakeSettingsProcess,
)
from tests.ui.story_method import WORKER


class StorySettingsProcess(FakeSettingsProcess):
    """Checks shared settings, and queues runs, without tensors."""

    def call(self, operation: str, seconds: float = 1.0, **arguments: Any) -> Any:
        if operation == "check":
            try:
                RunSettings.parse(settings_text.parse(arguments["text"]))
            except AcftError as error:
                return str(error).splitlines()
            return []
        if operation == "plan_grid":
            from acft.runs.sweep import parse_axis  # loads torch

            RunSettings.parse(settings_text.parse(arguments["text"]))
            return [{"changes": [each], "run_id": ""} for each in parse_axis(arguments["grid"][0])]
        if operation == "launch_grid":
            return [
                _queue(Path(arguments["runs"]), arguments["text"], f"{arguments['request_id']}{n}")
                for n in range(arguments["n_confirmed"])
            ]
        if operation == "launch":
            return _queue(Path(arguments["runs"]), arguments["text"], arguments["request_id"])
        return super().call(operation, seconds, **arguments)


class StoryModelProcess(FakeModelProcess):
    """All but the first part of what "slow" texts ask for comes when a file is there."""

    def __init__(self, gate: Path) -> None:
        super().__init__()
        self._gate = gate

    def stream(
        self, operation: str, seconds: float = 1.0, withdrawn: Event = NEVER, **arguments: Any
    ) -> Iterator[Any]:
        parts = super().stream(operation, seconds, **arguments)
        if operation == "generate":
            yield next(parts)
        while str(arguments.get("prompt", "")).startswith("slow") and not self._gate.exists():
            time.sleep(0.02)
        return (yield from parts)


class StoryRehearsal(FakeRehearsal):
    """A step of settings ends with "slow" when a file is there, and fails with "hopeless"."""

    def __init__(self, gate: Path) -> None:
        super().__init__()
        self._gate = gate

    def stream(
        self, operation: str, seconds: float = 1.0, withdrawn: Event = NEVER, **arguments: Any
    ) -> Iterator[Any]:
        if operation == "preflight":
            return self.read
        yield {"doing": "opening the model"}
        if "hopeless" in arguments["text"]:
            raise AcftError("the device ran out of memory")
        while "slow" in arguments["text"] and not self._gate.exists():
            if withdrawn.wait(0.02):
                raise AcftError("it was withdrawn")
        return REHEARSED


class StoryExport(Inference):
    """Writes one small file where the weights would be."""

    def call(self, operation: str, seconds: float = 1.0, **arguments: Any) -> Any:
        if operation != "export":
            raise AssertionError(operation)
        wanted = Export(arguments["checkpoint"], arguments["is_merged"], arguments["has_oracle"])
        folder = wanted.folder(find_run(Path(arguments["runs"]), arguments["run_id"]))
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"weights")
        return ["begin every prompt with a bow"]


def _queue(runs: Path, text: str, request_id: str) -> str:
    for paths in all_runs(runs):
        if paths.launch.exists() and read_launch(paths).request_id == request_id:
            return paths.root.name
    launch = Launch(created=time.time(), request_id=request_id)
    status = Status(state="queued", created=launch.created)
    return create_run(runs, text, launch, status).root.name


def main() -> None:
    """Serves until killed."""
    runs, experiments, port = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    options = Options(runs=runs, experiments=experiments, port=port)
    started: list[Supervisor] = []

    def supervisor(root: Path, **_: Any) -> Supervisor:
        started.append(Supervisor(root, command=WORKER, places=[Device("cpu", 1)]))
        return started[0]

    app.Supervisor = supervisor  # pyright: ignore[reportAttributeAccessIssue]
    app.DEMO_RUNS = runs / "none"
    bench = app.workbench(options)
    settings_process = StorySettingsProcess()
    bench = replace(
        bench,
        settings_process=settings_process,
        model_process=StoryModelProcess(experiments / "values"),
        rehearsal_process=StoryRehearsal(experiments / "step"),
        export_process=StoryExport(),
        control=Control(bench.reader, settings_process, bench.control.owner),
    )
    blocks = app.launch(bench, options)
    print("ready", flush=True)
    blocks.block_thread()


if __name__ == "__main__":
    main()
