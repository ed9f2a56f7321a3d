"""The test suite's own guards."""

import socket

import pytest


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
