import dataclasses
import errno
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from acft.__main__ import main
from acft.atomic import replace_json
from acft.runs import launcher
from acft.runs.directory import all_runs, read_launch, read_status, write_status
from acft.runs.labels import label
from acft.runs.process import this_process
from acft.runs.space import space
from acft.runs.worker import run_worker
from acft.schema import Status
from acft.ui.options import GIBIBYTE
from tests import fake_method
from tests.fake_runs import SPEC, create, do

HEAVY = ("torch", "transformers", "gradio", "duckdb", "pyarrow", "pydantic")


@pytest.fixture(autouse=True)
def _no_supervisor(monkeypatch):
    """Commands find the fake method, and nobody starts what they queue."""
    fake_method.register()
    monkeypatch.setattr("acft.runs.detached.ensure_supervisor", lambda _: "nobody")


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "fake.toml"
    path.write_text(SPEC)
    return path


def acft(*words):
    return main([str(word) for word in words])


def only_run(runs_dir):
    (paths,) = all_runs(runs_dir)
    return paths


def test_help_lists_every_command_without_importing_it():
    code = (
        "import sys; from acft.__main__ import main\n"
        "try: main(['--help'])\n"
        f"finally: print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.strip().endswith("[]")
    for command in ("train", "launch", "runs", "stop", "resume"):
        assert re.search(rf"^ +{command} ", done.stdout, re.MULTILINE)


def test_help_is_fast():
    seconds = []
    for command in ([], ["train"], ["launch"], ["runs"]):
        since = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "acft", *command, "--help"], check=True, capture_output=True
        )
        seconds.append(time.perf_counter() - since)
    assert min(seconds) < 0.5


def test_train_ends_with_zero_and_a_finished_run(tmp_path, config, capsys):
    assert acft("train", config, "--runs", tmp_path / "runs", "--set", "seed=2") == 0
    paths = only_run(tmp_path / "runs")
    assert read_status(paths).state == "finished"
    assert read_launch(paths).overrides == ("seed=2",)
    assert "finished" in capsys.readouterr().err


@pytest.mark.parametrize(("failure", "code"), [("bug", 1), ("data", 2), ("oom", 1)])
def test_train_tells_a_failure_and_what_to_do(tmp_path, config, capsys, failure, code):
    change = f"method.fail={failure}"
    assert acft("train", config, "--runs", tmp_path / "runs", "--set", change) == code
    err = capsys.readouterr().err
    assert "error: " in err
    assert "advice: " in err


def test_train_with_wrong_settings_leaves_nothing(tmp_path, config, capsys):
    change = "schedule.rounds=-1"
    assert acft("train", config, "--runs", tmp_path / "runs", "--set", change) == 2
    assert capsys.readouterr().err.startswith("error: [schedule] rounds = -1")
    assert not (tmp_path / "runs").exists()


def test_a_missing_file_is_one_sentence_and_code_two(tmp_path, capsys):
    assert acft("train", tmp_path / "no.toml", "--runs", tmp_path) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_interrupted_training_ends_with_code_130_and_can_go_on(tmp_path, config, monkeypatch):
    def interrupted(paths, listen):
        def stop(entry):
            listen(entry)
            paths.stop_request.write_text("save")

        return run_worker(paths, stop)

    monkeypatch.setattr("acft.runs.worker.run_worker", interrupted)
    assert acft("train", config, "--runs", tmp_path / "runs") == 130
    paths = only_run(tmp_path / "runs")
    assert launcher.resume(tmp_path / "runs", paths.root.name) == 0


def test_launch_prints_the_id_of_a_queued_run(tmp_path, config, capsys):
    assert acft("launch", config, "--runs", tmp_path / "runs", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer == {"run_ids": [only_run(tmp_path / "runs").root.name], "supervisor": "nobody"}


def test_launching_twice_with_one_request_id_makes_one_run(tmp_path, config):
    for _ in range(2):
        assert acft("launch", config, "--runs", tmp_path / "runs", "--request-id", "x") == 0
    only_run(tmp_path / "runs")


def test_a_request_id_of_other_settings_is_refused(tmp_path, config, capsys):
    asked = ("launch", config, "--runs", tmp_path / "runs", "--request-id", "x")
    assert acft(*asked) == 0
    assert acft(*asked, "--set", "seed=7") == 2
    run_id = only_run(tmp_path / "runs").root.name
    assert f"request 'x' has started {run_id} already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"), [(b" \n", "is empty; see experiments/"), (b"a\xff", "(byte 0xff)")]
)
def test_a_settings_file_without_settings_starts_nothing(tmp_path, capsys, content, said):
    file = tmp_path / "broken.toml"
    file.write_bytes(content)
    assert acft("launch", file, "--runs", tmp_path / "runs") == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_tag_of_no_letters_is_refused(tmp_path, capsys):
    paths = create(tmp_path)
    assert acft("label", paths.root.name, "--tag", " ", "--runs", tmp_path) == 2
    assert "is empty; give a word" in capsys.readouterr().err


