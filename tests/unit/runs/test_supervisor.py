import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest

from acft.atomic import replace_json
from acft.errors import ConfigError, RunError
from acft.runs import directory, launcher, stopping, supervisor
from acft.runs.devices import Device, candidates, pin
from acft.runs.directory import read_status, stop_request
from acft.runs.locks import FileLock
from acft.runs.ownership import HAND_OVER, LOCK, RECORD, Ownership, owner
from acft.runs.process import this_process
from acft.runs.spawn import PYTHON, environment
from acft.runs.stopping import _span, outlook, stop_action
from acft.runs.supervisor import Supervisor
from acft.schema import RunPaths, Status
from tests import fake_method
from tests.fake_runs import SPEC, becomes, create, label, supervised, wait_until


def is_deaf(paths: RunPaths) -> bool:
    """Whether the worker has blocked the signal that terminates.

    And only that: all signals are blocked for a moment whenever a thread is started.
    """
    lines = Path(f"/proc/{read_status(paths).pid}/status").read_text().splitlines()
    blocked = next(line.split()[1] for line in lines if line.startswith("SigBlk:"))
    return int(blocked, 16) == 1 << (signal.SIGTERM - 1)


def test_a_queued_run_is_started_and_finishes(tmp_path):
    paths = create(tmp_path)
    with supervised(tmp_path):
        becomes(paths, "finished")
    status = read_status(paths)
    assert (status.device, status.exit_code) == ("cpu", 0)


def test_one_slot_runs_one_at_a_time_and_the_other_says_what_it_waits_for(tmp_path):
    gate = tmp_path / "gate"
    first = create(tmp_path, f"method.gate={gate}")
    second = create(tmp_path)
    first, second = sorted((first, second), key=lambda paths: paths.root.name)
    for paths in (first, second):
        (paths.root / "launch.json").write_text(
            f'{{"created": 0.0, "device": "cpu", "overrides": ["method.gate={gate}"]}}'
        )
    with supervised(tmp_path):
        becomes(first, "running")
        wait_until(lambda: "a run is on cpu" in read_status(second).message)
        assert label(second) == "queued"
        gate.touch()
        becomes(first, "finished")
        becomes(second, "finished")


def test_a_worker_survives_its_supervisor_and_is_adopted_with_proof(tmp_path):
    gate = tmp_path / "gate"
    paths = create(tmp_path, f"method.gate={gate}")
    with supervised(tmp_path):
        becomes(paths, "running")
    assert label(paths) == "running"
    with supervised(tmp_path) as second:
        adoption = second.adoptions[0]
        assert adoption.run_id == paths.root.name
        assert adoption.pid == read_status(paths).pid
        assert adoption.lost == 0
        gate.touch()
        becomes(paths, "finished")


def test_a_worker_has_its_own_session_and_only_allowed_variables(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    gate = tmp_path / "gate"
    paths = create(tmp_path, f"method.gate={gate}")
    with supervised(tmp_path):
        becomes(paths, "running")
        pid = read_status(paths).pid
        assert os.getsid(pid) == pid
        assert b"AWS_SECRET" not in Path(f"/proc/{pid}/environ").read_bytes()
        gate.touch()
        becomes(paths, "finished")


def test_the_environment_is_an_allow_list(monkeypatch):
    monkeypatch.setenv("GITHUB_TOKEN", "secret")
    monkeypatch.setenv("HF_HOME", "/models")
    monkeypatch.setenv("CC", "clang")  # which our own errors advise
    monkeypatch.setenv("TRITON_CACHE_DIR", "/kernels")
    passed = environment()
    assert "GITHUB_TOKEN" not in passed
    assert passed["HF_HOME"] == "/models"
    assert passed["CC"] == "clang"
    assert passed["TRITON_CACHE_DIR"] == "/kernels"


def test_what_is_imported_here_is_imported_by_children_whatever_folder_they_work_in(
    tmp_path, monkeypatch
):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "added_names.py").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "acft.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["mine", "", str(tmp_path / "elsewhere")]))
    own, *named = environment()["PYTHONPATH"].split(os.pathsep)
    assert named == [str(tmp_path / "mine"), str(tmp_path / "elsewhere")]
    assert (Path(own) / "acft" / "runs").is_dir()
    command = [*PYTHON[:-1], "-c", "import acft.runs, added_names"]
    subprocess.run(command, env=environment(), cwd=tmp_path / "elsewhere", check=True)


