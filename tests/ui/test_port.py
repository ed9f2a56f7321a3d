"""A port that somebody else has is refused in our words."""

import socket

import pytest

from acft.errors import ConfigError
from acft.ui.app import check_port
from acft.ui.guard import Bind


def test_a_port_in_use_is_refused_with_the_way_out():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} .* in use; give another with --port"):
            check_port(Bind(port=port))
    check_port(Bind(port=0))
