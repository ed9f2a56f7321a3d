"""Every endpoint called without the launch token; a demonstration; no tensors in this process."""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import closing
from dataclasses import replace

import gradio as gr
import pytest

from acft.runs import supervisor
from acft.runs.ownership import owner
from acft.store.connection import FILE, open_store
from acft.ui import options
from acft.ui.app import build, workbench
from acft.ui.page import DEMO, REFUSED, Wire, Workbench, refusal
from acft.ui.parts.demonstration import way_out
from acft.ui.web.dom import text_of
from acft.ui.web.guard import Bind
from acft.ui.web.pager import PART, link
from tests.fake_runs import wait_until
from tests.ui.conftest import CONTROL, QUICK, make_bench

CHANGES = {
    "launch", "launch_grid", "quickstart", "stop", "resume", "judge", "begin", "withdraw",
    "relabel", "free", "delete",
}  # fmt: skip
"""Handlers that must be among those that change something."""


def post(served, path, body, cookie=""):
    request = urllib.request.Request(
        f"{served.address}{path}", json.dumps(body).encode(),
        {"Content-Type": "application/json", "Cookie": cookie, "Origin": served.address},
    )  # fmt: skip
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def name_of(function):
    return getattr(function.fn, "__name__", "")


def snapshot(folder):
    return sorted((str(p), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file())


def test_no_endpoint_changes_anything_without_the_token(served):
    before = snapshot(served.bench.reader.runs_dir)
    launched = list(served.bench.settings_process.launched)
    dependencies = served.blocks.config["dependencies"]
    assert len(dependencies) > 20
    for dependency in dependencies:
        data = [None] * len(dependency["inputs"])
        event = {"run": QUICK, "mode": "now", "choice": "tie", "item": "x|y"}
        body = {"data": data, "fn_index": dependency["id"], "session_hash": "attack",
                "event_data": event}  # fmt: skip
        post(served, "/gradio_api/run/predict", body)
    assert snapshot(served.bench.reader.runs_dir) == before
    assert served.bench.settings_process.launched == launched


def test_every_changing_handler_refuses_without_the_token(served):
    changing = served.blocks.acft_wire.changing
    assert set(changing) >= CHANGES
    functions = [
        fn for fn in served.blocks.fns.values() if getattr(fn.fn, "__name__", "") in changing
    ]
    assert len(functions) >= len(changing)
    for function in functions:
        body = {"data": [None] * len(function.inputs), "fn_index": function._id,
                "session_hash": "attack", "event_data": {"run": QUICK}}  # fmt: skip
        _, text = refused(served, body)
        assert "may look but not change" in text


def refused(served, body, cookie=""):
    """Status and the events of one call over the queue."""
    status, text = post(served, "/gradio_api/queue/join", body, cookie)
    if status != 200:
        return status, text
    address = f"{served.address}/gradio_api/queue/data?session_hash=attack"
    with urllib.request.urlopen(address, timeout=60) as stream:
        lines = []
        for line in stream:
            lines.append(line.decode())
            if "process_completed" in lines[-1] or "close_stream" in lines[-1]:
                break
    return status, "".join(lines)


def test_wrong_tokens_are_refused_like_none(served):
    launch = next(
        fn for fn in served.blocks.fns.values() if getattr(fn.fn, "__name__", "") == "launch"
    )
    launched = list(served.bench.settings_process.launched)
    body = {"data": ["title = 'x'"], "fn_index": launch._id, "session_hash": "attack"}
    for cookie in ("acft_token=wrong", "acft_token_0=" + "t" * 39):
        assert "may look but not change" in refused(served, body, cookie)[1]
    assert served.bench.settings_process.launched == launched


def test_posts_from_another_origin_are_refused(served):
    request = urllib.request.Request(
        f"{served.address}/gradio_api/run/predict", b"{}",
        {"Content-Type": "application/json", "Origin": "http://evil.example"},
    )  # fmt: skip
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=20)
    assert caught.value.code == 403


def test_files_of_the_machine_cannot_be_read(served):
    root = served.bench.reader.runs_dir
    for path in (f"/gradio_api/file={root}/.token", "/gradio_api/file=/etc/passwd",
                 "/acft-static/../app.py", "/acft-static/%2e%2e/app.py",
                 f"/static/..%2f..%2f{root}"):  # fmt: skip
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{served.address}{path}", timeout=20)
        assert caught.value.code in (403, 404)


