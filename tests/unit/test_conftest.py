"""The test suite's own guards."""

import importlib
import socket
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import psutil
import pytest
import torch
from jaxtyping import TypeCheckError, install_import_hook

from tests import chromium


@pytest.mark.parametrize("host", ["192.0.2.1", "example.invalid", "2001:db8::1"])
def test_reaching_for_another_machine_fails(host):
    with pytest.raises(RuntimeError, match="loopback only"):
        socket.create_connection((host, 80), timeout=1)


def test_loopback_is_allowed():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()


def test_torch_has_one_thread():
    assert torch.get_num_threads() == 1


def test_an_array_of_another_shape_or_type_than_annotated_is_refused():
    from acft.objective import token_mean
    from acft.statistics import _concordance

    with pytest.raises(TypeCheckError, match="mask"):
        token_mean(torch.zeros(2, 3), torch.ones(2, 4, dtype=torch.bool), 1)
    with pytest.raises(TypeCheckError, match="weights"):
        _concordance(np.zeros(2), np.ones(2, dtype=bool), np.ones(2, dtype=int))


def test_what_a_checked_module_imports_is_compiled_as_everywhere(tmp_path, monkeypatch):
    (tmp_path / "checked_outer.py").write_text(
        "import plain_inner\n\ndef doubled(n: int) -> int:\n    return 2 * n\n"
    )
    (tmp_path / "plain_inner.py").write_text("HERE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    with install_import_hook("checked_outer", "beartype.beartype"):
        outer = importlib.import_module("checked_outer")
    with pytest.raises(TypeCheckError, match="parameters of checked_outer"):
        outer.doubled("2")
    compiled = {file.name.split(".")[0]: file.name for file in tmp_path.rglob("*.pyc")}
    assert {name: "jaxtyping" in file for name, file in compiled.items()} == {
        "checked_outer": True, "plain_inner": False,
    }  # fmt: skip
    for name in ("checked_outer", "plain_inner"):
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.ui
def test_a_browser_that_closes_no_page_is_ended_and_replaced(profiles, monkeypatch):
    page = profiles.warm().new_page()
    for process in psutil.Process().children(recursive=True):
        if process.name().startswith("chrom"):
            process.suspend()
    monkeypatch.setattr(chromium, "CLOSES_WITHIN", 1.0)
    with chromium.ended_if_silent():
        page.close()
    another = profiles.warm().new_page()
    another.set_content("<p>here</p>")
    assert another.inner_text("p") == "here"
    another.close()


KEPT = """async () => [
    document.cookie, localStorage.length, sessionStorage.length,
    (await navigator.permissions.query({name: "clipboard-read"})).state,
]"""


@pytest.mark.ui
def test_a_test_finds_nothing_of_the_test_before(context, tmp_path):
    (tmp_path / "index.html").write_text("<p>here</p>")
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=tmp_path)
    )
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    page = context.new_page()
    page.goto(address)
    page.evaluate("['localStorage', 'sessionStorage'].forEach(n => window[n].setItem('a', 'b'))")
    page.evaluate("document.cookie = 'a=b'")
    context.grant_permissions(["clipboard-read"])
    assert page.evaluate(KEPT) == ["a=b", 1, 1, "granted"]
    chromium.empty(context)
    page = context.new_page()
    page.goto(address)
    assert page.evaluate(KEPT) == ["", 0, 0, "prompt"]
    server.shutdown()
    server.server_close()