@pytest.mark.parametrize(
    ("chosen", "turns"),
    [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_threads_wait_for_each_other_without_a_long_spin_unless_asked_to(
    monkeypatch, chosen, turns
):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    code = "import acft, os; print(os.environ.get('GOMP_SPINCOUNT'), 'end')"
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert said.stdout.split() == [turns, "end"]


def test_a_trackers_key_reaches_only_runs_that_are_mirrored_to_it(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert "WANDB_API_KEY" not in environment(["trackio"])
    assert "WANDB_API_KEY" in environment(["wandb"])


@pytest.mark.parametrize(
    ("how", "expected"), [("kill", "failed (killed)"), ("exit", "failed (unknown)")]
)
def test_a_death_without_words_is_recorded_with_its_exit_code(tmp_path, how, expected):
    paths = create(tmp_path, f"method.fail={how}")
    with supervised(tmp_path):
        wait_until(lambda: read_status(paths).exit_code is not None)
    assert label(paths) == expected
    assert read_status(paths).exit_code == {"kill": -signal.SIGKILL, "exit": 7}[how]


def test_a_worker_that_cannot_even_start_is_a_failure(tmp_path):
    paths = create(tmp_path)
    command = (sys.executable, "-c", "import sys; sys.exit(9)")
    broken = Supervisor(tmp_path, command=command, places=[Device("cpu")])
    assert broken.claim()
    broken.tick()
    wait_until(lambda: (broken.tick(), label(paths) == "failed (unknown)")[1])
    broken.close()
    assert "code 9" in read_status(paths).message


def test_a_run_with_a_link_in_its_folder_is_not_started(tmp_path):
    paths = create(tmp_path / "runs")
    paths.log.symlink_to(tmp_path / "elsewhere.txt")
    with supervised(tmp_path / "runs"):
        becomes(paths, "failed (data)")
    assert "stdout.log" in read_status(paths).message
    assert not (tmp_path / "elsewhere.txt").exists()


def test_an_exit_code_waits_until_it_can_be_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "RECORD_SECONDS", 0.0)
    paths = create(tmp_path)
    command = (sys.executable, "-c", "import sys; sys.exit(9)")
    watcher = Supervisor(tmp_path, command=command, places=[Device("cpu")])
    assert watcher.claim()
    watcher.tick()
    watcher._children[paths.root.name].wait()
    with FileLock(paths.lock):
        watcher.tick()
    assert read_status(paths).exit_code is None
    watcher.tick()
    watcher.close()
    assert label(paths) == "failed (unknown)"
    assert read_status(paths).exit_code == 9


def test_a_worker_whose_start_cannot_be_recorded_is_not_started_twice(
    tmp_path, monkeypatch, caplog
):
    paths = create(tmp_path)
    started, failures = [], iter([OSError("disk full"), None])
    spawn, write_status = supervisor.spawn, directory.write_status

    def count(*args):
        started.append(args)
        return spawn(*args)

    def fail_once(*args):
        if error := next(failures, None):
            raise error
        write_status(*args)

    monkeypatch.setattr(supervisor, "spawn", count)
    monkeypatch.setattr(directory, "write_status", fail_once)
    watcher = Supervisor(tmp_path, command=fake_method.WORKER, places=[Device("cpu")])
    assert watcher.claim()
    watcher.tick()
    assert "disk full" in caplog.text
    wait_until(lambda: (watcher.tick(), label(paths) == "finished")[1])
    watcher.close()
    assert len(started) == 1


def test_adopted_runs_count_as_neighbours_on_the_cores(tmp_path, monkeypatch):
    gate = tmp_path / "gate"
    first = create(tmp_path, f"method.gate={gate}")
    with supervised(tmp_path, slots=2):
        becomes(first, "running")
    neighbours = []
    monkeypatch.setattr(
        supervisor, "pin", lambda _pid, _slots, known: neighbours.append(set(known))
    )
    second = create(tmp_path)
    with supervised(tmp_path, slots=2):
        becomes(second, "finished")
        assert neighbours == [{read_status(first).pid}]
        gate.touch()
        becomes(first, "finished")


def test_stop_and_save_ends_in_order(tmp_path):
    paths = create(tmp_path, f"method.gate={tmp_path / 'never'}")
    with supervised(tmp_path):
        becomes(paths, "running")
        assert launcher.stop(tmp_path, paths.root.name).state == "stopping"
        becomes(paths, "stopped")
    assert read_status(paths).exit_code == 0


def test_a_worker_deaf_to_stop_and_termination_is_killed_and_called_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(stopping, "NOW_SECONDS", 0.0)
    monkeypatch.setattr(stopping, "TERMINATE_SECONDS", 0.6)
    paths = create(tmp_path, "method.fail=deaf")
    with supervised(tmp_path):
        becomes(paths, "running")
        wait_until(lambda: is_deaf(paths))
        launcher.stop(tmp_path, paths.root.name, "now")
        becomes(paths, "stopped")
        wait_until(lambda: read_status(paths).exit_code == -signal.SIGKILL)
    assert "checkpoints/round-1 is sealed" in read_status(paths).message


def test_a_resumed_run_has_the_full_time_to_stop_again(tmp_path, monkeypatch):
    later, killed = [0.0], []
    clock = types.SimpleNamespace(time=time.time, monotonic=lambda: time.monotonic() + later[0])
    monkeypatch.setattr(supervisor, "time", clock)
    monkeypatch.setattr(supervisor, "kill", killed.append)
    paths = create(tmp_path, "method.fail=deaf")
    watcher = Supervisor(tmp_path, command=fake_method.WORKER, places=[Device("cpu")])
    assert watcher.claim()
    for _ in range(2):
        watcher.tick()
        becomes(paths, "running")
        launcher.stop(tmp_path, paths.root.name)
        watcher.tick()
        os.kill(read_status(paths).pid, signal.SIGKILL)
        wait_until(lambda: (watcher.tick(), label(paths) == "stopped")[1])
        launcher.resume(tmp_path, paths.root.name)
        later[0] += 1000.0
    watcher.close()
    assert not killed


@pytest.mark.parametrize(
    ("mode", "waited", "action", "left"),
    [
        ("save", 0.0, "wait", 300.0), ("save", 299.0, "wait", 1.0), ("save", 320.0, "kill", 0.0),
        ("save", 300.0, "terminate", 20.0), ("now", 20.0, "terminate", 20.0),
        ("now", 0.0, "wait", 20.0), ("now", 40.0, "kill", 0.0),
    ],
)  # fmt: skip
def test_stopping_has_stages_with_known_limits(mode, waited, action, left):
    assert stop_action(mode, waited) == (action, left)
    told = {"wait": "is terminated in", "terminate": "killed in", "kill": "terminated and killed"}
    said = outlook(mode, waited)
    assert f"asked {_span(waited)} ago" in said
    assert told[action] in said
    assert action == "kill" or f" {_span(left)}" in said


def test_who_was_asked_to_stop_while_nobody_supervised_is_terminated_before_it_is_killed(
    tmp_path, monkeypatch
):
    done = []
    monkeypatch.setattr(supervisor, "terminate", lambda _: done.append("terminate"))
    monkeypatch.setattr(supervisor, "kill", lambda _: done.append("kill"))
    gate = tmp_path / "gate"
    paths = create(tmp_path, "method.fail=deaf", f"method.gate={gate}")
    with supervised(tmp_path):
        becomes(paths, "running")
    launcher.stop(tmp_path, paths.root.name)
    long_ago = time.time() - 3600
    os.utime(paths.stop_request, (long_ago, long_ago))
    later = Supervisor(tmp_path, command=fake_method.WORKER, places=[Device("cpu")])
    assert later.claim()
    later.tick()
    later.tick()
    later.close()
    os.kill(read_status(paths).pid, signal.SIGKILL)
    assert done == ["terminate"]


@pytest.mark.parametrize(
    ("mode", "age", "waited"),
    [("save", 0.0, 0.0), ("save", 12.0, 12.0), ("save", 4000.0, 300.0), ("now", -3600.0, 0.0)],
)
def test_the_time_before_a_request_was_seen_counts_up_to_termination(
    monkeypatch, mode, age, waited
):
    monkeypatch.setattr(stopping, "time", types.SimpleNamespace(time=lambda: 5000.0))
    assert stopping.waited_before(mode, 5000.0 - age) == waited


def test_a_queued_run_stops_at_once_and_is_never_started(tmp_path):
    paths = create(tmp_path)
    assert launcher.stop(tmp_path, paths.root.name).state == "stopped"
    with supervised(tmp_path) as running:
        running.tick()
    assert label(paths) == "stopped"
    assert stop_request(paths) == ("", 0.0)


def test_what_is_over_cannot_be_stopped(tmp_path):
    paths = create(tmp_path)
    launcher.stop(tmp_path, paths.root.name)
    with pytest.raises(RunError, match="is stopped; there is nothing to stop"):
        launcher.stop(tmp_path, paths.root.name)
    with pytest.raises(RunError, match="allowed: save, now"):
        launcher.stop(tmp_path, paths.root.name, "quickly")


def test_a_running_run_is_not_resumed(tmp_path):
    paths = create(tmp_path, f"method.gate={tmp_path / 'never'}")
    with supervised(tmp_path):
        becomes(paths, "running")
        with pytest.raises(RunError, match="is running; only stopped"):
            launcher.resume(tmp_path, paths.root.name)
        launcher.stop(tmp_path, paths.root.name)
        becomes(paths, "stopped")


def test_a_run_whose_process_does_not_let_go_is_not_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr(launcher, "LOCK_SECONDS", 0.0)
    paths = create(tmp_path)
    launcher.stop(tmp_path, paths.root.name)
    with FileLock(paths.lock), pytest.raises(RunError, match="still has a process"):
        launcher.resume(tmp_path, paths.root.name)


def test_a_finished_run_is_not_resumed(tmp_path):
    paths = create(tmp_path)
    with supervised(tmp_path):
        becomes(paths, "finished")
    with pytest.raises(RunError, match=r"is finished; only stopped, failed, lost.*acft launch "):
        launcher.resume(tmp_path, paths.root.name)


def test_a_round_that_was_never_sealed_cannot_be_resumed_from(tmp_path):
    paths = create(tmp_path, "method.fail=kill")
    with supervised(tmp_path):
        becomes(paths, "failed (killed)")
    with pytest.raises(RunError, match=r"no sealed round 2 \(sealed: 1\)"):
        launcher.resume(tmp_path, paths.root.name, from_round=2)


def test_the_same_request_launches_once(tmp_path):
    fake_method.register()
    ids = {launcher.launch(tmp_path, SPEC, request_id="click-1") for _ in range(3)}
    assert len(ids) == 1
    assert launcher.launch(tmp_path, SPEC, request_id="click-2") not in ids
    assert len(launcher.runs(tmp_path)) == 2


def test_a_folder_that_takes_no_run_is_told_in_a_sentence(tmp_path):
    fake_method.register()
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="choose another folder with --runs"):
        launcher.launch(tmp_path / "file" / "runs", SPEC)


def test_a_death_noticed_late_does_not_undo_a_resume(tmp_path):
    paths = create(tmp_path, "method.fail=kill")
    watcher = Supervisor(tmp_path, command=fake_method.WORKER, places=[Device("cpu")])
    assert watcher.claim()
    watcher.tick()
    becomes(paths, "failed (killed)")
    assert launcher.resume(tmp_path, paths.root.name) == 1
    watcher._reap()
    assert label(paths) == "queued"
    watcher.close()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen here")
def test_runs_side_by_side_get_their_own_cores():
    ours = os.sched_getaffinity(0)
    if len(ours) < 2:
        pytest.skip("one core cannot be divided")
    sleepers = [
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in "ab"
    ]
    try:
        for number, process in enumerate(sleepers):
            pin(process.pid, 2, [known.pid for known in sleepers[:number]])
        first, second = (os.sched_getaffinity(process.pid) for process in sleepers)
        assert first | second == ours
        assert not first & second
    finally:
        for process in sleepers:
            process.communicate(b"\n")


def test_requests_without_id_are_all_different(tmp_path):
    fake_method.register()
    assert launcher.launch(tmp_path, SPEC) != launcher.launch(tmp_path, SPEC)


def test_wrong_settings_create_no_directory(tmp_path):
    fake_method.register()
    with pytest.raises(ConfigError, match="did you mean 'rounds'"):
        launcher.launch(tmp_path / "runs", SPEC, ["schedule.rouns=2"])
    assert not (tmp_path / "runs").exists()


def test_the_second_workbench_learns_who_owns_the_runs(tmp_path):
    with supervised(tmp_path):
        code = (
            "import sys; from pathlib import Path; from acft.runs.supervisor import Supervisor;"
            "from acft.runs.ownership import owner; runs = Path(sys.argv[1]);"
            "print(Supervisor(runs).start(), owner(runs).label)"
        )
        command = [sys.executable, "-c", code, str(tmp_path)]
        second = subprocess.run(
            command, capture_output=True, text=True, check=True, env=environment()
        )
    assert second.stdout.startswith("False")
    assert f"the workbench with pid {os.getpid()}" in second.stdout
    assert owner(tmp_path) is None


def test_a_second_workbench_takes_over_when_the_first_has_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "CLAIM_SECONDS", 0.01)
    second = Supervisor(tmp_path, command=fake_method.WORKER, places=[Device("cpu")])
    with supervised(tmp_path):
        assert not second.start()
        assert not second.is_owner
    wait_until(lambda: second.is_owner)
    paths = create(tmp_path)
    becomes(paths, "finished")
    second.close()
    assert not second.is_owner
    assert owner(tmp_path) is None


