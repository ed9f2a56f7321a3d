"""Body of a run's process: feeds what the method yields into the run directory.

``python -m acft.runs.worker RUN_DIR``. The first things written are the process's identity and a
heartbeat; torch is imported only after that, so that the screen never has to guess.
"""

import dataclasses
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from acft.atomic import replace_json
from acft.checkpoints import verify
from acft.errors import DataError
from acft.eventlog import Entry
from acft.events import (
    BestCheckpoint,
    Finished,
    Note,
    Phase,
    Progress,
    RoundFinished,
    Scalars,
    Started,
)
from acft.redaction import redacted
from acft.runs.directory import (
    home_of,
    read_launch,
    read_resolved,
    read_status,
    refuse_links,
    sealed_rounds,
    stop_request,
    write_status,
)
from acft.runs.locks import FileLock
from acft.runs.mirror import Mirror, Target, open_mirror, require_clients
from acft.runs.pace import Pace
from acft.runs.process import this_process
from acft.runs.status import HEARTBEAT_SECONDS
from acft.schema import BEGINNING, RunPaths, Status

if TYPE_CHECKING:
    from acft.runs.recorder import Recorder
    from acft.runs.spec import Spec

DONE, FAILED, USER_ERROR, NOT_OURS = 0, 1, 2, 3
"""Exit codes: finished or stopped; failed; wrong settings or input; the run is not ours to do."""
LOCK_WAIT_SECONDS = 30.0
RESERVE = ".reserve"
RESERVE_BYTES = 256 * 1024
"""Set aside at the start, so that a full disk still leaves room to say so."""
USER_FAILURES = ("config", "data", "model", "disk")
ANEW = "start a new run with the same settings ('acft launch ID')"
NO_RUN = "has no settings; it is not a run directory"
STDERR = 2
NOTICED = b"\nending after the current step; Ctrl-C once more ends now\n"

log = logging.getLogger(__name__)


class StatusFile:
    """The worker's own status: changed by its thread, written by that and by the heartbeat."""

    def __init__(self, paths: RunPaths, status: Status) -> None:
        self._paths = paths
        self._lock = threading.Lock()
        self.status = status

    def change(self, *, write: bool = True, **fields: Any) -> None:
        """Sets fields; the heartbeat writes them soon where ``write`` is false."""
        with self._lock:
            self.status = dataclasses.replace(self.status, **fields)
            if write:
                self._write()

    def beat(self) -> None:
        """Writes a sign of life."""
        with self._lock:
            self._write()

    def _write(self) -> None:
        now = {"heartbeat": time.time(), "heartbeat_clock": time.monotonic()}
        self.status = dataclasses.replace(self.status, **now)
        write_status(self._paths, self.status)


class StopSignal:
    """Whether and how the worker should end: by request file, SIGTERM or Ctrl-C."""

    def __init__(self, paths: RunPaths) -> None:
        self._paths = paths
        self._mode = ""

    @property
    def mode(self) -> str:
        """Empty, ``save`` or ``now``."""
        return self._mode or stop_request(self._paths)[0]

    def is_set(self) -> bool:
        """Whether the method should end after the current step."""
        return bool(self.mode)

    def on_signal(self, number: int, _: object) -> None:
        """Handler: SIGTERM and a second Ctrl-C give up the unfinished round, the first keeps it."""
        is_first_interrupt = number == signal.SIGINT and not self._mode
        if number == signal.SIGINT and self._mode == "now":
            raise KeyboardInterrupt
        self._mode = "save" if is_first_interrupt else "now"
        if is_first_interrupt:
            os.write(STDERR, NOTICED)  # print is not safe inside a handler


def run_worker(paths: RunPaths, listen: Callable[[Entry], None] = lambda _: None) -> int:
    """Exit code after doing the run, or the rest of it, in this process."""
    if not paths.spec.is_file():
        raise DataError(f"{str(paths.root)!r} {NO_RUN}")
    refuse_links(paths)
    lock = FileLock(paths.lock, LOCK_WAIT_SECONDS)
    if not lock.acquire():
        log.error("another process works on %s", paths.root.name)
        return NOT_OURS
    try:
        recorded = read_status(paths)
        if recorded.state not in ("queued", "starting"):
            log.error("run %s is %s; nothing to start", paths.root.name, recorded.state)
            return NOT_OURS
        return _Attempt(paths, recorded, listen).run()
    finally:
        lock.release()