def test_launch_of_a_run_id_clones_it(tmp_path, capsys):
    parent = create(tmp_path, "seed=4")
    assert acft("launch", parent.root.name, "--runs", tmp_path, "--set", "schedule.rounds=1") == 0
    child = next(p for p in all_runs(tmp_path) if p != parent)
    assert read_launch(child).overrides == ("seed=4", "schedule.rounds=1")


def test_a_grid_is_shown_first_and_queued_on_confirmation(tmp_path, config, capsys):
    words = ("launch", config, "--runs", tmp_path / "runs", "--grid", "seed=0|1|2")
    assert acft(*words) == 0
    assert "3 runs would be queued" in capsys.readouterr().out
    assert all_runs(tmp_path / "runs") == []
    assert acft(*words, "--yes") == 0
    assert len(all_runs(tmp_path / "runs")) == 3


def grid(runs_dir, source, *words):
    return acft("launch", source, "--runs", runs_dir, "--grid", "seed=0|1", *words)


def test_a_grid_of_a_run_id_has_the_settings_of_that_run(tmp_path):
    parent = create(tmp_path, "schedule.rounds=2")
    words = (parent.root.name, "--set", "sampling.horizon=5", "--yes")
    assert grid(tmp_path, *words) == 0
    children = [read_launch(paths) for paths in all_runs(tmp_path) if paths != parent]
    assert [child.cloned_from for child in children] == [parent.root.name] * 2
    changes = ("schedule.rounds=2", "sampling.horizon=5")
    assert {child.overrides for child in children} == {
        (*changes, "seed=0"), (*changes, "seed=1"),
    }  # fmt: skip


def test_a_grid_in_json_is_its_plan_with_the_runs_that_are_there(tmp_path, config, capsys):
    there = create(tmp_path / "runs", "seed=1")
    assert grid(tmp_path / "runs", config, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "plan": [
            {"overrides": ["seed=0"], "run_id": ""},
            {"overrides": ["seed=1"], "run_id": there.root.name},
        ],
        "run_ids": [],
        "supervisor": "",
    }
    assert all_runs(tmp_path / "runs") == [there]


def test_a_grid_asked_for_twice_with_one_request_id_is_queued_once(tmp_path, config):
    for _ in range(2):
        assert grid(tmp_path / "runs", config, "--yes", "--request-id", "x") == 0
        for paths in all_runs(tmp_path / "runs"):
            write_status(paths, Status(state="failed"))
    assert len(all_runs(tmp_path / "runs")) == 2


@pytest.mark.parametrize("words", [(), ("--grid", "seed=0|1", "--yes")])
@pytest.mark.parametrize("source", ["file", "run"])
def test_quota_and_mirror_hold_for_whatever_is_launched(
    tmp_path, config, capsys, monkeypatch, source, words
):
    monkeypatch.setattr("acft.runs.launcher.require_clients", lambda _: None)
    runs = tmp_path / "runs"
    done = create(runs, "title='done'")
    do(done)
    subject = config if source == "file" else done.root.name
    command = ("launch", subject, "--runs", runs, "--set", "sampling.horizon=5", *words)
    assert acft(*command, "--quota", "1e-9") == 2
    assert f"delete (acft delete): {done.root.name}" in capsys.readouterr().err
    assert all_runs(runs) == [done]
    assert acft(*command, "--mirror", "trackio") == 0
    assert {read_launch(paths).mirror for paths in all_runs(runs) if paths != done} == {
        ("trackio",)
    }


@pytest.mark.parametrize(("share", "code"), [(2.5, 2), (3.5, 0)])
def test_the_need_of_a_grid_is_that_of_all_its_runs(tmp_path, config, share, code):
    done = create(tmp_path / "runs", "seed=7")
    do(done)
    quota = share * space(done).total / GIBIBYTE
    assert grid(tmp_path / "runs", config, "--yes", "--quota", quota) == code