def test_a_workbench_that_waits_for_another_closes_at_once(tmp_path):
    second = Supervisor(tmp_path, command=fake_method.WORKER, places=[Device("cpu")])
    with supervised(tmp_path) as first:
        assert not second.start()
        second.close()
        assert first.is_owner


def test_a_detached_supervisor_gives_way_to_a_workbench(tmp_path):
    paths = create(tmp_path, f"method.gate={tmp_path / 'gate'}")
    detached = Supervisor(
        tmp_path, role="detached", command=fake_method.WORKER, places=[Device("cpu")]
    )
    thread = threading.Thread(target=detached.run_until_idle)
    thread.start()
    becomes(paths, "running")
    with supervised(tmp_path) as app:
        thread.join(timeout=30)
        assert not thread.is_alive()
        assert (found := owner(tmp_path)) is not None
        assert found.role == "app"
        assert [a.run_id for a in app.adoptions] == [paths.root.name]
        (tmp_path / "gate").touch()
        becomes(paths, "finished")


def test_a_workbench_killed_while_it_asked_for_the_runs_is_waited_for_by_nobody(tmp_path):
    paths = create(tmp_path)
    dead = dataclasses.replace(this_process(), started=-1.0)
    replace_json(tmp_path / HAND_OVER, dataclasses.asdict(dead))
    detached = Supervisor(
        tmp_path, role="detached", command=fake_method.WORKER, places=[Device("cpu")]
    )
    detached.run_until_idle()
    assert label(paths) == "finished"