@pytest.mark.parametrize(
    ("path", "meant"),
    [("trade-off?run=x", "tradeoff"), ("Token", "tokens"), ("runs/20261202", ""), ("xyz", None)],
)
def test_a_browser_is_told_which_page_there_is_instead(served, path, meant):
    status, headers, page = ask(served, path, "text/html,*/*")
    assert (status, headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    question = re.search(r'Did you mean <a href="/(\w*)">', page)
    assert (question and question[1]) == meant
    linked = re.findall(r'<a href="/(\w*)">', page.partition("Pages: ")[2])
    assert {ask(served, route, "text/html")[0] for route in linked} == {200}
    assert {"", "tradeoff", "tokens"} <= {*linked}


def test_what_is_asked_for_is_not_repeated_and_programs_get_no_page(served):
    path = "%3Cscript%3Ealert(1)%3C/script%3E"
    assert "alert" not in ask(served, path, "text/html")[2]
    assert json.loads(ask(served, path, "*/*")[2]) == {"detail": "Not Found"}


def ask(served, path, accept):
    request = urllib.request.Request(f"{served.address}/{path}", headers={"Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


@pytest.mark.parametrize("route", ["", "rollouts", "compare", "tokens"])
def test_the_second_part_of_a_list_has_an_address_that_is_answered(served, route):
    address = f"{served.address}/{link(route, {}, **{PART: '1'})}"
    with urllib.request.urlopen(address, timeout=20) as answer:
        assert answer.status == 200


def test_the_page_does_not_contain_the_token_or_paths(served):
    with urllib.request.urlopen(f"{served.address}/", timeout=20) as answer:
        page = answer.read().decode()
    assert served.token not in page
    assert str(served.bench.reader.runs_dir) not in page


def test_no_endpoint_is_offered_to_programs(served):
    dependencies = served.blocks.config["dependencies"]
    assert {d["api_visibility"] for d in dependencies} == {"private"}
    assert served.blocks.mcp_server_obj is None


def test_switches_that_store_or_send_are_off(served):
    blocks = served.blocks
    assert blocks.run_history is False
    assert blocks.enable_monitoring is False
    assert blocks.share is False
    assert blocks.allowed_paths == []
    assert blocks.analytics_enabled is False


def test_a_demonstration_registers_no_changing_handler(runs_dir, experiments):
    bench = make_bench(runs_dir, experiments, Bind(is_demo=True))
    blocks = build(bench)
    names = {name_of(fn) for fn in blocks.fns.values()}
    changing = set(blocks.acft_wire.changing)  # pyright: ignore[reportAttributeAccessIssue]
    assert changing >= CHANGES
    assert not names & changing
    assert "_refuse_demo" in names
    assert DEMO != REFUSED


@pytest.mark.parametrize(("name", "value"), [("SYSTEM", "spaces"), ("SPACE_ID", "me/acft")])
def test_a_space_is_a_demonstration(monkeypatch, tmp_path, name, value):
    from acft.ui.options import Options

    monkeypatch.setenv(name, value)
    bind = Options(runs=tmp_path).bind
    assert bind.is_demo
    assert bind.is_space
    assert bind.host == "0.0.0.0"


@pytest.mark.parametrize("flag", ["--demo", "--read-only", "--replay"])
def test_every_name_of_the_read_only_mode_means_it(flag):
    parser = argparse.ArgumentParser()
    options.configure(parser)
    assert options.from_arguments(parser.parse_args([flag])).bind.is_demo


def test_the_name_of_a_space_is_put_into_addresses_only_if_it_is_one(monkeypatch):
    monkeypatch.setenv("SPACE_ID", "me/acft")
    shown = way_out(options.Options().bind)
    assert "git clone https://huggingface.co/spaces/me/acft" in text_of(shown)
    assert "https://huggingface.co/spaces/me/acft?duplicate=true" in str(shown)
    monkeypatch.setenv("SPACE_ID", "me/acft; rm -rf ~")
    shown = way_out(options.Options().bind)
    assert "rm" not in str(shown)
    assert "make run" in text_of(shown)


def test_a_loosened_default_turns_the_posture_panel_red(bench):
    from acft.ui.app import settings
    from acft.ui.parts.posture import posture

    def loose(bench, **served):
        found = posture(replace(bench, served=settings(bench.bind) | served))
        return {check.name for check in found if not check.is_safe} - {"Launch token"}

    assert loose(bench) == set()
    assert loose(bench, share=True) == {"Sharing link"}
    assert loose(bench, mcp_server=True, run_history=True) == {
        "Tool server (MCP)", "History in the browser",
    }  # fmt: skip
    assert "Address" in loose(replace(bench, bind=Bind(host="0.0.0.0", is_public=True)))
    proxied = replace(bench, bind=Bind(hosts=("lab.example", "lab")))
    assert loose(proxied) == {"Address", "Log-in", "Further names"}
    assert "lab.example, lab" in {check.value for check in posture(proxied)}


def test_the_posture_of_a_space_claims_no_wall_that_a_space_does_not_have(bench):
    from acft.ui.app import settings
    from acft.ui.parts.posture import posture

    space = Bind(host="0.0.0.0", is_demo=True, is_space=True)
    found = {c.name: c for c in posture(replace(bench, bind=space, served=settings(space)))}
    assert found["Cross-site calls"].value == "allowed"
    assert all(check.is_safe for check in found.values())
    said = " ".join(check.why for check in found.values())
    assert "only this machine" not in said
    assert "origin of every request" not in said


def test_the_workbench_loads_no_tensors():
    code = (
        "import sys; import acft.ui.app; "
        "from acft.ui.page import PAGES; list(PAGES.items()); "
        "print([m for m in ('torch', 'transformers', 'peft') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_recorded_runs_that_were_altered_are_left_out_and_said(runs_dir, tmp_path, caplog):
    from acft.ui.app import bring_recorded

    assert bring_recorded(runs_dir, tmp_path / "runs") == []  # they have no manifest
    assert "no manifest" in caplog.text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_workbench_leaves_nothing_behind_and_lets_another_take_over(
    number, tmp_path
):
    runs, temporary = tmp_path / "runs", tmp_path / "temporary"
    temporary.mkdir()
    environment = os.environ | {"TMPDIR": str(temporary)}
    environment.pop("GRADIO_TEMP_DIR", None)
    command = [sys.executable, "-m", "acft", "serve", "--port", "0", "--runs", str(runs)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stderr=pipe, text=True, env=environment) as process:
        assert process.stderr
        said = next(line for line in process.stderr if "ACFT workbench" in line)
        process.send_signal(number)
        rest = process.stderr.read()
    assert process.returncode == 0, said + rest
    assert "terminate called" not in rest
    assert owner(runs) is None
    assert not list(temporary.glob("acft-*"))


def test_a_second_workbench_changes_nothing_until_the_first_has_gone(
    runs_dir, tmp_path, monkeypatch
):
    monkeypatch.setattr(supervisor, "CLAIM_SECONDS", 0.01)
    shutil.copytree(runs_dir / QUICK, tmp_path / QUICK)
    first, second = (workbench(options.Options(runs=tmp_path)) for _ in range(2))
    cookie = f"{second.gate.cookie}={second.gate.token}"
    request = gr.Request(headers={"cookie": cookie}, query_params={})

    def may_change(bench: Workbench) -> bool:
        return Wire(bench)._visit(request, None).may_change

    with closing(second):
        with closing(first):
            assert may_change(first)
            assert not may_change(second)
            assert f"supervised by the workbench with pid {os.getpid()}" in refusal(second)
        wait_until(lambda: may_change(second))
        assert not second.control.obstacle()


def test_a_second_workbench_goes_on_in_the_file_that_the_first_has_left(
    runs_dir, tmp_path, monkeypatch
):
    monkeypatch.setattr(supervisor, "CLAIM_SECONDS", 0.01)
    shutil.copytree(runs_dir / CONTROL, tmp_path / CONTROL)
    first, second = (workbench(options.Options(runs=tmp_path)) for _ in range(2))
    with closing(second):
        assert second.store.is_in_memory
        first.close()
        wait_until(lambda: not second.store.is_in_memory)
        shutil.copytree(runs_dir / QUICK, tmp_path / QUICK)
        wait_until(lambda: (QUICK,) in second.store.rows("SELECT run_id FROM runs"))
        assert second.ingester.problem == ""
    with closing(open_store(tmp_path)) as left:
        assert left.rows("SELECT run_id FROM runs ORDER BY 1") == [(CONTROL,), (QUICK,)]


def test_a_damaged_database_is_made_again_when_the_workbench_starts(runs_dir, tmp_path, caplog):
    runs = tmp_path / "runs"
    runs.mkdir()
    shutil.copytree(runs_dir / QUICK, runs / QUICK)
    (runs / FILE).write_bytes(b"no database" * 1000)
    with closing(workbench(options.Options(runs=runs))) as bench:
        assert bench.store.rows("SELECT run_id FROM runs") == [(QUICK,)]
    assert "acft store rebuild" in caplog.text


@pytest.mark.parametrize("size", ["-1", "nan", "inf", "many"])
def test_a_quota_is_a_number_of_gibibytes(size, capsys):
    parser = argparse.ArgumentParser()
    options.configure(parser)
    assert options.from_arguments(parser.parse_args(["--quota", "0.5"])).quota_bytes == 2**29
    with pytest.raises(SystemExit):
        parser.parse_args(["--quota", size])
    assert "GiB" in capsys.readouterr().err
