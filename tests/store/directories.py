"""Small run directories with contents known by hand."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from acft.events import Event, ShardSealed, to_json
from acft.schema import TABLES, Labels, RunPaths, Status

RUN = "20261122-120000-aaaa"
START = 1_790_000_000.0
DEFAULTS: dict[str, dict[str, Any]] = {
    "rollouts": {
        "round": 1, "purpose": "oracle", "subject": "policy", "policy_version": 0,
        "prompt_id": "p0", "prompt_split": "train", "prompt_category": "weather", "sample": 0,
        "prompt_text": "The sky is", "response_text": " blue", "response_ids": [7], "n_tokens": 1,
        "logprob": -1.0, "log_weight": 0.0, "satisfaction": 0.9,
    },
    "scores": {"scorer": "kind", "scorer_version": "1", "value": 0.1},
    "guidance": {
        "source": "rollout", "round": 1, "step": 10, "policy_version": 0, "oracle_version": 1,
        "token_id": 7, "token_text": " blue", "logprob_base": -2.0, "logprob_policy": -1.0,
        "logprob_guided": -0.5, "log_r": -0.25, "kl_guided_policy": 0.5, "entropy": 1.0,
        "in_loss": True, "alternatives": '[{"id": 7, "text": " blue"}]', "kl_logged": 0.5,
    },
}  # fmt: skip


class Directory:
    """One run directory, written event by event."""

    def __init__(self, root: Path, run_id: str = RUN) -> None:
        self.paths = RunPaths(root / run_id)
        self.run_id = run_id
        self.paths.shards.mkdir(parents=True)
        self.paths.spec.write_text('title = "A run"\nseed = 3\n[method]\nname = "acft"\n')
        self.seq = 0
        self.status(state="running")

    def status(self, **values: Any) -> None:
        """Replaces the status."""
        status = Status(**{"state": "running", "created": START, **values})
        self.paths.status.write_text(json.dumps(asdict(status)))

    def labels(self, *tags: str, notes: str = "", archived: bool = False) -> None:
        """Replaces the labels."""
        self.paths.labels.write_text(json.dumps(asdict(Labels(tags, notes, archived))))

    def say(self, *events: Event) -> None:
        """Appends whole lines."""
        for event in events:
            self.seq += 1
            self.append(to_json(event, self.seq, START + self.seq) + "\n")

    def append(self, text: str) -> None:
        """Appends any text to the event file."""
        with self.paths.events.open("a") as file:
            file.write(text)

    def table(self, name: str, *rows: dict[str, Any]) -> pa.Table:
        """Rows with everything that is not given filled in."""
        return pa.Table.from_pylist([DEFAULTS[name] | row for row in rows], schema=TABLES[name])

    def seal(self, name: str, *rows: dict[str, Any], round_index: int = 1) -> Path:
        """Writes a shard and names it in an event."""
        return self.seal_table(name, self.table(name, *rows), round_index)

    def seal_table(self, name: str, table: pa.Table, round_index: int = 1) -> Path:
        """Writes a shard from a table of any form and names it in an event."""
        path = self.paths.shards / f"{name}-{self.seq + 1:06d}.parquet"
        pq.write_table(table, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self.say(ShardSealed(name, path.name, len(table), digest, round_index))
        return path

    def seal_round(self, index: int, *satisfactions: float) -> None:
        """Writes rollouts ``r<round>-<n>``, one score each, and two tokens of guidance for each."""
        ids = [f"r{index}-{number}" for number in range(len(satisfactions))]
        self.seal(
            "rollouts",
            *(
                {"rollout_id": name, "round": index, "satisfaction": value}
                for name, value in zip(ids, satisfactions, strict=True)
            ),
            round_index=index,
        )
        self.seal(
            "scores",
            *(
                {"rollout_id": name, "value": 1 - value}
                for name, value in zip(ids, satisfactions, strict=True)
            ),
            round_index=index,
        )
        self.seal(
            "guidance",
            *(
                {
                    "sequence_id": name,
                    "round": index,
                    "step": 10 * index,
                    "position": position,
                    "kl_logged": 1.0,
                }
                for name in ids
                for position in range(2)
            ),
            round_index=index,
        )