def test_runs_lists_states_as_text_and_json(tmp_path, capsys):
    paths = create(tmp_path)
    do(paths)
    create(tmp_path)
    assert acft("runs", "--runs", tmp_path, "--space") == 0
    text = capsys.readouterr().out
    assert "finished" in text
    assert "queued" in text
    assert re.search(r"\d KiB \(\d.* in checkpoints\)", text)
    assert acft("runs", "--runs", tmp_path, "--json") == 0
    records = json.loads(capsys.readouterr().out)
    assert {record["state"] for record in records} == {"finished", "queued"}


def test_a_live_run_shows_its_pace(tmp_path, capsys):
    me = this_process()
    running = Status(
        state="running", pid=me.pid, pid_started=me.started, boot_id=me.boot_id, phase="sample",
        heartbeat_clock=time.monotonic(),
    )  # fmt: skip
    measured = dataclasses.replace(
        running, phase_done=3, phase_total=9, phase_unit="batches", phase_rate=2.0,
        phase_seconds_left=90.0,
    )  # fmt: skip
    for status, shown in (
        (running, "sample"),
        (measured, "sample 3/9 batches at 2/s, 1.5 min left"),
        (dataclasses.replace(measured, seconds_left=600.0), "at 2/s, 10.0 min left"),
    ):
        write_status(create(tmp_path), status)
        acft("runs", "--runs", tmp_path)
        assert shown in capsys.readouterr().out


def test_archived_runs_are_listed_only_on_request(tmp_path, capsys):
    paths = create(tmp_path, "seed=8")
    label(tmp_path, paths.root.name, archived=True)
    acft("runs", "--runs", tmp_path)
    assert "no runs" in capsys.readouterr().out
    acft("runs", "--runs", tmp_path, "--all")
    assert "seed=8" in capsys.readouterr().out


def test_no_runs_is_said_with_the_way_on(tmp_path, capsys):
    assert acft("runs", "--runs", tmp_path) == 0
    assert "acft launch" in capsys.readouterr().out


def test_stop_and_resume_of_a_queued_run(tmp_path, capsys):
    paths = create(tmp_path)
    assert acft("stop", paths.root.name, "--runs", tmp_path) == 0
    assert "is stopped" in capsys.readouterr().out
    assert acft("resume", paths.root.name, "--runs", tmp_path) == 0
    assert "from the beginning" in capsys.readouterr().out
    assert read_status(paths).state == "queued"


def test_resume_says_that_a_run_of_several_processes_goes_on_in_one(tmp_path, capsys):
    paths = create(tmp_path)
    for processes in (1, 8):
        replace_json(paths.resolved, {"facts": {"processes": processes}})
        assert acft("stop", paths.root.name, "--runs", tmp_path) == 0
        assert acft("resume", paths.root.name, "--runs", tmp_path) == 0
        said = capsys.readouterr().out
        command = f"-m acft resume {paths.root.name} --runs {tmp_path} --here"
        assert (f"--nproc-per-node 8 {command}" in said) == (processes == 8)


def test_resume_here_does_the_rest_in_this_process(tmp_path, capsys):
    paths = create(tmp_path)
    assert acft("stop", paths.root.name, "--runs", tmp_path) == 0
    assert acft("resume", paths.root.name, "--here", "--runs", tmp_path) == 0
    status = read_status(paths)
    assert (status.state, status.round) == ("finished", status.rounds)
    assert status.pid == os.getpid()
    assert acft("resume", paths.root.name, "--here", "--runs", tmp_path) == 2
    assert "is finished; only" in capsys.readouterr().err


@pytest.mark.parametrize("here", [[], ["--here"]])
def test_resume_says_that_the_folder_is_gone_in_which_the_settings_look_for_files(
    tmp_path, capsys, here
):
    paths = create(tmp_path)
    assert acft("stop", paths.root.name, "--runs", tmp_path) == 0
    gone = dataclasses.replace(read_launch(paths), working_directory=str(tmp_path / "gone"))
    replace_json(paths.launch, dataclasses.asdict(gone))
    assert acft("resume", paths.root.name, *here, "--runs", tmp_path) == 2
    assert "which is no longer there" in capsys.readouterr().err
    assert read_status(paths).state == "stopped"


def test_delete_asks_for_the_id_and_says_what_it_frees(tmp_path, capsys, monkeypatch):
    paths = create(tmp_path)
    do(paths)
    name = paths.root.name
    assert acft("delete", name, "--checkpoints", "--runs", tmp_path) == 0
    monkeypatch.setattr("builtins.input", lambda _: "no")
    assert acft("delete", name, "--runs", tmp_path) == 2
    monkeypatch.setattr("builtins.input", lambda _: name)
    assert acft("delete", name, "--runs", tmp_path) == 0
    assert re.search(r"^\d\S* KiB freed$", capsys.readouterr().out, re.MULTILINE)
    assert all_runs(tmp_path) == []


