"""What the workbench may do to runs, with its limits; the only module that changes anything."""

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from acft.errors import ConfigError, RunError
from acft.inference.client import Inference
from acft.runs import labels, launcher, space
from acft.runs.exports import Export
from acft.ui.reading.reader import Reader

MAX_QUEUED = 20
MAX_PER_HOUR = 60
MAX_SPEC_LETTERS = 100_000
HOUR = 3600.0
LOAD_SECONDS = 600.0
"""Opening a model on a busy machine takes minutes at worst."""


@dataclass(frozen=True)
class Choice:
    """What of a run is to be measured."""

    suites: tuple[str, ...]
    numbers: Mapping[str, int]
    """Prompts, continuations, documents: for the suites that have them."""
    judge: str = ""
    """Model whose likelihood judges responses."""
    control: str | None = None
    """Run that a change must exceed; None where nobody has said whether there is one."""
    scorers: tuple[str, ...] | None = None
    """Who judges toxicity; None for those that judge in the run's own evaluation."""
    changes: tuple[str, ...] = ()
    """Further settings, ``section.key=value``."""


class Control:
    """Launches, stops and resumes; texts are checked in a process of their own."""

    def __init__(
        self,
        reader: Reader,
        settings_process: Inference,
        owner: Callable[[], str] = lambda: "",
        quota_bytes: int = 0,
    ) -> None:
        self._reader = reader
        self._settings_process = settings_process
        self._launches: dict[str, float] = {}
        """New runs of the last hour in order, and when they came."""
        self._lock = threading.Lock()
        self._export_turn = threading.Lock()
        self._exported: tuple[str, Export] | None = None
        self._quota_bytes = quota_bytes
        self.owner = owner
        """Who supervises this directory now when it is not us, else an empty string."""

    def obstacle(self) -> str:
        """Why nothing can be changed from here now; empty when it can."""
        owner = self.owner()
        if not owner:
            return ""
        return (
            f"these runs are supervised by {owner}; change them there, or close it: this workbench "
            "then takes over"
        )

    def check(self, text: str, *, has_files: bool = False) -> list[str]:
        """Problems of a settings text, one line each; missing files only for who may launch."""
        limit_text(text)
        return self._settings_process.call("check", text=text, has_files=has_files)

    def outline(self, text: str) -> dict[str, Any]:
        """What a run with these settings, which have no problems, will do in each round."""
        return self._settings_process.call("outline", text=text)

    def preflight(
        self, text: str, process: Inference, withdrawn: threading.Event
    ) -> dict[str, Any]:
        """What a run with these settings would read and need, looked up in a process of its own.

        A large corpus takes minutes, for which nobody else's settings should wait.
        """
        limit_text(text)
        return process.call(
            "preflight", LOAD_SECONDS, withdrawn=withdrawn, runs=str(self._reader.runs_dir),
            text=text, quota_bytes=self._quota_bytes,
        )  # fmt: skip

    def launch(
        self, text: str, request_id: str = "", cloned_from: str = "", experiment: str = ""
    ) -> str:
        """Id of the queued run; a repeated request gives the same run.

        Args:
            text: Settings as TOML.
            request_id: Name of the request; empty means a new one.
            cloned_from: Run whose settings these were.
            experiment: Name of the settings file whose settings these are.

        Raises:
            ConfigError: The settings have problems.
            RunError: Too many runs wait, too many were launched within the hour, or there is no
                room for another.
        """
        limit_text(text)
        return self._new(
            "launch",
            text=text,
            request_id=request_id or secrets.token_hex(8),
            cloned_from=cloned_from,
            experiment=experiment,
            quota_bytes=self._quota_bytes,
        )

    def plan_grid(self, text: str, grid: Sequence[str]) -> list[dict[str, Any]]:
        """Every combination of a grid, and the run that has its settings already, if any.

        Raises:
            ConfigError: A line of the grid or any combination has problems.
        """
        limit_text(text)
        return self._settings_process.call(
            "plan_grid", runs=str(self._reader.runs_dir), text=text, grid=list(grid)
        )

    def launch_grid(
        self,
        text: str,
        grid: Sequence[str],
        n_confirmed: int,
        request_id: str,
        cloned_from: str,
        experiment: str = "",
    ) -> list[str]:
        """Ids of the queued runs, one for each combination that no run has yet.

        Raises:
            ConfigError: A line of the grid or any combination has problems.
            RunError: Others would be queued than were confirmed, too many runs wait, too many were
                launched within the hour, or there is no room for them.
        """
        limit_text(text)
        self._allow(n_confirmed)
        queued: list[str] = self._settings_process.call(
            "launch_grid", runs=str(self._reader.runs_dir), text=text, grid=list(grid),
            n_confirmed=n_confirmed, request_id=request_id, cloned_from=cloned_from,
            experiment=experiment, quota_bytes=self._quota_bytes,
        )  # fmt: skip
        self._count(queued)
        return queued

    def measure(self, run_id: str, choice: Choice, request_id: str) -> str:
        """Id of the queued run that measures another's preferred checkpoint beside its base.

        Raises:
            RunError: The run has no checkpoint, or too much waits already.
        """
        return self._new(
            "measure", run_id=run_id, request_id=request_id, quota_bytes=self._quota_bytes,
            **asdict(choice),
        )  # fmt: skip

    def weigh(self, run_id: str, choice: Choice, *, has_files: bool = False) -> dict[str, Any]:
        """Every suite, and the work and problems of a choice of them; files as in ``check``."""
        return self._settings_process.call(
            "weigh", runs=str(self._reader.runs_dir), run_id=run_id, has_files=has_files,
            **asdict(choice),
        )  # fmt: skip

    def stop(self, run_id: str, mode: str = "save") -> str:
        """What the run's state is after asking it to stop."""
        self._own()
        return launcher.stop(self._reader.runs_dir, run_id, mode).label

    def resume(self, run_id: str, from_round: int | None = None) -> int:
        """The round after which the run, queued again, goes on; by default the last sealed one.

        Raises:
            RunError: The run is finished or cannot be resumed, or another process supervises it.
        """
        self._own()
        run = self._reader.run(run_id)
        if run is not None and run.state.state == "finished":
            raise RunError(
                f"run {run_id} is finished, nothing of it is left to do; 'Launch again with "
                "changes' begins a new run from its settings"
            )
        return launcher.resume(self._reader.runs_dir, run_id, from_round)

    def export(self, run_id: str, export: Export, process: Inference) -> list[str]:
        """What a user has to know of a round's policy, now in the run's folder; made in a process.

        One is made at a time: whoever comes second waits.

        Raises:
            AcftError: The run has no such round, adapter or oracle, or there is no room.
        """
        self._own()
        with self._export_turn, closing(process):
            self._exported = run_id, export
            try:
                return process.call(
                    "export", LOAD_SECONDS, runs=str(self._reader.runs_dir), run_id=run_id,
                    checkpoint=export.round, is_merged=export.is_merged,
                    has_oracle=export.has_oracle, quota_bytes=self._quota_bytes,
                )  # fmt: skip
            finally:
                self._exported = None

    def exported(self, run_id: str) -> Export | None:
        """What is being exported of the run now."""
        now = self._exported
        return now[1] if now and now[0] == run_id else None

    def free(self, run_id: str) -> int:
        """Bytes freed by deleting all checkpoints of a run but the best and the last.

        Raises:
            RunError: The run is live or being exported, or another process supervises it.
        """
        self._own_unread(run_id)
        return space.delete_checkpoints(self._reader.runs_dir, run_id)

    def delete(self, run_id: str) -> int:
        """Bytes freed by deleting a run and all that lies in its folder.

        Raises:
            RunError: The run is live or being exported, or another process supervises it.
        """
        self._own_unread(run_id)
        return space.delete(self._reader.runs_dir, run_id, run_id)

    def label(self, run_id: str, **changes: Any) -> None:
        """Sets tags, notes or the archived flag of a run.

        Raises:
            RunError: There is no such run, or another process supervises these.
        """
        self._own()
        with self._lock:
            labels.label(self._reader.runs_dir, run_id, **changes)

    def _own(self) -> None:
        if obstacle := self.obstacle():
            raise RunError(obstacle)

    def _own_unread(self, run_id: str) -> None:
        self._own()
        if export := self.exported(run_id):
            raise RunError(f"{export.name} of this run is being written; wait until it is done")

    def _new(self, operation: str, **arguments: Any) -> str:
        """Id of a run that is asked for; only one that was not there counts by the hour."""
        self._allow()
        known = set(self._reader.run_ids())
        runs = str(self._reader.runs_dir)
        run_id: str = self._settings_process.call(operation, runs=runs, **arguments)
        self._count([run_id] if run_id not in known else [])
        return run_id

    def _count(self, run_ids: Sequence[str]) -> None:
        with self._lock:
            for run_id in run_ids:
                self._launches.setdefault(run_id, time.monotonic())

    def _allow(self, n_runs: int = 1) -> None:
        """Returns if so many runs more may be launched now."""
        self._own()
        queued = sum(run.state.state == "queued" for run in self._reader.runs())
        if queued + n_runs > MAX_QUEUED:
            raise RunError(
                f"{queued} runs wait already and at most {MAX_QUEUED} may; stop some of them first"
            )
        with self._lock:
            now = time.monotonic()
            self._launches = {r: t for r, t in self._launches.items() if now - t <= HOUR}
            if len(self._launches) + n_runs > MAX_PER_HOUR:
                raise RunError(
                    f"{len(self._launches)} runs were launched within the hour and at most "
                    f"{MAX_PER_HOUR} may; wait a little"
                )


def preset_names(experiments: Path) -> list[str]:
    """Settings files offered as a start, by name."""
    return sorted(path.stem for path in experiments.glob("*.toml") if not path.is_symlink())


def preset(experiments: Path, name: str) -> str:
    """Text of a preset; only names of the list are accepted.

    Raises:
        RunError: There is no preset of that name.
    """
    if name not in preset_names(experiments):
        raise RunError(f"no preset {name!r} (there are: {', '.join(preset_names(experiments))})")
    return (experiments / f"{name}.toml").read_text(encoding="utf-8")


def limit_text(text: str) -> None:
    """Returns for a text that is short enough to be read.

    Raises:
        ConfigError: It is longer than any settings are.
    """
    if len(text) > MAX_SPEC_LETTERS:
        raise ConfigError(
            f"settings of {len(text):,} letters; at most {MAX_SPEC_LETTERS:,} are read"
        )
