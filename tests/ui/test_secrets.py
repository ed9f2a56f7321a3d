"""A secret that a run meets stays out of what others read."""

import re
import subprocess
from dataclasses import replace

from acft.__main__ import main
from acft.runs.directory import amend_status, read_status
from acft.runs.spawn import environment
from acft.ui.parts import run_details, run_head
from acft.ui.web.dom import text_of
from tests import fake_method
from tests.fake_runs import create
from tests.ui.conftest import make_bench

SECRET = "hf_" + "q" * 30
IN_ITS_PLACE = "[HF_TOKEN redacted]"


def test_a_secret_that_a_run_prints_is_neither_shown_nor_in_its_failure(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    fake_method.register()
    paths = create(tmp_path / "runs", "method.fail='secret'")
    with paths.log.open("wb") as log:
        worker = [*fake_method.WORKER, str(paths.root)]
        subprocess.run(worker, stdout=log, stderr=log, env=environment(), check=False)
    assert SECRET in paths.log.read_text()  # what the method itself printed
    said = re.escape(f"RuntimeError: the hub refused {IN_ITS_PLACE}")
    place = re.escape(fake_method.__file__ or "")
    assert re.fullmatch(rf"{said} \({place}, line \d+\)", read_status(paths).message)
    assert f"RuntimeError: the hub refused {IN_ITS_PLACE}" in paths.log.read_text()
    others = [p for p in paths.root.rglob("*") if p.is_file() and p != paths.log]
    assert not [path for path in others if SECRET.encode() in path.read_bytes()]

    bench = make_bench(paths.root.parent, tmp_path)
    run = bench.reader.run(paths.root.name)
    assert run is not None
    log, head = text_of(run_details.log(bench, run)), text_of(run_head._failure(run))
    assert SECRET not in log + head
    assert f"asking with {IN_ITS_PLACE}" in log
    assert f"refused {IN_ITS_PLACE}" in head
    main(["runs", paths.root.name, "--runs", str(paths.root.parent)])
    printed = capsys.readouterr().out
    assert SECRET not in printed
    assert IN_ITS_PLACE in printed


def test_the_end_that_an_older_worker_wrote_is_shown_without_a_secret(tmp_path, monkeypatch):
    fake_method.register()
    paths = create(tmp_path / "runs", "method.fail='bug'")
    monkeypatch.setenv("HF_TOKEN", SECRET)
    said = f"asked with {SECRET}"
    amend_status(paths, lambda status: replace(status, state="failed", message=said))
    run = make_bench(paths.root.parent, tmp_path).reader.run(paths.root.name)
    assert run is not None
    assert run.state.message == f"asked with {IN_ITS_PLACE}"
