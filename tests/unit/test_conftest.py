"""The test suite's own guards."""

import socket

import psutil
import pytest

from tests import chromium


@pytest.mark.parametrize("host", ["192.0.2.1", "example.invalid", "2001:db8::1"])
def test_reaching_for_another_machine_fails(host):
    with pytest.raises(RuntimeError, match="loopback only"):
        socket.create_connection((host, 80), timeout=1)


def test_loopback_is_allowed():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()


def test_torch_has_one_thread():
    import torch

    assert torch.get_num_threads() == 1


@pytest.mark.ui
def test_a_browser_that_closes_no_window_is_ended_and_replaced(
    browser, launched, launch_browser, monkeypatch
):
    window = browser.new_context()
    window.new_page()
    for process in psutil.Process().children(recursive=True):
        if process.name().startswith("chrom"):
            process.suspend()
    monkeypatch.setattr(chromium, "CLOSES_WITHIN", 1.0)
    window.close()
    assert not browser.is_connected()
    page = chromium.one_that_answers(launched, launch_browser).new_page()
    page.set_content("<p>here</p>")
    assert page.inner_text("p") == "here"
