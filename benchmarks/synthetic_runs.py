"""Run directories of realistic size with harmless random texts, written column by column."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from acft import events
from acft.runs.directory import ID_LETTERS
from acft.schema import GUIDANCE, ROLLOUTS, SCORES, RunPaths, Status

VOCABULARY = 49_152
RESPONSE_TOKENS = 20
PROMPT_TOKENS = 12
ALTERNATIVES = 5
STEPS_PER_ROUND = 100
SCORERS = ("jigsaw_tcc", "profanity_svm")
QUANTITIES = (
    "policy/loss", "policy/ce", "policy/kl_guided_policy", "policy/kl_policy_guided",
    "policy/grad_norm", "policy/lr", "time/tokens_per_second", "memory/peak_bytes",
)  # fmt: skip
START = 1_790_000_000.0
WORDS = pa.array([f" w{number:x}" for number in range(VOCABULARY)])


@dataclass(frozen=True)
class Size:
    """How much is written."""

    runs: int = 25
    rounds: int = 10
    rollouts: int = 4_000
    """In each round, with two scores each."""
    guidance_rows: int = 80_000
    """In each round."""

    def scaled(self, factor: float) -> "Size":
        """About ``factor`` times as much, in fewer runs of the same shape."""
        runs = max(2, round(self.runs * factor))
        inner = min(1.0, self.runs * factor / runs)
        return Size(runs, self.rounds, int(self.rollouts * inner), int(self.guidance_rows * inner))


class Writer:
    """One run directory that grows."""

    def __init__(self, root: Path, number: int) -> None:
        letters = "".join(ID_LETTERS[number >> shift & 31] for shift in (15, 10, 5, 0))
        name = f"20261122-{number // 60:02d}{number % 60:02d}00-{letters}"
        self.paths = RunPaths(root / name)
        self.paths.shards.mkdir(parents=True)
        self.seq = 0
        self._file = self.paths.events.open("w")
        self.paths.spec.write_text(
            f'title = "Synthetic {number}"\nseed = {number}\n[method]\nname = "acft"\n'
        )

    def say(self, event: events.Event) -> None:
        """Appends an event."""
        self.seq += 1
        self._file.write(events.to_json(event, self.seq, START + self.seq) + "\n")
        self._file.flush()

    def seal(self, name: str, round_index: int, table: pa.Table) -> None:
        """Writes a shard and names it."""
        path = self.paths.shards / f"{name}-{self.seq + 1:06d}.parquet"
        pq.write_table(table, path, compression="zstd")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self.say(events.ShardSealed(name, path.name, len(table), digest, round_index))

    def finish(self, size: Size) -> None:
        """Writes the status."""
        self._file.close()
        status = Status(
            state="finished", created=START, started=START, ended=START + self.seq,
            round=size.rounds, rounds=size.rounds, events=self.seq,
        )  # fmt: skip
        self.paths.status.write_text(json.dumps(asdict(status)))


def write_runs(root: Path, size: Size) -> Iterator[str]:
    """Writes all runs; yields the name of each when it is done."""
    for number in range(size.runs):
        rng = np.random.default_rng(number)
        writer = Writer(root, number)
        writer.say(events.Started(pid=1))
        for round_index in range(1, size.rounds + 1):
            _write_round(writer, rng, size, round_index)
        writer.finish(size)
        yield writer.paths.root.name


def _write_round(writer: Writer, rng: np.random.Generator, size: Size, index: int) -> None:
    ids = [f"r{index}-{number:05d}" for number in range(size.rollouts)]
    satisfaction = np.clip(rng.beta(4, 1 + 3 / index, size.rollouts), 0, 1)
    writer.seal("rollouts", index, _rollouts(rng, ids, satisfaction, index))
    writer.seal("scores", index, _scores(rng, ids, satisfaction))
    for step in range(1, STEPS_PER_ROUND + 1):
        values = dict(zip(QUANTITIES, rng.random(len(QUANTITIES)).tolist(), strict=True))
        total = (index - 1) * STEPS_PER_ROUND + step
        writer.say(events.Progress("fit_policy", step, STEPS_PER_ROUND, index))
        writer.say(events.Scalars(index, total, values))
    writer.seal("guidance", index, _guidance(rng, size.guidance_rows, index))
    for scorer in SCORERS:
        share = float(1 - satisfaction.mean())
        writer.say(events.Evaluated(
            f"toxicity/{scorer}", "toxic_share", "policy", share, size.rollouts, 0.01,
            share - 0.02, share + 0.02, index,
        ))  # fmt: skip
    perplexity = 21 + 0.1 * index
    writer.say(events.Evaluated("utility/general", "perplexity", "policy", perplexity, 32, 0.4,
                                perplexity - 0.8, perplexity + 0.8, index))  # fmt: skip
    writer.say(events.Calibration(index, index, 800, 80, {"auc": 0.88, "brier": 0.12}, [], []))
    writer.say(events.RoundFinished(index, f"checkpoints/round-{index}", index, index))


def _texts(rng: np.random.Generator, rows: int, words: int) -> pa.Array:
    columns = [WORDS.take(pa.array(rng.integers(0, VOCABULARY, rows))) for _ in range(words)]
    return pc.binary_join_element_wise(*columns, "")


def _rollouts(
    rng: np.random.Generator, ids: list[str], satisfaction: np.ndarray, index: int
) -> pa.Table:
    rows = len(ids)
    prompts = rng.integers(0, max(1, rows // 10), rows)
    tokens = pa.array(rng.integers(0, VOCABULARY, rows * RESPONSE_TOKENS, dtype=np.int32))
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * RESPONSE_TOKENS)
    columns = {
        "rollout_id": ids,
        "round": np.full(rows, index),
        "purpose": ["oracle"] * rows,
        "subject": ["policy"] * rows,
        "policy_version": np.full(rows, index - 1),
        "prompt_id": [f"p{number:05d}" for number in prompts],
        "prompt_split": ["train"] * rows,
        "prompt_category": [f"c{number % 7}" for number in prompts],
        "sample": np.arange(rows) % 10,
        "prompt_text": _texts(rng, rows, PROMPT_TOKENS),
        "response_text": _texts(rng, rows, RESPONSE_TOKENS),
        "response_ids": pa.ListArray.from_arrays(offsets, tokens),
        "n_tokens": np.full(rows, RESPONSE_TOKENS),
        "logprob": -rng.gamma(20, 3, rows),
        "log_weight": np.zeros(rows),
        "satisfaction": satisfaction,
    }
    return pa.table(columns).cast(ROLLOUTS)


def _scores(rng: np.random.Generator, ids: list[str], satisfaction: np.ndarray) -> pa.Table:
    rows = len(ids) * len(SCORERS)
    noise = rng.normal(0, 0.05, rows)
    columns = {
        "rollout_id": np.repeat(ids, len(SCORERS)),
        "scorer": list(SCORERS) * len(ids),
        "scorer_version": ["1"] * rows,
        "value": np.clip(np.repeat(1 - satisfaction, len(SCORERS)) + noise, 0, 1),
    }
    return pa.table(columns).cast(SCORES)


def _guidance(rng: np.random.Generator, rows: int, index: int) -> pa.Table:
    length = PROMPT_TOKENS + RESPONSE_TOKENS
    row = np.arange(rows)
    sequence = row // length
    names = pa.array([f"r{index}-{number:05d}" for number in range(sequence[-1] + 1)])
    ids = np.minimum(rng.zipf(1.3, rows) - 1, VOCABULARY - 1).astype(np.int32)
    columns = {
        "sequence_id": names.take(pa.array(sequence)),
        "source": pa.array(["rollout", "corpus"]).take(pa.array(sequence % 2)),
        "round": np.full(rows, index),
        "step": index * STEPS_PER_ROUND + np.zeros(rows, np.int32),
        "policy_version": np.full(rows, index - 1),
        "oracle_version": np.full(rows, index),
        "position": row % length,
        "token_id": ids,
        "token_text": WORDS.take(pa.array(ids)),
        "in_loss": row % length >= PROMPT_TOKENS,
        "alternatives": _alternatives(rng, rows),
    }
    for name in ("logprob_base", "logprob_policy", "logprob_guided", "log_r"):
        columns[name] = -rng.exponential(2, rows)
    for name in ("kl_guided_policy", "entropy"):
        columns[name] = rng.exponential(0.2, rows)
    inside = np.where(columns["in_loss"], columns["kl_guided_policy"], 0.0)
    columns["kl_logged"] = np.bincount(sequence, inside)[sequence]
    return pa.table(columns).select(GUIDANCE.names).cast(GUIDANCE)


def _alternatives(rng: np.random.Generator, rows: int) -> pa.Array:
    entries = []
    for _ in range(ALTERNATIVES):
        ids = pa.array(rng.integers(0, VOCABULARY, rows))
        parts = ['{"id": ', pc.cast(ids, pa.string()), ', "text": "', WORDS.take(ids), '"']
        for name in ("base", "policy", "guided"):
            value = pc.cast(pa.array(np.round(-rng.exponential(3, rows), 3)), pa.string())
            parts += [f', "{name}": ', value]
        entries.append(pc.binary_join_element_wise(*parts, "}", ""))
    return pc.binary_join_element_wise("[", pc.binary_join_element_wise(*entries, ", "), "]", "")
