"""A port that somebody else has is refused in our words."""

import socket

import pytest

from acft.errors import ConfigError
from acft.ui.app import check_port, main
from acft.ui.web.guard import Bind


def test_a_port_in_use_is_refused_with_the_way_out():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} .* in use; give another with --port"):
            check_port(Bind(port=port))
        assert check_port(Bind(port=0)) not in (0, port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_a_host_that_is_not_here_is_named(host):
    with pytest.raises(ConfigError, match=rf"cannot listen at port 7860 of {host}: \w+ .*--host"):
        check_port(Bind(host=host))


@pytest.mark.parametrize("port", ["99999", "-1", "abc", "²", "7" * 5000])
def test_a_port_that_is_none_is_refused_wherever_it_is_given(port, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([f"--port={port}"])
    assert "is not a port, a number from 0 to 65535" in capsys.readouterr().err
    monkeypatch.setenv("GRADIO_SERVER_PORT", port)
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "GRADIO_SERVER_PORT: " in capsys.readouterr().err
