"""Injected faults: no event lost or doubled, no false state, no repair by hand, same numbers.

``make test`` draws each fault once; ``--slow`` draws each often enough for more than a hundred.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from acft.atomic import replace_json
from acft.errors import DataError
from acft.eventlog import read_events
from acft.runs import launcher
from acft.runs.directory import read_status, write_status
from acft.runs.process import Identity, is_alive, kill, start_time, this_boot
from acft.runs.status import FINAL, current_state
from acft.runs.worker import RESERVE_BYTES
from acft.schema import RunPaths
from acft.store.connection import Store, open_memory_store, open_store
from acft.store.ingest import Ingester
from acft.store.rebuild import bring_up_to_date, fingerprint, rebuild
from acft.store.tail import Position, read_on
from tests.fake_method import numbers
from tests.fake_runs import app, become, create, do, wait_until

TRUTH_SECONDS = 15.0
REPEATS = 9
EVENTS = 49
"""Lines of an uninterrupted run."""
LEFT_BYTES = 60 * 1024
"""Room on the full disk: enough to begin, not to end."""


@dataclass
class Bench:
    """A runs directory with a supervising process, and a reader that follows the run."""

    runs_dir: Path
    dice: random.Random
    paths: RunPaths = field(init=False)
    position: Position = field(default_factory=Position)
    supervisor: "subprocess.Popen[bytes]" = field(init=False)
    seen: list[int] = field(default_factory=list)
    live: Store = field(init=False)
    """Takes in everything while the faults happen, as the workbench does."""
    ingester: Ingester = field(init=False)

    def __post_init__(self) -> None:
        self.supervisor = app(self.runs_dir)
        self.live = open_memory_store(self.runs_dir)
        self.ingester = Ingester(self.live)

    def begin(self, *overrides: str) -> None:
        """Queues the run."""
        slow = f"method.step_seconds={self.dice.choice([0.0, 0.005])}"
        self.paths = create(self.runs_dir, slow, *overrides)
        self.position = Position()

    def follow(self) -> int:
        """Number of events so far, after noting the new ones."""
        chunk = read_on(self.paths.events, self.position)
        assert chunk is not None, "events that were read are gone"
        self.seen += [line.entry.seq for line in chunk.lines]
        self.position = chunk.position
        self.ingester.poll()
        return len(self.seen)

    def reach(self, events: int) -> Identity:
        """The worker, once it has written so many events or ended."""
        wait_until(
            lambda: self.follow() >= events or read_status(self.paths).state in FINAL,
            f"event {events}",
        )
        return self.worker()

    def worker(self) -> Identity:
        """The recorded process."""
        status = read_status(self.paths)
        return Identity(status.pid, status.pid_started, status.boot_id)

    def kill_worker(self, events: int | None = None) -> None:
        """Kills the worker after a number of events, random where none is given."""
        who = self.reach(self.dice.randrange(1, EVENTS) if events is None else events)
        kill(who)
        wait_until(lambda: not is_alive(who), "death of the worker")

    def kill_app(self) -> None:
        """Kills the supervising process."""
        self.supervisor.kill()
        self.supervisor.wait()

    def close(self) -> None:
        """Ends everything that was started here."""
        self.kill_app()
        self.live.close()

    def restart_app(self) -> None:
        """Starts a supervising process again."""
        self.supervisor = app(self.runs_dir)

    def settle(self, *labels: str) -> str:
        """The state within the time in which it must be true."""
        since = time.monotonic()
        label = become(self.paths, *labels)
        assert time.monotonic() - since < TRUTH_SECONDS
        return label

    def finish(self) -> None:
        """Waits for the end; resumes as often as a person would, repairing nothing."""
        while become(self.paths, "finished", *GAVE_UP) != "finished":
            launcher.resume(self.runs_dir, self.paths.root.name)

    def check(self, expected: dict) -> None:
        """Compares with the uninterrupted run, the follower and two databases."""
        assert numbers(self.paths) == expected
        self.follow()
        entries = read_events(self.paths.events)
        assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
        assert self.seen == [entry.seq for entry in entries]
        rebuild(self.runs_dir)
        wait_until(self.is_the_same_made_again)

    def is_the_same_made_again(self) -> bool:
        """Whether both databases agree; the exit code may still be on its way to the status."""
        self.ingester.poll()
        return rows_of_the_file(self.runs_dir) == fingerprint(self.live)


GAVE_UP = ("failed (killed)", "failed (disk)", "failed (unknown)", "lost", "stopped")


def rows_of_the_file(runs_dir: Path) -> dict[str, tuple[int, int]]:
    """What the database file holds of every table, after it took in all that is new."""
    with contextlib.closing(open_store(runs_dir)) as store:
        bring_up_to_date(store)
        return fingerprint(store)


@pytest.fixture(scope="session")
def expected(tmp_path_factory):
    """Numbers of a run that nothing interrupted."""
    paths = create(tmp_path_factory.mktemp("whole"))
    do(paths)
    assert len(read_events(paths.events)) == EVENTS
    return numbers(paths)


def kill_worker_at_any_event(bench: Bench) -> None:
    bench.begin()
    bench.kill_worker()
    bench.settle("failed (killed)", "finished")


def kill_worker_at_any_time(bench: Bench) -> None:
    bench.begin()
    until = time.monotonic() + bench.dice.uniform(0.0, 2.0)
    wait_until(lambda: time.monotonic() > until)
    if read_status(bench.paths).pid:
        kill(bench.worker())
        bench.settle("failed (killed)", "finished")


def kill_app_and_go_on(bench: Bench) -> None:
    bench.begin()
    bench.reach(bench.dice.randrange(1, EVENTS))
    bench.kill_app()
    assert current_state(bench.paths)[1].state in ("running", "finished")
    bench.restart_app()


def kill_app_before_it_starts_anything(bench: Bench) -> None:
    bench.begin()
    until = time.monotonic() + bench.dice.uniform(0.0, 1.0)
    wait_until(lambda: time.monotonic() > until)
    bench.kill_app()
    assert current_state(bench.paths)[1].state not in ("failed", "lost", "stopped")
    bench.restart_app()


def kill_app_and_worker(bench: Bench) -> None:
    bench.begin()
    bench.reach(bench.dice.randrange(1, EVENTS))
    bench.kill_app()
    bench.kill_worker(0)
    bench.settle("failed (killed)", "finished")
    bench.restart_app()


def tear_the_last_event(bench: Bench) -> None:
    bench.begin("method.step_seconds=0.005")
    bench.kill_worker()
    bench.settle("failed (killed)", "finished")
    if read_status(bench.paths).state in FINAL[:1]:
        return
    content = bench.paths.events.read_bytes()
    torn = b'{"seq": 99, "time": 1795358961.5, "kind": "scalars", "round": 1, "st'
    bench.paths.events.write_bytes(content + torn[: bench.dice.randrange(1, len(torn))])


def leave_half_written_files(bench: Bench) -> None:
    bench.begin()
    bench.kill_worker()
    bench.settle("failed (killed)", "finished")
    (bench.paths.shards / "rollouts-000099.parquet").write_bytes(b"PAR1")
    (bench.paths.shards / ".tmp-0-scores.parquet").write_bytes(b"")
    half = bench.paths.checkpoints / ".tmp-0-round-2"
    half.mkdir()
    (half / "model").write_bytes(b"half")


def fill_the_disk(bench: Bench) -> None:
    bench.begin(f"method.full_disk_after={bench.dice.randrange(1, 60)}")
    if become(bench.paths, "failed (disk)", "finished") == "failed (disk)":
        assert "disk is full" in read_status(bench.paths).message
        replace_json(bench.paths.launch, {"created": 0.0, "device": "cpu"})


def reuse_the_pid(bench: Bench) -> None:
    bench.begin()
    bench.kill_worker()
    label = bench.settle("failed (killed)", "finished")
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        if label == "finished":
            return
        status = read_status(bench.paths)
        write_status(bench.paths, replace(status, state="running", pid=stranger.pid))
        bench.settle("failed (killed)")
        recorded = Identity(stranger.pid, status.pid_started, status.boot_id)
        assert not kill(recorded)
        assert is_alive(Identity(stranger.pid, start_time(stranger.pid) or 0.0, this_boot()))
    finally:
        stranger.kill()
        stranger.wait()


def jump_the_clock(bench: Bench) -> None:
    bench.begin()
    bench.kill_worker()
    if bench.settle("failed (killed)", "finished") == "finished":
        return
    status = read_status(bench.paths)
    jump = bench.dice.choice([-86400.0, -60.0, 60.0, 86400.0])
    dead = replace(status, state="running", heartbeat=time.time() + jump, exit_code=None)
    write_status(bench.paths, dead)
    bench.settle("failed (killed)")


def restart_the_machine(bench: Bench) -> None:
    bench.begin()
    bench.reach(bench.dice.randrange(1, EVENTS))
    bench.kill_app()
    bench.kill_worker(0)
    status, state = current_state(bench.paths)
    if state.state != "finished":
        before = replace(status, state="running", boot_id="before/pid:[1]", exit_code=None)
        write_status(bench.paths, before)
        bench.settle("lost")
    bench.restart_app()


def open_two_apps(bench: Bench) -> None:
    second = app(bench.runs_dir)
    try:
        bench.begin()
        bench.reach(bench.dice.randrange(1, EVENTS))
        bench.kill_app()
        bench.settle("running", "finished")
    except BaseException:
        second.kill()
        raise
    bench.supervisor = second


def damage_the_status_of_the_dead(bench: Bench) -> None:
    bench.begin()
    bench.kill_worker()
    bench.settle("failed (killed)", "finished")
    bench.paths.status.write_bytes(bench.dice.randbytes(bench.dice.randrange(0, 50)))
    bench.settle("failed (killed)", "finished")


def damage_the_status_of_the_living(bench: Bench) -> None:
    bench.begin(f"method.gate={bench.runs_dir / 'gate'}")
    who = bench.reach(2)
    bench.paths.status.write_bytes(b'{"state": "runn')
    assert current_state(bench.paths)[1].state == "running"
    wait_until(lambda: bench.paths.status.read_bytes().endswith(b"}\n"), "repair by heartbeat")
    assert bench.worker() == who
    (bench.runs_dir / "gate").touch()


def damage_a_checkpoint(bench: Bench) -> None:
    bench.begin("method.step_seconds=0.005")
    bench.kill_worker(bench.dice.randrange(31, EVENTS - 3))
    if bench.settle("failed (killed)", "finished") == "finished":
        return
    sealed = launcher.resume_point(bench.paths)
    assert sealed is not None
    latest = bench.paths.root / sealed.checkpoint
    victim = bench.dice.choice(["manifest.json", "policy/state.json"])
    bench.dice.choice([damage, Path.unlink])(latest / victim)
    with pytest.raises(DataError, match="sealed before it: 1"):
        launcher.resume(bench.runs_dir, bench.paths.root.name)
    launcher.resume(bench.runs_dir, bench.paths.root.name, from_round=1)


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def kill_in_every_round(bench: Bench) -> None:
    bench.begin("method.step_seconds=0.005")
    for events in (8, 22, 33):
        bench.kill_worker(events)
        if bench.settle("failed (killed)", "finished") == "finished":
            return
        launcher.resume(bench.runs_dir, bench.paths.root.name)
        become(bench.paths, "running", "finished")


def delete_the_database(bench: Bench) -> None:
    bench.begin()
    bench.kill_worker()
    bench.settle("failed (killed)", "finished")
    rows_of_the_file(bench.runs_dir)
    for path in bench.runs_dir.glob("store.duckdb*"):
        path.unlink()
    wait_until(bench.is_the_same_made_again)


def damage_the_database(bench: Bench) -> None:
    bench.begin()
    bench.kill_worker()
    bench.settle("failed (killed)", "finished")
    rows_of_the_file(bench.runs_dir)
    path = bench.runs_dir / "store.duckdb"
    content = bytearray(path.read_bytes())
    start = bench.dice.randrange(len(content))
    content[start : start + 4096] = bench.dice.randbytes(4096)
    path.write_bytes(content)
    rebuild(bench.runs_dir)
    wait_until(bench.is_the_same_made_again)


FAULTS: list[Callable[[Bench], None]] = [
    kill_worker_at_any_event,
    kill_worker_at_any_time,
    kill_app_and_go_on,
    kill_app_before_it_starts_anything,
    kill_app_and_worker,
    tear_the_last_event,
    leave_half_written_files,
    fill_the_disk,
    reuse_the_pid,
    jump_the_clock,
    restart_the_machine,
    open_two_apps,
    damage_the_status_of_the_dead,
    damage_the_status_of_the_living,
    damage_a_checkpoint,
    kill_in_every_round,
    delete_the_database,
    damage_the_database,
]


@pytest.mark.slow
def test_a_frozen_worker_is_called_stalled_until_it_goes_on(tmp_path, expected):
    bench = Bench(tmp_path, random.Random(0))
    try:
        bench.begin("method.step_seconds=0.005")
        who = bench.reach(5)
        os.kill(who.pid, signal.SIGSTOP)
        become(bench.paths, "running, stalled")
        os.kill(who.pid, signal.SIGCONT)
        bench.finish()
        bench.check(expected)
    finally:
        bench.close()


def survive(fault: Callable[[Bench], None], runs_dir: Path, seed: int, expected: dict) -> None:
    """Injects a fault, lets the run come to its end and compares everything."""
    bench = Bench(runs_dir, random.Random(f"{fault.__name__}-{seed}"))
    try:
        fault(bench)
        bench.finish()
        bench.check(expected)
    finally:
        bench.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_survives(fault, tmp_path, expected):
    survive(fault, tmp_path, 0, expected)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, REPEATS))
@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_survives_often(fault, seed, tmp_path, expected):
    survive(fault, tmp_path, seed, expected)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="needs root to mount")
def test_a_run_survives_a_disk_that_is_really_full(tmp_path, expected):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        paths = create(disk)
        free = shutil.disk_usage(disk).free - RESERVE_BYTES
        (disk / "ballast").write_bytes(b"x" * (free - LEFT_BYTES))
        assert do(paths) != 0
        assert current_state(paths)[1].label == "failed (disk)"
        (disk / "ballast").unlink()
        launcher.resume(disk, paths.root.name)
        assert do(paths) == 0
        assert numbers(paths) == expected
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
