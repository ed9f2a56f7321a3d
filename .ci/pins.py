#!/usr/bin/env python
"""Writes constraints.txt and requirements.txt from the environment that passed the tests."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def installed() -> dict[str, str]:
    """Version by normalised name of everything installed, without local build tags."""
    command = [sys.executable, "-m", "pip", "freeze", "--all", "--exclude-editable"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    pairs = (line.split("==") for line in lines if "==" in line)
    return {normalised(name): version.split("+")[0] for name, version in pairs if name != "pip"}


def normalised(name: str) -> str:
    """A distribution's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    """Both files, sorted by name."""
    versions = installed()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = sorted(normalised(re.split(r"[\[<>=!~ ;]", d)[0]) for d in project["dependencies"])
    pins = [f"{name}=={version}" for name, version in sorted(versions.items())]
    (ROOT / "constraints.txt").write_text("\n".join(pins) + "\n")
    (ROOT / "requirements.txt").write_text("".join(f"{n}=={versions[n]}\n" for n in direct))


if __name__ == "__main__":
    main()