def test_a_dead_owner_owns_nothing(tmp_path):
    ownership = Ownership(tmp_path, "app")
    assert ownership.claim()
    ownership.release()
    assert (tmp_path / "supervisor.json").exists()
    assert owner(tmp_path) is None


def test_two_who_look_at_once_do_not_take_each_other_for_an_owner_who_died(tmp_path):
    ownership = Ownership(tmp_path, "app")
    assert ownership.claim()
    ownership.release()
    record = json.loads((tmp_path / RECORD).read_text())
    (tmp_path / RECORD).write_text(json.dumps({**record, "pid_started": -1.0}))
    other = FileLock(tmp_path / LOCK)
    with other:
        threading.Timer(0.1, other.release).start()
        assert owner(tmp_path) is None


@pytest.mark.parametrize(
    ("wanted", "names", "expected"),
    [
        ("auto", ["cuda:0", "cuda:1", "cpu"], ["cuda:0", "cuda:1"]),
        ("auto", ["cpu"], ["cpu"]),
        ("cpu", ["cuda:0", "cpu"], ["cpu"]),
        ("cuda", ["cpu"], ["cpu"]),
        ("auto", ["mps", "cpu"], ["cpu"]),
        ("mps", ["mps", "cpu"], ["mps"]),
    ],
)
def test_runs_wait_for_the_device_they_ask_for(wanted, names, expected):
    present = [Device(name) for name in names]
    assert [device.name for device in candidates(wanted, present)] == expected


