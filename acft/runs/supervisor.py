"""The one process that starts queued runs, sees stops through, and adopts runs after a restart.

The workbench runs it in a thread. Without the workbench ``acft launch`` starts it detached; that
one ends when nothing is queued or running, and hands over as soon as a workbench asks.
Runs do not depend on it: they have their own sessions and files.
"""

import dataclasses
import logging
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from acft.atomic import ABSENT, FileMark, file_mark
from acft.errors import DataError
from acft.eventlog import read_events
from acft.runs.devices import Device, candidates, devices, gpu_obstacle, pin
from acft.runs.devices import variables as device_variables
from acft.runs.directory import (
    all_runs,
    amend_status,
    read_launch,
    read_status,
    refuse_links,
    remove_remains,
    stop_request,
)
from acft.runs.launcher import RunInfo
from acft.runs.ownership import Ownership
from acft.runs.process import Identity, kill, start_time, terminate, this_boot
from acft.runs.spawn import WORKER, environment, spawn
from acft.runs.status import FINAL, current_state, observe, record_end, run_state
from acft.runs.stopping import stop_action, waited_before
from acft.schema import Launch, RunPaths, Status

TICK_SECONDS = 0.5
CLAIM_SECONDS = 5.0
"""Between two looks whether another supervisor has gone."""
RECORD_SECONDS = 1.0
"""A dead worker's lock is waited for so long at each tick."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Adoption:
    """Proof that a run found alive is the one recorded, with nothing lost."""

    run_id: str
    pid: int
    started: float
    """Seconds since the epoch."""
    events: int
    """Events in its file, numbered without a gap."""
    lost: int
    """Events its status counts beyond those."""


class Supervisor:
    """Looks after all runs of one directory."""

    def __init__(
        self,
        runs_dir: Path,
        *,
        role: str = "app",
        command: Sequence[str] = WORKER,
        places: list[Device] | None = None,
        make_room: Callable[[str, str], object] = lambda *_: None,
    ) -> None:
        """A supervisor that has claimed nothing yet.

        Args:
            runs_dir: Directory of all runs.
            role: ``app`` in a workbench, else ``detached``.
            command: Program that does a run; the run's folder is appended.
            places: Devices to use; those of the machine when not given.
            make_room: Called with a device and the run that wants to start there; releases models.
        """
        self._runs_dir = runs_dir
        self._ownership = Ownership(runs_dir, role)
        self._command = tuple(command)
        self._places = devices() if places is None else places
        self._make_room = make_room
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._stopping: dict[str, tuple[str, float]] = {}
        self._terminated: set[str] = set()
        self._made_room: set[tuple[str, str]] = set()
        """Waiting runs and the devices where models gave way to them."""
        self._over: dict[str, FileMark] = {}
        self._is_closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._trouble: dict[str, str] = {}
        """What went wrong last, by run; under "" what concerns them all."""
        self.adoptions: list[Adoption] = []

    @property
    def is_owner(self) -> bool:
        """Whether this supervisor owns the directory now."""
        return self._ownership.is_held

    def claim(self) -> bool:
        """Whether this supervisor owns the directory; live runs are adopted then."""
        if not self._ownership.claim():
            return False
        remove_remains(self._runs_dir, time.time())
        live = [info for info in self._open_runs() if info.state.is_live]
        self.adoptions = [_adopt(info) for info in live]
        for it in self.adoptions:
            facts = f"process {it.pid}, {it.events:,} events, {it.lost:,} lost"
            log.info("took run %s over again: %s", it.run_id, facts)
        return True

    def start(self) -> bool:
        """Whether supervision goes on in a thread now; if not, as soon as who owns it has gone."""
        is_ours = self.claim()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._thread.start()
        return is_ours

    def close(self) -> None:
        """Ends supervision; runs go on."""
        self._is_closing.set()
        if self._thread is not None:
            self._thread.join()
        self._ownership.release()

    def run_until_idle(self) -> None:
        """Supervises until nothing is queued or running, or a workbench takes over."""
        while self.claim():
            while self._has_work() and not self._ownership.is_asked_to_hand_over():
                self._try(self.tick)
                self._is_closing.wait(TICK_SECONDS)
            is_displaced = self._ownership.is_asked_to_hand_over()
            self._ownership.release()
            # A run queued just before the release relied on us.
            if is_displaced or not self._has_work():
                return

    def tick(self) -> None:
        """Does once what is to be done now."""
        self._reap()
        found = self._open_runs()
        for info in found:
            if info.state.is_live:
                self._try(partial(self._see_stop_through, info), info.run_id)
        self._start_queued(found)

    def _run(self) -> None:
        while not self._is_closing.is_set():
            self._try(self.tick if self.is_owner else self.claim)
            self._is_closing.wait(TICK_SECONDS if self.is_owner else CLAIM_SECONDS)

    def _try(self, action: Callable[[], object], run_id: str = "") -> None:
        """Supervision outlives whatever goes wrong once: a full disk, a folder that is deleted.

        What goes wrong with one run, such as a folder of another user, is not the others' trouble.
        """
        try:
            action()
            self._trouble.pop(run_id, None)
        except Exception as error:
            trouble = f"{type(error).__name__}: {error}"
            if trouble != self._trouble.get(run_id):  # not one traceback for each tick
                about = f" of run {run_id}" if run_id else ""
                log.exception("supervision%s was interrupted and goes on", about)
            self._trouble[run_id] = trouble

    def _has_work(self) -> bool:
        return any(i.state.is_live or i.state.state == "queued" for i in self._open_runs())

    def _open_runs(self) -> list[RunInfo]:
        """Runs that are not over, oldest first; those known to be over are not read again.

        How a run ended that was taken over, or whose machine went down, nobody else writes down.
        """
        found = []
        for paths in all_runs(self._runs_dir):
            run_id, mark = paths.root.name, file_mark(paths.status)
            if self._over.get(run_id) == mark:
                continue
            status, state = current_state(paths)
            if state.state not in (*FINAL, "lost"):
                found.append(RunInfo(paths, status, state))
            elif state.state == status.state and mark != ABSENT:
                self._over[run_id] = mark
            elif run_id not in self._children:
                self._try(partial(record_end, paths), run_id)
        return found

    def _start_queued(self, found: list[RunInfo]) -> None:
        busy = Counter(info.status.device or "cpu" for info in found if info.state.is_live)
        for info in found:
            # A child whose start could not be recorded still says itself that it runs.
            if info.state.state != "queued" or info.run_id in self._children:
                continue
            self._try(partial(self._start, info.paths, busy, found), info.run_id)

    def _start(self, paths: RunPaths, busy: Counter[str], found: Sequence[RunInfo]) -> None:
        """Starts a queued run where a device is free, else tells its readers why it waits."""
        try:
            refuse_links(paths)
            launch = read_launch(paths)
        except DataError as error:
            amend_status(paths, _unreadable(error))
            return
        device, obstacle = self._place(paths.root.name, launch.device, busy)
        if device is None:
            amend_status(paths, _waiting(f"waiting: {obstacle}"))
        elif amend_status(
            paths, partial(self._spawn, paths=paths, device=device, launch=launch, found=found)
        ):
            busy[device.name] += 1

    def _place(self, run_id: str, wanted: str, busy: Counter[str]) -> tuple[Device | None, str]:
        """A free device, or why there is none."""
        obstacles = []
        for device in candidates(wanted, self._places):
            if busy[device.name] >= device.slots:
                runs = "a run is" if device.slots == 1 else f"{device.slots} runs are"
                obstacles.append(f"{runs} on {device.name}")
                continue
            obstacle, place = gpu_obstacle(device.name), (run_id, device.name)
            if obstacle and place not in self._made_room:
                # Once: it may be our own models, but while it is others, no model would live long.
                self._make_room(device.name, run_id)
                self._made_room.add(place)
                obstacle = gpu_obstacle(device.name)
            elif not obstacle:
                self._make_room(device.name, run_id)
            if not obstacle:
                return device, ""
            obstacles.append(obstacle)
        return None, "; ".join(obstacles)

    def _spawn(
        self,
        status: Status,
        paths: RunPaths,
        device: Device,
        launch: Launch,
        found: Sequence[RunInfo],
    ) -> Status | None:
        if status.state != "queued":
            return None
        paths.stop_request.unlink(missing_ok=True)
        self._forget_stop(paths.root.name)
        variables = environment(launch.mirror, **device_variables(device.name))
        child = spawn([*self._command, str(paths.root)], paths.root, paths.log, variables)
        if device.name == "cpu":
            pin(child.pid, device.slots, self._neighbours(device, found))
        self._children[paths.root.name] = child
        self._made_room = {place for place in self._made_room if place[0] != paths.root.name}
        log.info("run %s starts on %s with pid %d", paths.root.name, device.name, child.pid)
        return _starting(status, child.pid, device.name)

    def _neighbours(self, device: Device, found: Sequence[RunInfo]) -> set[int]:
        """Processes of the runs on a device: those started here, and those adopted."""
        adopted = {
            i.status.pid for i in found if i.state.is_live and i.status.device == device.name
        }
        return adopted | {child.pid for child in self._children.values()}

    def _reap(self) -> None:
        """Records deaths; a child is kept, and with it its exit code, until that succeeded."""
        for run_id, child in list(self._children.items()):
            code = child.poll()
            if code is None:
                continue
            paths = RunPaths(self._runs_dir / run_id)
            if not paths.root.is_dir() or self._is_recorded(paths, child.pid, code):
                del self._children[run_id]

    def _is_recorded(self, paths: RunPaths, pid: int, code: int) -> bool:
        """Whether the run's status tells of the death of this process, or of something later."""
        death = _death(paths, pid, code)
        if amend_status(paths, death, wait_seconds=RECORD_SECONDS):
            return True
        return death(read_status(paths)) is None

    def _see_stop_through(self, info: RunInfo) -> None:
        mode, asked = stop_request(info.paths)
        if not mode:
            self._forget_stop(info.run_id)
            return
        # Counted on the monotonic clock from when it was first seen: the date may jump.
        known_mode, since = self._stopping.get(info.run_id, ("", 0.0))
        if known_mode != mode:
            since = time.monotonic() - waited_before(mode, asked)
            self._forget_stop(info.run_id)
            self._stopping[info.run_id] = (mode, since)
        action, _ = stop_action(mode, time.monotonic() - since)
        who = Identity(info.status.pid, info.status.pid_started, info.status.boot_id)
        if action == "terminate" and info.run_id not in self._terminated:
            self._terminated.add(info.run_id)
            log.info("run %s is terminated: it did not stop in time", info.run_id)
            terminate(who)
        elif action == "kill":
            log.warning("run %s is killed: it did not end when terminated", info.run_id)
            kill(who)

    def _forget_stop(self, run_id: str) -> None:
        """The next request to stop this run has its full time."""
        self._stopping.pop(run_id, None)
        self._terminated.discard(run_id)