class _Attempt:
    """One process's work on a run."""

    def __init__(self, paths: RunPaths, recorded: Status, listen: Callable[[Entry], None]) -> None:
        who = this_process()
        fresh = dataclasses.replace(
            recorded, state="running", pid=who.pid, pid_started=who.started, boot_id=who.boot_id,
            started=time.time(), ended=0.0, exit_code=None, failure="", message="", advice="",
            retry_with=(), phase=Phase.LOAD,
        )  # fmt: skip
        self._paths = paths
        self._listen = listen
        self._file = StatusFile(paths, fresh)
        self._stop = StopSignal(paths)
        self._spec: Spec | None = None
        self._recorder: Recorder | None = None
        self._pace = Pace(rounds=0)
        self._mirror: Mirror | None = None
        self._is_cut_short = False
        """Whether a request to stop came early enough to leave something out."""

    def run(self) -> int:
        """Exit code; whatever happens is in the status file before it returns."""
        self._file.beat()
        with _signals(self._stop), self._heartbeat():
            try:
                _reserve_space(self._paths)
                self._load()
                self._train()
                ending = Finished("stopped" if self._is_cut_short else "finished")
                code = DONE
            except KeyboardInterrupt:
                ending, code = Finished("stopped", message="interrupted"), DONE
            except BaseException as error:  # noqa: BLE001 - the last place to tell of it
                ending, code = self._failed(error)
        self._end(ending, code)
        return code

    def _load(self) -> None:
        # Imported after the first sign of life: this takes seconds.
        from acft.runs.spec import spec_of  # noqa: PLC0415

        launch = read_launch(self._paths)
        require_clients(launch.mirror)
        os.chdir(home_of(self._paths))
        self._spec = spec_of(self._paths)
        if launch.mirror:
            root = self._paths.root
            target = Target(root.name, root, settings=self._spec.values)
            self._mirror = open_mirror(launch.mirror, target)
        rounds = self._spec.settings.schedule.rounds
        are_alike = self._spec.kind == "training"  # suites differ much in size
        self._pace = Pace(rounds, are_alike=are_alike)
        self._file.change(rounds=rounds, steps=self._spec.steps)

    def _train(self) -> None:
        from acft.distributed import agreed, ranks, together  # noqa: PLC0415
        from acft.methods.base import TrainContext  # noqa: PLC0415
        from acft.runs.added_code import added_code  # noqa: PLC0415
        from acft.runs.recorder import Recorder, remove_unnamed  # noqa: PLC0415
        from acft.runs.spec import resolved  # noqa: PLC0415
        from acft.training.accounting import accounted  # noqa: PLC0415
        from acft.training.contract import promised  # noqa: PLC0415
        from acft.training.sameness import named, require_same  # noqa: PLC0415

        spec = self._spec
        assert spec is not None
        status = self._file.status
        begin = starting_point(self._paths, status)
        if begin.folder is not None:
            verify(begin.folder)
        should_stop = agreed(self._should_stop)
        context = TrainContext(spec.settings, begin.folder, begin.round, begin.step, should_stop)
        self._recorder = Recorder(self._paths, self._observe)
        proof = {"pid_started": status.pid_started, "boot_id": status.boot_id}
        started = Started(status.pid, begin.round, proof)
        if begin.folder is None:
            self._recorder.take(started)
        facts = {
            **spec.method.facts(context),
            "processes": ranks().size,
            "has_oracle": spec.method.has_oracle,
            "code": added_code(spec),
        }
        if begin.folder is not None:  # what is refused takes no later round back
            before = named(read_resolved(self._paths).get("facts", {}))
            require_same(before, named(facts), "run", ANEW)
            self._recorder.take(started)
        for path in remove_unnamed(self._paths):
            log.info("removed %s, which no finished round needs", path.name)
        replace_json(self._paths.resolved, {**resolved(spec), "facts": facts})
        method = promised(spec.method.train, spec.method_settings, context)
        with context.opened, together(), closing(accounted(method, context)) as outputs:
            for output in outputs:
                self._recorder.take(output)
                # others would wait for this process, so all end at the next step they settle
                if self._stop.mode == "now" and ranks().size == 1:
                    self._is_cut_short = True
                    break

    def _should_stop(self) -> bool:
        """What the method is told, which ends where it is told so."""
        self._is_cut_short = self._is_cut_short or self._stop.is_set()
        return self._is_cut_short

    def _observe(self, entry: Entry) -> None:
        """Keeps the status in step with the events."""
        event, seq = entry.event, entry.seq
        if isinstance(event, Progress):
            is_new = event.phase != self._file.status.phase
            self._pace.progress(event)
            self._file.change(
                write=is_new, phase=event.phase, phase_done=event.done, phase_total=event.total,
                phase_unit=event.unit, phase_rate=self._pace.rate,
                phase_seconds_left=self._pace.phase_seconds_left,
                seconds_left=self._pace.seconds_left(self._file.status.round), events=seq,
            )  # fmt: skip
        elif isinstance(event, Scalars) and event.is_of_policy:
            self._file.change(write=False, step=event.step, events=seq)
        elif isinstance(event, RoundFinished):
            self._pace.round_finished()
            self._file.change(
                round=event.round, checkpoint=event.checkpoint, events=seq,
                seconds_left=self._pace.seconds_left(event.round),
            )  # fmt: skip
        elif isinstance(event, BestCheckpoint):
            self._file.change(best_checkpoint=event.checkpoint, events=seq)
        else:
            self._file.change(write=False, events=seq)
        if self._mirror is not None:
            self._mirror.take(event)
        self._listen(entry)

    def _failed(self, error: BaseException) -> tuple[Finished, int]:
        from acft.runs.failures import classify  # noqa: PLC0415

        (self._paths.root / RESERVE).unlink(missing_ok=True)
        with suppress(OSError), self._paths.log.open("a", encoding="utf-8") as output:
            output.write(redacted("".join(traceback.format_exception(error))))
        settings, status = self._spec.settings if self._spec else None, self._file.status
        is_over = 0 < status.phase_total <= status.phase_done
        has_sealed = bool(status.checkpoint)
        failure = classify(error, settings, status.phase, is_over=is_over, has_sealed=has_sealed)
        with suppress(OSError):
            self._file.change(advice=redacted(failure.advice), retry_with=failure.retry_with)
        ending = Finished("failed", failure.kind, redacted(failure.message))
        return ending, USER_ERROR if failure.kind in USER_FAILURES else FAILED

    def _end(self, ending: Finished, code: int) -> None:
        (self._paths.root / RESERVE).unlink(missing_ok=True)
        try:
            if self._recorder is not None:
                with closing(self._recorder):
                    for note in self._last_of_mirror():
                        self._recorder.take(note)
                    self._recorder.take(ending)
            self._file.change(
                state=ending.state, failure=ending.failure, message=ending.message,
                ended=time.time(), exit_code=code, seconds_left=None, phase_seconds_left=None,
            )  # fmt: skip
            self._paths.stop_request.unlink(missing_ok=True)
        except OSError:
            log.exception("the end of the run could not be written")

    def _last_of_mirror(self) -> list[Note]:
        """What a reader should know about copies that did not arrive."""
        if self._mirror is None:
            return []
        is_complete = self._mirror.close()
        problems = list(self._mirror.problems)
        if self._mirror.n_dropped:
            problems.append(f"{self._mirror.n_dropped} steps were not mirrored")
        if not is_complete:
            problems.append("a mirror did not take everything before the run ended")
        return [Note("warning", redacted(problem)) for problem in problems]

    @contextmanager
    def _heartbeat(self) -> Iterator[None]:
        is_over = threading.Event()

        def beat() -> None:
            while not is_over.wait(HEARTBEAT_SECONDS):
                try:
                    if self._stop.is_set():
                        self._file.change(write=False, state="stopping")
                    self._file.beat()
                    if self._recorder is not None:
                        self._recorder.sync()
                except OSError as error:
                    log.warning("a heartbeat could not be written: %s", error)

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()


