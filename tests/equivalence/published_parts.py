"""Prints what lies in the folder of published weights for as long as one process uses them.

Started in several processes: MODEL FOLDER.
"""

import sys
import time
from contextlib import closing
from pathlib import Path

from acft.distributed import leave, ranks, together
from acft.engines.base import build_engine
from acft.policy import base_policy, trainable_policy
from acft.settings import AdapterSettings, RunSettings


def main(model: str, folder: str) -> None:
    """Print two lines, the second when the first process has long come to its end."""
    engine = {"kind": "vllm", "address": "http://127.0.0.1:9", "folder": folder}
    run = RunSettings.parse({"model": {"name": model}, "device": "cpu", "engine": engine})
    base = base_policy(run)
    base.engine = build_engine(run)
    with closing(base.engine), together():
        frozen = trainable_policy(base, AdapterSettings(rank=4), 0).snapshot(base)
        sys.stdout.write(f"published {content(Path(folder) / frozen.weights)}\n")
        if ranks().rank:
            time.sleep(1)
            sys.stdout.write(f"used {content(Path(folder) / frozen.weights)}\n")
    leave()


def content(folder: Path) -> str:
    """Names of files."""
    return " ".join(sorted(file.name for file in folder.iterdir()))


if __name__ == "__main__":
    main(*sys.argv[1:])
