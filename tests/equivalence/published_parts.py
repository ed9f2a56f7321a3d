"""Prints what lies in the folder of published weights once this process has published them.

Started in several processes by ``torchrun``: MODEL FOLDER.
"""

import sys
from pathlib import Path

from acft.distributed import leave
from acft.engines.base import build_engine
from acft.policy import base_policy, trainable_policy
from acft.settings import AdapterSettings, RunSettings


def main(model: str, folder: str) -> None:
    """Print one line."""
    engine = {"kind": "vllm", "address": "http://127.0.0.1:9", "folder": folder}
    run = RunSettings.parse({"model": {"name": model}, "device": "cpu", "engine": engine})
    base = base_policy(run)
    base.engine = build_engine(run)
    frozen = trainable_policy(base, AdapterSettings(rank=4), 0).snapshot(base)
    names = sorted(file.name for file in (Path(folder) / frozen.weights).iterdir())
    sys.stdout.write(f"published {' '.join(names)}\n")
    leave()


if __name__ == "__main__":
    main(*sys.argv[1:])