class StartingPoint(NamedTuple):
    """Where an attempt begins: a sealed checkpoint, its rounds and optimiser steps."""

    folder: Path | None = None
    round: int = 0
    step: int = 0


def starting_point(paths: RunPaths, status: Status) -> StartingPoint:
    """Where the attempt that a run waits for begins.

    Raises:
        DataError: There is no such sealed checkpoint.
    """
    sealed = sealed_rounds(paths)
    if not sealed or status.resumed_from == BEGINNING:
        return StartingPoint()
    wanted = status.resumed_from or sealed[max(sealed)].checkpoint
    for event in sealed.values():
        if event.checkpoint == wanted:
            return StartingPoint(paths.root / wanted, event.round, status.step)
    raise DataError(f"run {paths.root.name} has no sealed checkpoint {wanted!r}")


def _reserve_space(paths: RunPaths) -> None:
    with (paths.root / RESERVE).open("wb") as file:
        file.write(os.urandom(RESERVE_BYTES))
        os.fsync(file.fileno())


@contextmanager
def _signals(stop: StopSignal) -> Iterator[None]:
    """Routes SIGTERM and Ctrl-C to the stop signal; only the main thread may do so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, stop.on_signal)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(argv: list[str] | None = None) -> int:
    """Exit code of the process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m acft.runs.worker RUN_DIR\n")
        return USER_ERROR
    return run_worker(RunPaths(Path(arguments[0]).resolve()))


if __name__ == "__main__":
    sys.exit(main())
