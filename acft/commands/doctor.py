"""Say what is installed, reachable and unsafe here, and what to do about it."""

import argparse
import importlib
import json
import os
import platform
import shutil
import stat
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from http.client import HTTPException
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from acft.assets import ASSETS, NEEDED_BYTES, cache_folder, converted_model_folder, packaged_models
from acft.commands._options import add_json, add_runs_dir
from acft.commands.list import REGISTRIES, problems
from acft.machine import chromium
from acft.runs.sizes import size

RUN_BYTES = 2_000_000_000
"""Free disk below which a long run may not fit."""
HUB_SECONDS = 3.0
OPEN_TO_OTHERS = stat.S_IWGRP | stat.S_IWOTH
MARKS = {"ok": "  ok ", "note": "note ", "problem": " BAD "}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    about: str
    state: Literal["ok", "note", "problem"]
    """``note``: works, but something optional is missing or worth knowing."""
    text: str


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds ``--runs`` and ``--json``."""
    add_runs_dir(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """0 when nothing is wrong, 1 when there is a problem; notes do not count."""
    found = list(findings(args.runs))
    if args.json:
        print(json.dumps([asdict(finding) for finding in found], indent=2))
    else:
        for finding in found:
            print(f"{MARKS[finding.state]} {finding.about}: {finding.text}")
    return int(any(finding.state == "problem" for finding in found))


def findings(runs: Path) -> Iterator[Finding]:
    """Everything that is looked at, in the order a newcomer would fix it."""
    yield _python()
    yield from _packages()
    yield from _compute()
    yield from _assets()
    yield from _scorers()
    yield from _files()
    yield _folder("runs directory", runs.absolute(), RUN_BYTES)
    yield _folder("asset cache", cache_folder(), NEEDED_BYTES)
    yield _hub()
    yield _browser()
    yield from _exposure()


def _python() -> Finding:
    state = "ok" if sys.version_info >= (3, 11) else "problem"
    where = "a virtual environment" if sys.prefix != sys.base_prefix else "the system's Python"
    return Finding("python", state, f"{platform.python_version()} in {where}, 3.11 is needed")


def _packages() -> Iterator[Finding]:
    try:
        needed = [Requirement(text) for text in metadata.requires("acft") or []]
    except metadata.PackageNotFoundError:
        yield Finding("packages", "note", "acft is not installed, so versions were not compared")
        return
    wrong = list(filter(None, map(_version_problem, needed)))
    for text in wrong:
        yield Finding("packages", "problem", text + "; run 'make run' or pip install again")
    if not wrong:
        yield Finding("packages", "ok", "all at or above the versions that pyproject.toml names")


def _version_problem(needed: Requirement) -> str:
    if needed.marker and not needed.marker.evaluate({"extra": ""}):
        return ""
    try:
        version = metadata.version(needed.name)
    except metadata.PackageNotFoundError:
        return f"{needed.name} is missing, {needed.specifier} is needed"
    if needed.specifier.contains(version, prereleases=True):
        return ""
    return f"{needed.name} is {version}, {needed.specifier} is needed"


def _compute() -> Iterator[Finding]:
    import torch

    cores = os.cpu_count() or 1
    yield Finding("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} of {cores} cores")
    if torch.cuda.is_available():
        memory = size(torch.cuda.mem_get_info()[1])
        yield Finding("device", "ok", f"cuda, {torch.cuda.get_device_name()} with {memory}")
    elif torch.backends.mps.is_available():
        yield Finding("device", "ok", "mps; 'auto' takes the CPU, name 'mps' to use it")
    else:
        yield Finding(
            "device", "ok", "cpu; the packaged model trains in minutes, others need a GPU"
        )
    if torch.get_num_threads() > cores:
        yield Finding("threads", "problem", "more than cores; set OMP_NUM_THREADS, this is slow")


def _assets() -> Iterator[Finding]:
    for item in ASSETS:
        if not item.folder.is_dir():
            state = "note" if item.is_optional else "problem"
            remedy = "acft assets --optional" if item.is_optional else "make assets"
            yield Finding("asset", state, f"{item} ({item.holds}) is missing; run '{remedy}'")
    for name in packaged_models():
        if not converted_model_folder(name).is_dir():
            yield Finding("asset", "problem", f"{name} is not converted; run 'make assets'")
        else:
            yield Finding("asset", "ok", f"model {name} in {converted_model_folder(name)}")


def _scorers() -> Iterator[Finding]:
    scorers = importlib.import_module("acft.scorers.base").SCORERS
    for name, entry in scorers.items():
        problem = entry.problem()
        place = "can be loaded" if entry.is_packaged else entry.where
        yield Finding("scorer", "note" if problem else "ok", f"{name}: {problem or place}")


def _files() -> Iterator[Finding]:
    wrong = problems(REGISTRIES)
    for text in wrong:
        yield Finding("names", "problem", text)
    if not wrong:
        yield Finding("names", "ok", "every file that adds one is loaded; 'acft list' shows them")


def _folder(about: str, folder: Path, needed: int) -> Finding:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        return Finding(about, "problem", f"{folder} cannot be written: {error}")
    if existing == folder and folder.stat().st_mode & OPEN_TO_OTHERS:
        return Finding(about, "problem", f"other users may write {folder}; run 'chmod go-w' on it")
    free = shutil.disk_usage(existing).free
    text = f"{folder}, {size(free)} free"
    return Finding(about, "ok" if free >= needed else "note", text)


def _hub() -> Finding:
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        return Finding("hub", "note", "HF_HUB_OFFLINE is set: packaged and local models only")
    endpoint = importlib.import_module("huggingface_hub.constants").ENDPOINT
    try:
        urllib.request.urlopen(endpoint, timeout=HUB_SECONDS).close()  # noqa: S310 - a constant
    except (ValueError, HTTPException):
        return Finding(
            "hub", "problem", f"HF_ENDPOINT = {endpoint!r} is no address; begin it with https://"
        )
    except OSError:
        return Finding("hub", "note", "not reachable: packaged and local models only")
    return Finding("hub", "ok", "reachable: models and data sets can be named by hub id")


def _browser() -> Finding:
    path, missing = chromium(), "no Chromium; only the browser tests need it"
    return Finding("chromium", "ok" if path else "note", path or missing)


def _exposure() -> Iterator[Finding]:
    address = os.environ.get("GRADIO_SERVER_NAME", "")
    if address not in ("", "127.0.0.1", "localhost"):
        yield Finding("exposure", "problem", f"GRADIO_SERVER_NAME is {address!r}; unset it")
    if os.environ.get("GRADIO_SHARE", "").lower() in ("1", "true"):
        yield Finding("exposure", "problem", "GRADIO_SHARE publishes the workbench; unset it")
    if os.name == "posix" and os.geteuid() == 0:
        yield Finding("exposure", "note", "runs as root; an ordinary user is safer")
