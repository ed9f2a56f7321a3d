"""The run directory's contract: file names, shard columns and their version.

A run directory is the truth about a run; the database is a cache made from it. Anything here may be
added to, never renamed: ``tests/unit/test_schema.py`` opens directories of every older version.

What counts
    Event lines are only ever appended; ``seq`` counts 1, 2, 3 … over all attempts of a run. An
    attempt begins with ``Started`` and, unless its process dies, ends with ``Finished``.
    A line without its newline, or one that is no event, ends the file for every reader; the next
    attempt cuts it off.
    A ``Started`` at seq s with ``resumed_from_round`` k undoes all events between the latest
    ``RoundFinished`` of round k before s (or the beginning, where there is none) and s, except
    ``Started`` and ``Finished``: the rounds after k are done again. ``eventlog.effective`` is that
    rule. Whoever knows events with a seq of s or more from before must forget them (their lines
    were lost with the power).
    A shard or checkpoint counts when an effective event names it. Files that no effective event
    names are remains of a dead process; the next attempt deletes them. A shard's number is the seq
    of its event, so names are never used twice.
    One process writes at a time: it holds the lock on ``LOCK``. The worker holds it while it lives;
    others take it to change the status of a run that has no worker.
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

SCHEMA_VERSION = 1

TOXIC_FROM = 0.5
"""A score at or above it counts as toxic. Source: RealToxicityPrompts protocol."""

SATISFIED_ABOVE = 0.5
"""A graded value of a constraint above it is the verdict "satisfied"."""

SPEC = "spec.toml"
"""The settings as the user wrote them."""
RESOLVED = "resolved.json"
"""Every setting, derived seed, package version, model and scorer hash, git commit."""
STATUS = "status.json"
"""State, process identity, heartbeat and position; replaced atomically."""
EVENTS = "events.jsonl"
"""One flushed line for each event, numbered without gaps from 1."""
LOG = "stdout.log"
STOP_REQUEST = "stop"
"""Present when somebody asked the worker to stop; its text is the mode (save, now) and its
modification time the time of the request."""
LAUNCH = "launch.json"
"""How the run came about: overrides on the settings, request id, working directory, parent run."""
LABELS = "labels.json"
"""Tags, notes and the archived flag; may be edited at any time."""
LOCK = "lock"
SHARDS = "shards"
CHECKPOINTS = "checkpoints"
EXPORTS = "exports"
"""Models written for other programs; nothing here reads them."""
MANIFEST = "manifest.json"
"""Inside a checkpoint: SHA-256 and size of every file in it; written last."""

ROLLOUTS = pa.schema(
    [
        ("rollout_id", pa.string()),
        ("round", pa.int32()),
        ("purpose", pa.string()),  # oracle, validation, validation_policy, train, test
        ("subject", pa.string()),  # base, policy, guided
        ("policy_version", pa.int32()),
        ("prompt_id", pa.string()),
        ("prompt_split", pa.string()),
        ("prompt_category", pa.string()),
        ("sample", pa.int32()),
        ("prompt_text", pa.string()),
        ("response_text", pa.string()),
        ("response_ids", pa.list_(pa.int32())),
        ("n_tokens", pa.int32()),
        ("logprob", pa.float64()),  # nats, whole response, sampled policy at temperature 1
        ("log_weight", pa.float64()),
        ("satisfaction", pa.float64()),
    ]
)

SCORES = pa.schema(
    [
        ("rollout_id", pa.string()),
        ("scorer", pa.string()),
        ("scorer_version", pa.string()),
        ("value", pa.float64()),
    ]
)

GUIDANCE = pa.schema(
    [
        ("sequence_id", pa.string()),
        ("source", pa.string()),  # rollout, corpus
        ("round", pa.int32()),
        ("step", pa.int32()),
        ("policy_version", pa.int32()),
        ("oracle_version", pa.int32()),
        ("position", pa.int32()),  # 0 is the first token of the sequence
        ("token_id", pa.int32()),
        ("token_text", pa.string()),
        ("logprob_base", pa.float32()),
        ("logprob_policy", pa.float32()),
        ("logprob_guided", pa.float32()),
        ("log_r", pa.float32()),  # of the prefix that ends with this token
        ("kl_guided_policy", pa.float32()),  # of the distribution this token was drawn from
        ("entropy", pa.float32()),
        ("in_loss", pa.bool_()),
        # JSON list of {"id", "text", "base", "policy", "guided"}: log-probabilities in nats of the
        # likeliest tokens under any of the three
        ("alternatives", pa.string()),
        # KL over the sequence's tokens in the loss, in nats, as the training pass summed it; the
        # same in every row of the sequence, for checking the sum of ``kl_guided_policy``
        ("kl_logged", pa.float64()),
    ]
)

TABLES: dict[str, pa.Schema] = {"rollouts": ROLLOUTS, "scores": SCORES, "guidance": GUIDANCE}

STATES = (
    "queued", "starting", "running", "stopping", "finished", "stopped", "failed", "lost",
)  # fmt: skip
FINAL = ("finished", "stopped", "failed")
FAILURES = ("oom", "data", "config", "model", "nonfinite", "disk", "killed", "unknown")
BEGINNING = "beginning"
STOP_MODES = ("save", "now")
"""``save`` ends after the current step and seals what was measured, ``now`` ends at once; resuming
goes on after the last sealed round."""


@dataclass(frozen=True)
class Status:
    """Content of ``status.json``; times are seconds since the epoch."""

    state: str
    kind: str = "training"
    """training or evaluation."""
    pid: int = 0
    pid_started: float = 0.0
    """Start of the process as the operating system tells it (Linux: seconds since boot, which no
    clock change moves); proves that a pid is ours."""
    boot_id: str = ""
    """Machine start and process namespace in which the pid has its meaning."""
    created: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    heartbeat: float = 0.0
    """Written every few seconds by a thread of the worker, however long a step takes."""
    heartbeat_clock: float = 0.0
    """The same moment on the monotonic clock, comparable within one boot whatever the date does."""
    round: int = 0
    rounds: int = 0
    step: int = 0
    steps: int = 0
    phase: str = ""
    phase_done: int = 0
    phase_total: int = 0
    phase_unit: str = ""
    phase_rate: float | None = None
    """Units per second."""
    phase_seconds_left: float | None = None
    seconds_left: float | None = None
    """Of all rounds; None during the first, and where rounds are not alike."""
    events: int = 0
    """Sequence number of the last event written."""
    exit_code: int | None = None
    failure: str = ""
    message: str = ""
    advice: str = ""
    retry_with: tuple[str, ...] = ()
    """Overrides on the settings (``section.key=value``) that may avoid the failure."""
    device: str = ""
    """Where the supervisor put the run: cpu, mps, cuda:0, …"""
    checkpoint: str = ""
    """Folder of the last sealed checkpoint, from which the run can go on."""
    best_checkpoint: str = ""
    resumed_from: str = ""
    """Folder of the checkpoint to continue, or ``BEGINNING``; empty: the last sealed, if any."""
    schema_version: int = SCHEMA_VERSION

    @property
    def result(self) -> str:
        """Folder of the best checkpoint, or of the last where none was called best."""
        return self.best_checkpoint or self.checkpoint


@dataclass(frozen=True)
class Launch:
    """Content of ``launch.json``, written once."""

    created: float
    """Seconds since the epoch."""
    kind: str = "training"
    device: str = "auto"
    """As the settings ask for it; decides which queue the run waits in."""
    overrides: tuple[str, ...] = ()
    """``section.key=value`` settings on top of ``spec.toml``, in order."""
    request_id: str = ""
    """Chosen by who asked; the same request never starts two runs."""
    working_directory: str = ""
    """Relative paths in the settings start here."""
    mirror: tuple[str, ...] = ()
    """Trackers that get a copy of the metrics; see mirror.py."""
    cloned_from: str = ""
    """Run whose settings these were before changes."""
    experiment: str = ""
    """Name of the settings file, without its ending."""
    sweep: str = ""
    """Name shared by the runs of one grid."""
    fingerprint: str = ""
    """Equal for runs whose settings ask for the same numbers."""
    subject: str = ""
    """For evaluations: run id, checkpoint or model that is measured."""


@dataclass(frozen=True)
class Labels:
    """Content of ``labels.json``."""

    tags: tuple[str, ...] = ()
    notes: str = ""
    archived: bool = False


def folders(root: Path, pattern: re.Pattern[str]) -> list[str]:
    """Names of the folders in a folder that match a pattern, sorted.

    Links are not followed, and what belongs to somebody else and may not be read is passed over.
    """
    if not root.is_dir():
        return []
    with os.scandir(root) as entries:  # which knows without asking what each one is
        return sorted(entry.name for entry in entries if pattern.fullmatch(entry.name)
                      and entry.is_dir(follow_symlinks=False)
                      and os.access(entry.path, os.R_OK | os.X_OK))  # fmt: skip


def policy_sha256(checkpoint: Path) -> str:
    """SHA-256 of the weights trained up to a checkpoint, by its manifest; empty without any."""
    try:
        files = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))["files"]
        return next(
            str(files[name]["sha256"])
            for name in sorted(files)
            if name.startswith("policy/") and name.endswith(".safetensors")
        )
    except (OSError, ValueError, LookupError, TypeError, StopIteration):
        return ""


@dataclass(frozen=True)
class RunPaths:
    """Where everything of one run lies."""

    root: Path

    @property
    def spec(self) -> Path:
        """Settings as written."""
        return self.root / SPEC

    @property
    def resolved(self) -> Path:
        """Settings and provenance as used."""
        return self.root / RESOLVED

    @property
    def status(self) -> Path:
        """State of the run."""
        return self.root / STATUS

    @property
    def events(self) -> Path:
        """Event lines."""
        return self.root / EVENTS

    @property
    def log(self) -> Path:
        """Output of the worker process."""
        return self.root / LOG

    @property
    def stop_request(self) -> Path:
        """Request file for stopping."""
        return self.root / STOP_REQUEST

    @property
    def launch(self) -> Path:
        """How the run came about."""
        return self.root / LAUNCH

    @property
    def labels(self) -> Path:
        """Tags, notes, archived flag."""
        return self.root / LABELS

    @property
    def lock(self) -> Path:
        """Held by whoever writes."""
        return self.root / LOCK

    @property
    def shards(self) -> Path:
        """Folder of sealed Parquet files."""
        return self.root / SHARDS

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.root / CHECKPOINTS

    @property
    def exports(self) -> Path:
        """Folder of exported models."""
        return self.root / EXPORTS

    def checkpoint(self, round_index: int) -> Path:
        """Folder of the checkpoint sealed after a round; round 0 is the base policy."""
        return self.checkpoints / f"round-{round_index}"
