"""Records a run directory with all that a version of the contract knows, for later ones to open.

``python -m tests.golden.record_run`` writes ``tests/golden/runs/v<version>/``. A recorded version
that was released is never recorded again: directories of that version exist.
"""

import hashlib
import json
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow.parquet as pq

from acft.events import KINDS, Finished, RoundFinished, ShardSealed, Started, to_json
from acft.schema import (
    SCHEMA_VERSION,
    TABLES,
    Labels,
    Launch,
    RunPaths,
    Status,
)
from tests.examples import example, example_rows

RECORDED = Path(__file__).parent / "runs"
RUN = "20261122-120000-aaaa"
MOMENT = 1_790_000_000.0


def record(paths: RunPaths) -> None:
    """Every event kind, one shard of each table, every small file."""
    paths.shards.mkdir(parents=True)
    shards = [_seal(paths, name) for name in TABLES]
    others = [
        example(kind) for kind in KINDS.values() if kind not in (Started, ShardSealed, Finished)
    ]
    middle = [replace(e, round=1) if isinstance(e, RoundFinished) else e for e in others]
    events = [
        example(Started, resumed_from_round=0),
        *shards,
        *middle,
        example(Finished, state="finished", failure=""),
    ]
    lines = [to_json(event, seq, MOMENT + seq) for seq, event in enumerate(events, start=1)]
    paths.events.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    paths.spec.write_text('title = "recorded"\nseed = 3\n[method]\nname = "sft"\n')
    paths.resolved.write_text(json.dumps({"seed": 3}))
    status = example(Status, state="finished", kind="training", failure="")
    status = replace(status, events=len(events), schema_version=SCHEMA_VERSION)
    for path, item in (
        (paths.status, status),
        (paths.launch, example(Launch, kind="training")),
        (paths.labels, example(Labels)),
    ):
        path.write_text(json.dumps(asdict(item), indent=1), encoding="utf-8")


def _seal(paths: RunPaths, table: str) -> ShardSealed:
    path = paths.shards / f"{table}-000001.parquet"
    pq.write_table(example_rows(TABLES[table]), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return ShardSealed(table, path.name, 1, digest, round=1)


if __name__ == "__main__":
    folder = RECORDED / f"v{SCHEMA_VERSION}"
    if folder.exists() and "--unreleased" not in sys.argv:
        sys.exit(f"{folder} exists; raise SCHEMA_VERSION, or say --unreleased")
    shutil.rmtree(folder, ignore_errors=True)
    record(RunPaths(folder / RUN))
