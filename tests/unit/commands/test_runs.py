"""One run in full, the list narrowed down, labels, differences, and questions before deletion."""

import dataclasses
import json
import re
import time
from pathlib import Path

import pytest

from acft.__main__ import main
from acft.commands._options import on
from acft.runs.directory import (
    all_runs,
    read_labels,
    read_status,
    write_labels,
    write_status,
)
from acft.runs.process import this_process
from acft.schema import Labels, Launch, Status
from tests import fake_method
from tests.fake_runs import create, do


@pytest.fixture
def acft(tmp_path, capsys, monkeypatch):
    """Does a command on a folder of runs: the exit code, and what was said to whom."""
    fake_method.register()
    monkeypatch.setattr("acft.runs.detached.ensure_supervisor", lambda _: "nobody")

    def done(*words, runs=tmp_path):
        capsys.readouterr()
        code = main([*map(str, words), "--runs", str(runs)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return done


def failed(tmp_path, **details):
    paths = create(tmp_path, "seed=2")
    write_status(paths, Status(state="failed", failure="oom", **details))
    return paths


def test_one_run_is_told_with_its_advice_the_way_on_and_the_end_of_its_log(acft, tmp_path):
    paths = failed(
        tmp_path, message="no memory", advice="lower the batch", retry_with=("optimizer.lr=1",)
    )
    paths.log.write_text("\n".join(f"line {n}" for n in range(50)))
    code, said, _ = acft("runs", paths.root.name)
    assert code == 0
    for part in ("failed (oom)", "no memory", "lower the batch", "seed=2", "line 49"):
        assert part in said
    assert f"acft launch {paths.root.name} --runs {tmp_path} --set optimizer.lr=1" in said
    assert "line 44" not in said


def test_what_the_folder_of_a_run_says_neither_steers_a_terminal_nor_a_shell(acft, tmp_path):
    evil = "\x1b]0;title\x07\x1b[2J"
    paths = failed(tmp_path, message=evil, advice=evil, retry_with=("seed=1; touch x",))
    paths.log.write_text(f"line{evil}\n")
    write_labels(paths, Labels(tags=(evil,), notes=f"two\nlines{evil}"))
    for words in (["runs"], ["runs", paths.root.name], ["label", paths.root.name]):
        _, said, _ = acft(*words)
        assert "\x1b" not in said
        assert "\x07" not in said
    assert "two lines" in said
    assert "--set 'seed=1; touch x'" in acft("runs", paths.root.name)[1]


@pytest.mark.parametrize(
    ("state", "command"), [("stopped", "acft resume"), ("queued", "acft stop"), ("finished", "")]
)
def test_the_way_on_follows_from_the_state(acft, tmp_path, state, command):
    paths = create(tmp_path)
    write_status(paths, dataclasses.replace(read_status(paths), state=state))
    said = acft("runs", paths.root.name)[1]
    assert f"{command} {paths.root.name}" in said
    assert ("next" in said) == bool(command)


def test_a_folder_without_settings_is_not_to_be_resumed(acft, tmp_path):
    paths = create(tmp_path)
    for file in (paths.launch, paths.status):
        file.unlink()
    (paths.root / "spec.toml").rename(paths.root / "lost.toml")
    said = acft("runs", paths.root.name)[1]
    assert "this is no run" in said
    assert f"acft delete {paths.root.name}" in said
    assert said.count(str(paths.launch)) == 1


def test_an_unknown_run_is_an_error_of_the_list_too(acft, tmp_path):
    create(tmp_path)
    assert acft("runs", "")[0] == 2
    assert acft("runs", "20200101-000000-aaaa")[0] == 2
    assert acft("runs", "20200101-000000-aaaa", "--json")[0] == 2


def test_the_list_narrows_to_states_and_tags(acft, tmp_path):
    bad, good = failed(tmp_path), create(tmp_path)
    acft("label", good.root.name, "--tag", "kept", "--tag", "best")
    assert good.root.name not in acft("runs", "--state", "failed")[1]
    assert bad.root.name in acft("runs", "--state", "failed", "--state", "queued")[1]
    assert bad.root.name not in acft("runs", "--tag", "kept", "--tag", "best")[1]
    assert "no runs to show of 2" in acft("runs", "--tag", "nothing")[1]


@pytest.mark.parametrize("filter_", [("--state", "failed"), ("--tag", "kept")])
def test_what_chooses_among_all_runs_has_no_effect_on_one_and_is_refused(acft, tmp_path, filter_):
    paths = failed(tmp_path)
    code, said, refused = acft("runs", paths.root.name, *filter_)
    assert (code, said) == (2, "")
    assert filter_[0] in refused
    assert paths.root.name in refused


def test_an_evaluation_is_listed_by_what_it_measures(acft, tmp_path):
    paths = create(tmp_path)
    record = Launch(created=0.0, kind="evaluation", subject="gpt", overrides=("method={}",))
    paths.launch.write_text(json.dumps(dataclasses.asdict(record)))
    said = acft("runs")[1]
    assert "measures gpt" in said
    assert "method=" not in said


def test_a_file_is_no_folder_of_runs(acft, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, said = acft("runs", runs=tmp_path / "file")
    assert code == 2
    assert "is no folder" in said


def test_labels_are_added_removed_and_kept(acft, tmp_path):
    paths = create(tmp_path)
    name = paths.root.name
    acft("label", name, "--tag", "one", "--tag", "two", "--note", "look here", "--archive")
    acft("label", name, "--untag", "one")
    labels = read_labels(paths)
    assert (labels.tags, labels.notes, labels.archived) == (("two",), "look here", True)
    assert "archived: no" in acft("label", name, "--unarchive", "--note", "")[1]
    code, _, said = acft("label", name, "--untag", "one")
    assert code == 2
    assert "has no tag 'one' (tags: two)" in said


def test_differences_are_the_settings_that_differ(acft, tmp_path):
    first, second = create(tmp_path, "seed=1"), create(tmp_path, "seed=2")
    names = (first.root.name, second.root.name)
    assert acft("diff", *names)[1] == "seed  1 -> 2\n"
    assert '"first": 1' in acft("diff", *names, "--json")[1]
    assert acft("diff", names[0], names[0])[1] == "the settings are the same\n"


def test_nothing_is_deleted_when_nobody_can_confirm(acft, tmp_path, monkeypatch):
    def no_one(_):
        raise EOFError

    monkeypatch.setattr("builtins.input", no_one)
    paths = create(tmp_path)
    do(paths)
    code, _, said = acft("delete", paths.root.name)
    assert code == 2
    assert "--yes deletes without asking" in said
    assert all_runs(tmp_path) == [paths]


def test_a_damaged_checkpoint_is_refused_with_the_option_for_an_earlier_one(acft, tmp_path):
    paths = create(tmp_path)
    do(paths)
    write_status(paths, dataclasses.replace(read_status(paths), state="stopped"))
    for file in (paths.checkpoints / "round-3").rglob("*"):
        if file.is_file() and file.name != "manifest.json":
            file.write_text("damaged")
    code, _, said = acft("resume", paths.root.name)
    assert code == 2
    assert "sealed before it: 1, 2; choose one with --round" in said


def test_no_other_round_is_offered_where_no_checkpoint_is_damaged(acft, tmp_path):
    paths = create(tmp_path)
    do(paths)
    write_status(paths, dataclasses.replace(read_status(paths), state="stopped"))
    paths.launch.write_text("{}")
    code, _, said = acft("resume", paths.root.name, "--here")
    assert code == 2
    assert "cannot read" in said
    (paths.root / "link").symlink_to(tmp_path)
    code, _, linked = acft("resume", paths.root.name)
    assert code == 2
    assert "link" in linked
    assert "--round" not in said + linked


def test_a_run_in_the_usual_folder_is_named_without_it():
    assert on("x", Path("runs")) == "x"
    assert on("x", Path("my runs")) == "x --runs 'my runs'"


@pytest.mark.parametrize(("sealed", "where"), [(4, "after round 4"), (0, "from the beginning")])
def test_a_stop_says_what_resuming_will_do_again(acft, tmp_path, sealed, where):
    me = this_process()
    paths = create(tmp_path)
    running = Status(
        state="running", pid=me.pid, pid_started=me.started, boot_id=me.boot_id, round=sealed,
        heartbeat_clock=time.monotonic(),
    )  # fmt: skip
    write_status(paths, running)
    said = acft("stop", paths.root.name)[1]
    assert f"goes on {where}; an unfinished round is done again" in said


def test_what_one_run_takes_on_the_disk_is_told_too(tiny_run, capsys):
    runs = ["--runs", str(tiny_run.root.parent)]
    assert main(["runs", tiny_run.root.name, "--space", *runs]) == 0
    assert re.search(r"^on the disk  .+ in checkpoints\)$", capsys.readouterr().out, re.MULTILINE)