def test_models_are_released_before_a_run_starts(tmp_path):
    released = []
    paths = create(tmp_path)
    watcher = Supervisor(
        tmp_path, command=fake_method.WORKER, places=[Device("cpu")],
        make_room=lambda *told: released.append(told),
    )  # fmt: skip
    assert watcher.claim()
    watcher.tick()
    assert released == [("cpu", paths.root.name)]
    wait_until(lambda: (watcher.tick(), not watcher._children)[1])
    watcher.close()


def test_models_of_our_own_do_not_keep_a_run_waiting_for_the_device_they_fill(
    tmp_path, monkeypatch
):
    used = {"cpu": "30 of 40 GiB of it are in use by other processes"}
    monkeypatch.setattr(supervisor, "gpu_obstacle", lambda name: used.get(name, ""))
    paths = create(tmp_path)
    watcher = Supervisor(
        tmp_path, command=fake_method.WORKER, places=[Device("cpu")],
        make_room=lambda name, _: used.pop(name, None),
    )  # fmt: skip
    assert watcher.claim()
    watcher.tick()
    assert read_status(paths).state != "queued"
    wait_until(lambda: (watcher.tick(), not watcher._children)[1])
    watcher.close()


def test_models_give_way_once_to_a_run_that_must_wait_for_others(tmp_path, monkeypatch):
    used, released = {"cpu": "30 of 40 GiB of it are in use by other processes"}, []
    monkeypatch.setattr(supervisor, "gpu_obstacle", lambda name: used.get(name, ""))
    paths = create(tmp_path)
    watcher = Supervisor(
        tmp_path, command=fake_method.WORKER, places=[Device("cpu")],
        make_room=lambda name, _: released.append(name),
    )  # fmt: skip
    assert watcher.claim()
    for _ in range(3):
        watcher.tick()
    assert released == ["cpu"]
    assert read_status(paths).message == f"waiting: {used['cpu']}"
    used.clear()
    watcher.tick()
    assert released == ["cpu", "cpu"]
    assert read_status(paths).state != "queued"
    wait_until(lambda: (watcher.tick(), not watcher._children)[1])
    watcher.close()


