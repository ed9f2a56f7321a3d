"""Synthetic runs made into measurements of others."""

import json
from dataclasses import asdict
from pathlib import Path

from acft.schema import Launch

SUITES = ("rtp", "perplexity")


def as_measurement(folder: Path, subject: str) -> None:
    """Makes a run one that measures another, or a model."""
    status, resolved = (
        json.loads((folder / name).read_text("utf-8")) for name in ("status.json", "resolved.json")
    )
    launch = asdict(Launch(created=1.0, kind="evaluation", subject=subject))
    subjects = {"base": {}, "policy": {}}
    method = {"name": "evaluate", "suites": [*SUITES], "subjects": subjects}
    resolved["settings"]["method"] = method
    resolved["facts"]["has_oracle"] = False
    changed = {
        "status.json": status | {"kind": "evaluation"},
        "launch.json": launch,
        "resolved.json": resolved,
    }
    for name, value in changed.items():
        (folder / name).write_text(json.dumps(value), "utf-8")
