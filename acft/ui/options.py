"""How the workbench is served, as arguments of the command line; loads nothing heavy."""

import argparse
import math
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from acft.errors import ConfigError
from acft.ui.web.guard import Bind, place

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "experiments"
DEMO_RUNS = ROOT / "assets" / "demo"
PORT = 7860
LAST_PORT = 65535
PORT_VARIABLE = "GRADIO_SERVER_PORT"
"""Environment variable: the port where ``--port`` is not given."""
GIBIBYTE = 1024**3
SPACE_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
"""Owner and name; anything else is not put into an address."""
HOST_NAME = re.compile(
    r"([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[1-9][0-9]*)?"
    r"|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*"
)
"""A name or an address, with or without a port; of version 6, without one also without brackets."""


@dataclass(frozen=True)
class Options:
    """Where to listen, and for whom."""

    runs: Path = Path("runs")
    experiments: Path = EXPERIMENTS
    host: str = "127.0.0.1"
    port: int = PORT
    """0 takes any free port."""
    public: bool = False
    allow_host: tuple[str, ...] = ()
    """Further names under which browsers may ask for the workbench."""
    demo: bool = False
    auth_file: Path | None = None
    guidance_rounds: int = 0
    """Guidance of this many latest rounds of each run stays in the database; 0 = all."""
    quota: float = 0.0
    """GiB that all runs together may take; 0 = no limit."""
    open_browser: bool = False
    """Show it in a browser when it is ready."""

    @property
    def quota_bytes(self) -> int:
        """Bytes that all runs together may take; 0 = no limit."""
        return int(self.quota * GIBIBYTE)

    @property
    def bind(self) -> Bind:
        """Where the server listens; a Space is always a demonstration."""
        space = os.environ.get("SPACE_ID", "")
        is_space = bool(space) or os.environ.get("SYSTEM") == "spaces"
        return Bind(
            host="0.0.0.0" if is_space else self.host,  # noqa: S104 - the Space's proxy needs it
            port=self.port,
            has_auth=self.auth_file is not None,
            is_public=self.public,
            hosts=self.allow_host,
            is_demo=self.demo or is_space,
            is_space=is_space,
            space_id=space if SPACE_ID.fullmatch(space) else "",
        )


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the workbench."""
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="runs directory (default: runs)",
    )
    parser.add_argument(
        "--experiments",
        type=Path,
        default=EXPERIMENTS,
        metavar="DIR",
        help="settings to start from",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument(
        "--port", type=_port, help=f"port (default: {PORT}, or {PORT_VARIABLE}; 0 = any free one)"
    )
    parser.add_argument("--public", action="store_true", help="allow a host that others can reach")
    parser.add_argument(
        "--allow-host", type=_host_name, action="append", default=[], metavar="NAME",
        help="name under which browsers may ask for it, such as a proxy's, with :PORT where it "
        "listens at another port than the usual one; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--auth-file", type=Path, metavar="FILE", help="lines user:password, file mode 600"
    )
    parser.add_argument(
        "--demo", "--read-only", "--replay", action="store_true",
        help="read-only: nothing can be launched; without runs of your own, the recorded one",
    )  # fmt: skip
    add_guidance_rounds(parser)
    add_quota(parser)
    parser.add_argument(
        "--no-browser", action="store_true", help="do not open a browser (in a terminal it does)"
    )


def add_guidance_rounds(parser: argparse.ArgumentParser) -> None:
    """Adds how much token-level guidance the database keeps."""
    parser.add_argument(
        "--guidance-rounds", type=_count, default=0, metavar="N",
        help="keep guidance of the last N rounds of each run in the database (default: 0 = all); "
        "the files of the runs are never touched",
    )  # fmt: skip


def add_quota(parser: argparse.ArgumentParser) -> None:
    """Adds how much room runs may take."""
    parser.add_argument(
        "--quota", type=_gibibytes, default=0.0, metavar="GIB",
        help="queue no run with which all would take more than this (default: 0 = no limit)",
    )  # fmt: skip


def _gibibytes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of GiB, 0 or more")
    return value


def _port(text: str) -> int:
    if not (text.isdecimal() and len(text) <= len(str(LAST_PORT)) and int(text) <= LAST_PORT):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, a number from 0 to {LAST_PORT}")
    return int(text)


def _host_name(text: str) -> str:
    if not (HOST_NAME.fullmatch(text) and place(text)[0]):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a host name such as lab.example.org or lab.example.org:8443, "
            "without http://"
        )
    return text.lower()


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def from_arguments(arguments: argparse.Namespace) -> Options:
    """Options from parsed arguments.

    Raises:
        ConfigError: The environment names something else than a port.
    """
    port = arguments.port
    if port is None:
        try:
            port = _port(os.environ.get(PORT_VARIABLE, str(PORT)))
        except argparse.ArgumentTypeError as error:
            raise ConfigError(f"{PORT_VARIABLE}: {error}; set another or unset it") from None
    is_wanted = not arguments.no_browser and sys.stdout.isatty()
    names = ("runs", "experiments", "host", "public", "demo", "auth_file", "guidance_rounds",
             "quota")  # fmt: skip
    values = {name: getattr(arguments, name) for name in names}
    allow_host = tuple(arguments.allow_host)
    return Options(port=port, open_browser=is_wanted, allow_host=allow_host, **values)
