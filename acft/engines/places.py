"""Where a server is and where weights are left for it: never for a browser to say."""

import os
from pathlib import Path

from acft.assets import cache_folder
from acft.errors import ConfigError
from acft.settings import EngineSettings, RunSettings

ADDRESS = "ACFT_ENGINE_ADDRESS"
FOLDER = "ACFT_ENGINE_FOLDER"
KEY = "ACFT_ENGINE_KEY"
"""Sent as a bearer token; kept out of settings, so that no run folder has it."""


def address_of(settings: EngineSettings) -> str:
    """The server's address.

    Raises:
        ConfigError: Nobody has said it.
    """
    address = settings.address or os.environ.get(ADDRESS, "")
    if not address:
        raise ConfigError(
            f"[engine] kind = {settings.kind!r} needs a server, but address is empty; set it, or "
            f"start with {ADDRESS}=http://127.0.0.1:8000"
        )
    return address


def folder_of(settings: EngineSettings) -> Path:
    """Where weights are left for the server."""
    chosen = settings.folder or os.environ.get(FOLDER, "")
    return Path(chosen).expanduser().absolute() if chosen else cache_folder() / "engine"


def key() -> str:
    """The server's key; empty where it needs none."""
    return os.environ.get(KEY, "")


def refuse_places(run: RunSettings) -> None:
    """Refuses settings that came from a browser and name an address or a folder to write to.

    Raises:
        ConfigError: They do.
    """
    named = [name for name in ("address", "folder") if getattr(run.engine, name)]
    if named:
        raise ConfigError(
            f"[engine] {' and '.join(named)}: not taken from the browser; remove it and start the "
            f"workbench with {ADDRESS} and {FOLDER} set, or launch this file with acft launch"
        )
