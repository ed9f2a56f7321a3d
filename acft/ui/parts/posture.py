"""How safely the workbench stands: each setting with its value, its floor and a verdict."""

import importlib.metadata
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from acft.settings import ModelSettings, RunSettings
from acft.ui.page import Workbench
from acft.ui.web.guard import LOOPBACK, TOKEN_FILE

FLOORS = {"gradio": "6.31.0", "torch": "2.13.0", "transformers": "5.23.0", "safetensors": "0.8.0",
          "duckdb": "2.0.0", "pyarrow": "26.0.0", "pillow": "12.0.0"}  # fmt: skip
"""Oldest versions without known holes that matter here."""


OPEN = "everybody may read a Space, and nothing can be changed in it"


@dataclass(frozen=True)
class Check:
    """One line of the posture panel."""

    name: str
    value: str
    is_safe: bool
    why: str


def posture(bench: Workbench) -> list[Check]:
    """Every check, those of the network first; read from what is in force, not from intentions."""
    return [*_network(bench), *_served(bench), *_trust(), *_versions()]


def _network(bench: Workbench) -> list[Check]:
    bind = bench.bind
    port = bench.served.get("server_port") or bind.port
    is_private = (bind.host in LOOPBACK and not bind.hosts) or bind.is_for_all
    mode = "read-only demonstration" if bind.is_demo else "changes need the launch token"
    token = bench.reader.runs_dir / TOKEN_FILE
    is_kept = bind.is_demo or (token.is_file() and not token.stat().st_mode & 0o077)
    return [
        Check(
            "Address", f"{bind.host}:{port}", is_private,
            OPEN if bind.is_for_all else "only this machine can connect",
        ),
        Check(
            "Log-in", "on" if bind.has_auth else "off", bind.has_auth or is_private,
            OPEN if bind.is_for_all else "needed as soon as others can connect",
        ),
        Check(
            "Further names", ", ".join(bind.hosts) or "none", bind.has_auth or not bind.hosts,
            "a proxy serves it under them and must ask for a log-in, which cannot be checked here",
        ),
        Check("Mode", mode, bind.is_demo or bool(bench.gate.token), "checked on the server"),
        Check(
            "Launch token", "none here" if bind.is_demo else "in a file of its owner", is_kept,
            "its file must not be readable by others",
        ),
    ]  # fmt: skip


def _served(bench: Workbench) -> list[Check]:
    """The server's own switches."""
    served, is_open = bench.served, bench.bind.is_for_all
    paths = served.get("allowed_paths", ["not known"])
    is_silent = os.environ.get("GRADIO_ANALYTICS_ENABLED") == "False"
    return [
        _switch(served, "share", "Sharing link", "no tunnel is opened"),
        _switch(served, "mcp_server", "Tool server (MCP)", "no handler is offered to programs"),
        _switch(served, "run_history", "History in the browser", "texts are not kept there"),
        _switch(served, "enable_monitoring", "Monitoring page", "usage is not recorded"),
        _switch(served, "show_error", "Tracebacks in the browser", "they describe the machine"),
        Check(
            "Readable paths", ", ".join(paths) or "none", paths == [],
            "no file is served by its path",
        ),
        Check(
            "Cross-site calls",
            "refused" if served.get("strict_cors") and not is_open else "allowed",
            served.get("strict_cors") is True,
            OPEN if is_open else "host and origin of every request are checked",
        ),
        Check(
            "Analytics", "off" if is_silent else "on", is_silent, "nothing is reported",
        ),
    ]  # fmt: skip


def _switch(served: Mapping[str, Any], key: str, name: str, why: str) -> Check:
    return Check(name, "on" if served.get(key, True) else "off", served.get(key) is False, why)


def _trust() -> list[Check]:
    fields = {name for model in (RunSettings, ModelSettings) for name in model.model_fields}
    cannot = not fields & {"trust_remote_code", "extra_args", "command"}
    return [
        Check(
            "Remote model code", "cannot be asked for" if cannot else "can be asked for", cannot,
            "no setting runs code from a model or adds arguments to a command",
        ),
        Check(
            "Unknown settings", str(RunSettings.model_config.get("extra")),
            RunSettings.model_config.get("extra") == "forbid", "they are refused",
        ),
    ]  # fmt: skip


def _versions() -> list[Check]:
    return [_version(name, floor) for name, floor in FLOORS.items()]


def _version(name: str, floor: str) -> Check:
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "not installed", is_safe=True, why="not needed here")
    is_safe = _key(found) >= _key(floor)
    return Check(name, found, is_safe, f"at least {floor}")


def _key(version: str) -> tuple[int, ...]:
    parts = version.split("+")[0].split(".")[:3]
    return tuple(int("".join(c for c in part if c.isdigit()) or 0) for part in parts)