def test_supervision_goes_on_after_any_error_and_says_it_once(tmp_path, caplog):
    troubles = iter([RuntimeError("no answer"), RuntimeError("no answer")])

    def release(*_):
        if error := next(troubles, None):
            raise error

    paths = create(tmp_path)
    watcher = Supervisor(
        tmp_path, command=fake_method.WORKER, places=[Device("cpu")], make_room=release
    )
    assert watcher.start()
    becomes(paths, "finished")
    watcher.close()
    assert caplog.text.count("was interrupted and goes on") == 1


def test_a_lost_run_is_looked_at_again_only_when_it_gives_a_sign_of_life(tmp_path, monkeypatch):
    paths = create(tmp_path)
    silent = Status(state="running", pid=1, boot_id="another", heartbeat=1.0)
    directory.write_status(paths, silent)
    assert label(paths) == "lost"
    looked_at, look = [], supervisor.current_state
    monkeypatch.setattr(supervisor, "current_state", lambda p: looked_at.append(p) or look(p))
    watch = Supervisor(tmp_path, command=fake_method.WORKER, places=[])
    watch.tick()
    assert read_status(paths).state == "lost"
    watch.tick()
    watch.tick()
    assert len(looked_at) == 2
    directory.write_status(paths, dataclasses.replace(silent, heartbeat=time.time()))
    watch.tick()
    watch.tick()
    assert len(looked_at) == 4


def test_the_death_of_an_adopted_run_is_written_down(tmp_path):
    gate = tmp_path / "gate"
    paths = create(tmp_path, f"method.gate={gate}")
    with supervised(tmp_path) as first:
        becomes(paths, "running")
        worker = first._children[paths.root.name]
    with supervised(tmp_path):
        worker.kill()
        worker.wait()
        wait_until(lambda: read_status(paths).state == "failed")
    status = read_status(paths)
    assert (status.failure, status.exit_code) == ("killed", None)
    assert status.ended == status.heartbeat


def test_trouble_with_one_run_does_not_keep_another_from_its_start(tmp_path, monkeypatch, caplog):
    foreign, mine = sorted((create(tmp_path), create(tmp_path)), key=lambda run: run.root.name)
    amend = supervisor.amend_status

    def refused(paths, *arguments, **options):
        if paths.root == foreign.root:
            raise PermissionError(13, "Permission denied", str(paths.lock))
        return amend(paths, *arguments, **options)

    monkeypatch.setattr(supervisor, "amend_status", refused)
    with supervised(tmp_path):
        becomes(mine, "finished")
    assert label(foreign) == "queued"
    assert caplog.text.count(f"supervision of run {foreign.root.name} was interrupted") == 1


def test_time_stamps_of_a_run_are_in_order(tmp_path):
    paths = create(tmp_path)
    with supervised(tmp_path):
        becomes(paths, "finished")
    status = read_status(paths)
    assert status.created <= status.started <= status.ended <= time.time()