def test_table_prints_markdown_and_json(tmp_path, config, capsys):
    for seed in (0, 1):
        acft("train", config, "--runs", tmp_path / "runs", "--set", f"seed={seed}")
    capsys.readouterr()
    assert acft("table", "fake", "--runs", tmp_path / "runs") == 0
    assert "over 2 runs only" in capsys.readouterr().out
    assert acft("table", "fake", "--runs", tmp_path / "runs", "--json") == 0
    assert json.loads(capsys.readouterr().out)["columns"] == ["rtp/fake toxic_share"]
    assert acft("table", "nothing", "--runs", tmp_path / "runs") == 2


def test_an_unknown_run_is_an_error(tmp_path, capsys):
    for command in ("stop", "resume", "delete"):
        assert acft(command, "20200101-000000-aaaa", "--runs", tmp_path) == 2
    assert capsys.readouterr().err.count("error: no run") == 3


def test_an_unknown_command_is_wrong_use():
    with pytest.raises(SystemExit) as error:
        acft("trian")
    assert error.value.code == 2


def test_an_unknown_option_is_told_with_the_usage_of_its_command_and_the_nearest_one(capsys):
    with pytest.raises(SystemExit) as error:
        acft("stop", "20200101-000000-aaaa", "--nww")
    assert error.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("usage: acft stop")
    assert said.endswith("unrecognized arguments: --nww; did you mean '--now'?\n")


@pytest.mark.parametrize("words", [["--oracle", "out"], ["out", "--oracle"], ["--oracle"]])
def test_a_word_that_may_be_left_out_may_also_stand_behind_an_option(tmp_path, monkeypatch, words):
    asked = []
    monkeypatch.setattr("acft.commands.export.run", asked.append)
    assert acft("export", "20200101-000000-aaaa", *words, "--runs", tmp_path) == 0
    (args,) = asked
    assert (args.run_id, args.oracle) == ("20200101-000000-aaaa", True)
    assert args.destination == (Path("out") if "out" in words else None)
    with pytest.raises(SystemExit):
        acft("export", "20200101-000000-aaaa", "out", "--oracle", "another")


def test_a_place_that_cannot_be_used_is_told_in_one_sentence(tmp_path, capsys):
    paths = create(tmp_path / "runs")
    do(paths)
    taken = tmp_path / "taken"
    taken.write_text("mine")
    capsys.readouterr()
    record = ("demo", "record", "--run", paths.root.name, "--runs", tmp_path / "runs")
    assert acft(*record, "--into", taken) == 2
    said = capsys.readouterr().err
    assert re.search(r"error: \[Errno \d+\] .*taken.*; change that, or name another place", said)
    assert taken.read_text() == "mine"


@pytest.mark.parametrize(
    ("number", "way_out"), [(errno.ENOSPC, "free space"), (errno.EROFS, "change that")]
)
def test_a_disk_that_takes_nothing_is_told_in_one_sentence(
    tmp_path, monkeypatch, capsys, number, way_out
):
    paths = create(tmp_path)

    def refuse(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    assert acft("label", paths.root.name, "--tag", "x", "--runs", tmp_path) == 2
    said = capsys.readouterr().err
    assert (
        said == f"error: [Errno {number}] {os.strerror(number)}; {way_out}, or name another place\n"
    )


def test_of_several_processes_that_record_a_run_one_makes_and_packs_it(
    tmp_path, monkeypatch, capsys
):
    command = ("demo", "record", "--runs", tmp_path / "runs", "--into", tmp_path / "recorded")
    monkeypatch.setattr("acft.commands._display.do_here", lambda *_: 0)  # as of the others
    assert acft(*command) == 0
    assert all_runs(tmp_path / "runs") == []
    assert "recorded" not in capsys.readouterr().out

    def first(begin, spec):
        paths = begin()
        write_status(paths, Status(state="finished"))
        return 0

    monkeypatch.setattr("acft.commands._display.do_here", first)
    assert acft(*command) == 0
    assert len(all_runs(tmp_path / "recorded")) == len(all_runs(tmp_path / "runs")) == 1
    assert "recorded in" in capsys.readouterr().out


def test_no_command_prints_help(capsys):
    assert acft() == 2
    assert "COMMAND" in capsys.readouterr().out


def test_ctrl_c_ends_with_130(monkeypatch, capsys):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("acft.commands.runs.run", interrupt)
    assert acft("runs") == 130