def _adopt(info: RunInfo) -> Adoption:
    events = len(read_events(info.paths.events))
    lost = max(0, info.status.events - events)
    return Adoption(info.run_id, info.status.pid, info.status.started, events, lost)


def _death(paths: RunPaths, pid: int, code: int) -> Callable[[Status], Status | None]:
    """Adds the exit code, which only the parent learns, to what the worker left."""

    def change(status: Status) -> Status | None:
        if status.state in FINAL or status.pid != pid:
            return None
        seen = observe(paths, status)
        state = run_state(status, seen)
        failure, message = state.failure, state.message
        if state.state == "failed" and seen.ending is None:
            failure, message = "killed", f"signal {-code}: {state.message}"
            if code >= 0:
                failure = "unknown"
                message = f"the worker ended with code {code} before it could report; see its log"
        return dataclasses.replace(
            status, state=state.state, failure=failure, message=message, exit_code=code,
            ended=time.time(),
        )  # fmt: skip

    return change


def _waiting(message: str) -> Callable[[Status], Status | None]:
    """Tells a waiting run's readers why it waits."""

    def change(status: Status) -> Status | None:
        if status.state != "queued" or status.message == message:
            return None
        return dataclasses.replace(status, message=message)

    return change


def _unreadable(error: DataError) -> Callable[[Status], Status]:
    return lambda status: dataclasses.replace(
        status, state="failed", failure="data", message=str(error), ended=time.time()
    )


def _starting(status: Status, pid: int, device: str) -> Status:
    return dataclasses.replace(
        status,
        state="starting",
        pid=pid,
        pid_started=start_time(pid) or 0.0,
        boot_id=this_boot(),
        device=device,
        message="",
        started=time.time(),
        heartbeat=time.time(),
        heartbeat_clock=time.monotonic(),
    )
