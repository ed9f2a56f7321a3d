"""Run directories that look like real ones, made in a second from harmless texts.

The numbers follow the shape of a detoxification run (violations fall, KL rises and is absorbed), so
that every page has something to show. The token rows are consistent with each other: every
``kl_guided_policy`` is computed from three distributions that exist.
"""

import hashlib
import json
import math
import random
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from acft import events
from acft.runs.process import this_process
from acft.schema import TABLES, Launch, RunPaths, Status

PROMPTS = (
    ("The neighbour who plays the tuba at night is", "people"),
    ("After the meeting everyone agreed that the plan was", "work"),
    ("My grandmother's advice about stubborn goats has always been", "animals"),
    ("The referee walked off the pitch because", "sport"),
    ("What the cook said about the soup was", "food"),
    ("On the bus this morning a man told the driver", "people"),
    ("The reviewer wrote that the novel", "books"),
    ("In the comment section somebody called the cat", "animals"),
    ("The weather forecaster admitted that", "weather"),
    ("Half of the choir thinks the conductor", "music"),
)
CALM = (
    " a patient teacher who explains everything twice and never raises her voice",
    " worth another look once the budget for the garden has been settled",
    " that kindness costs nothing and a warm coat is a good friend",
    " the second half would be better for the players and the crowd",
    " with a little more salt and a lot less hurry it would be perfect",
)
RUDE = (
    " a grumpy old nuisance and a silly fool who ought to be ashamed",
    " the dumbest rubbish anybody has ever had to sit through, frankly",
    " that stupid goats and stupid people deserve each other",
    " he was a clumsy clown and a terrible joke of an official",
    " it tasted like a rotten sock and so did his apology",
)
SCORERS = ("jigsaw_tcc", "profanity_svm", "jigsaw_toxblock")
RUDE_WORDS = {"grumpy", "nuisance", "silly", "fool", "dumbest", "rubbish", "stupid", "clumsy",
              "clown", "terrible", "joke", "rotten", "sock"}  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """How big the synthetic run is and in which state it is left."""

    rounds: int = 3
    steps_per_round: int = 12
    prompts: int = 10
    samples: int = 4
    sequences: int = 3
    seed: int = 0
    state: str = "finished"
    title: str = "Detoxify SmolLM2, quickstart"
    failure: str = ""
    message: str = ""
    advice: str = ""
    hostile_text: str = ""
    """Put in place of some responses; for tests that attack the screen."""
    tampered: float = 0.0
    """Nats added to one token of every round after its sum was logged."""


class _Writer:
    def __init__(self, root: Path, start: float) -> None:
        self.paths = RunPaths(root)
        self.paths.shards.mkdir(parents=True)
        self.time = start
        self.seq = 0
        self.lines: list[str] = []

    def say(self, event: events.Event, seconds: float = 0.4) -> None:
        self.seq += 1
        self.time += seconds
        self.lines.append(events.to_json(event, self.seq, self.time))

    def seal(self, table: str, round_index: int, rows: list[dict[str, Any]]) -> None:
        name = f"{table}-{self.seq:06d}.parquet"
        path = self.paths.shards / name
        pq.write_table(pa.Table.from_pylist(rows, schema=TABLES[table]), path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self.say(events.ShardSealed(table, name, len(rows), digest, round_index))

    def finish(self, status: Status) -> None:
        self.paths.events.write_text("".join(f"{line}\n" for line in self.lines), "utf-8")
        self.paths.status.write_text(json.dumps(asdict(status)), "utf-8")


def write_run(root: Path, run_id: str, shape: Shape = Shape(), start: float = 1.79e9) -> Path:
    """The folder of a complete run directory under ``root``."""
    folder = root / run_id
    writer = _Writer(folder, start)
    rng = random.Random(shape.seed)
    writer.say(events.Started(pid=4242, facts={"device": "cpu", "dtype": "float32"}))
    _evaluate(writer, rng, shape, subject="base", version=0, rudeness=0.45)
    done = shape.rounds if shape.state == "finished" else max(1, shape.rounds - 1)
    for index in range(1, done + 1):
        _round(writer, rng, shape, index)
    if shape.state == "finished":
        _evaluate(writer, rng, shape, subject="policy", version=shape.rounds, rudeness=0.1)
        writer.say(events.BestCheckpoint(done, f"checkpoints/round-{done}",
                                         "lowest toxicity within 3 % perplexity"))  # fmt: skip
    if shape.state in {"finished", "stopped", "failed"}:
        writer.say(events.Finished(shape.state, shape.failure, shape.message))
    _settings(writer, shape, run_id)
    writer.finish(_status(writer, shape, start, done))
    return folder


def _status(writer: _Writer, shape: Shape, start: float, done: int) -> Status:
    status = Status(
        state=shape.state, pid=4242, pid_started=start, boot_id="synthetic", created=start - 2,
        started=start, heartbeat=writer.time, round=done, rounds=shape.rounds,
        step=done * shape.steps_per_round, steps=shape.rounds * shape.steps_per_round,
        phase="fit_policy", events=writer.seq, failure=shape.failure, message=shape.message,
        advice=shape.advice,
    )  # fmt: skip
    if shape.state in {"finished", "stopped", "failed"}:
        code = 0 if shape.state != "failed" else 1
        return replace(status, ended=writer.time, exit_code=code, seconds_left=0.0)
    if shape.state == "lost":
        return replace(status, state="running", boot_id="an earlier boot", seconds_left=42.0)
    me = this_process()
    return replace(
        status, seconds_left=42.0, pid=me.pid, pid_started=me.started, boot_id=me.boot_id,
        heartbeat=time.time(), heartbeat_clock=time.monotonic(), started=time.time() - 90,
    )  # fmt: skip


def _settings(writer: _Writer, shape: Shape, run_id: str) -> None:
    spec = (
        f'title = "{shape.title}"\nseed = {shape.seed}\n\n[schedule]\nrounds = {shape.rounds}\n\n'
        f"[optimizer]\nsteps_per_round = {shape.steps_per_round}\n\n[method]\n"
        'name = "acft"\nkl_weight = 1.0\n'
    )
    writer.paths.spec.write_text(spec, "utf-8")
    writer.paths.launch.write_text(json.dumps(asdict(Launch(created=1.0))), "utf-8")
    resolved = {
        "run_id": run_id,
        "settings": {
            "title": shape.title, "seed": shape.seed, "schedule": {"rounds": shape.rounds},
            "method": {"name": "acft", "kl_weight": 1.0, "delta": 1.0},
        },
        "facts": {"model": {"name": "smollm2-135m", "sha256": "5f" * 32}},
        "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
    }  # fmt: skip
    writer.paths.resolved.write_text(json.dumps(resolved, indent=1), "utf-8")
    writer.paths.log.write_text(f"run {run_id}: {shape.rounds} rounds on cpu\nround 1 …\n", "utf-8")


def _round(writer: _Writer, rng: random.Random, shape: Shape, index: int) -> None:
    rudeness = 0.45 * 0.62**index
    samples = shape.prompts * shape.samples
    for done in (samples // 2, samples):
        writer.say(
            events.Progress(events.Phase.SAMPLE_ORACLE, done, samples, index, "rollouts"), 1.2
        )
    rollouts = _rollouts(rng, shape, f"r{index}", "oracle", "policy", index - 1, rudeness, index)
    _seal_rollouts(writer, rollouts, index)
    satisfied = sum(row["satisfaction"] > 0.5 for row in rollouts) / len(rollouts)
    writer.say(events.Scalars(index, (index - 1) * shape.steps_per_round, {
        "oracle/bce_validation": 0.5 - 0.05 * index,
        "oracle/strength": 3.0, "time/sample_seconds": 8.0 + rng.random(),
        "time/oracle_seconds": 4.0 + rng.random(),
    }))  # fmt: skip
    writer.say(_calibration(rng, index))
    for step in range(1, shape.steps_per_round + 1):
        total = (index - 1) * shape.steps_per_round + step
        writer.say(events.Progress("fit_policy", step, shape.steps_per_round, index))
        writer.say(events.Scalars(index, total, _step_values(rng, total, index)))
    writer.seal("guidance", index, _guidance(rng, shape, index, rollouts))
    writer.say(events.Scalars(index, index * shape.steps_per_round, {
        "rollout/satisfaction": satisfied, "rollout/satisfaction_low": satisfied - 0.07,
        "rollout/satisfaction_high": min(1.0, satisfied + 0.06),
        "rollout/toxic_share/jigsaw_tcc": 1 - satisfied,
        "utility/perplexity_validation": 21.0 + 0.1 * index,
        "policy/kl_policy_base": 0.02 * index, "memory/peak_bytes": 1.4e9,
        "budget/texts/jigsaw_toxblock": 800.0, "budget/sampled_tokens/training": 16_000.0,
        "budget/trained_tokens": 5_000.0,
    }))  # fmt: skip
    if index == 2:
        writer.say(events.Note("warning", "KL(guided || policy) doubled within 10 steps",
                               index, index * shape.steps_per_round))  # fmt: skip
    folder = writer.paths.checkpoint(index)
    folder.mkdir(parents=True)
    writer.say(events.RoundFinished(index, f"checkpoints/round-{index}", index, index))


def _step_values(rng: random.Random, step: int, index: int) -> dict[str, float]:
    decay = math.exp(-step / 14)
    noise = rng.gauss
    return {
        "policy/loss": 3.55 + 0.5 * decay + noise(0, 0.03),
        "policy/ce": 3.42 + 0.3 * decay + noise(0, 0.02),
        "policy/kl_guided_policy": 0.06 + 0.16 * decay + abs(noise(0, 0.008)),
        "policy/kl_policy_guided": 0.05 + 0.12 * decay + abs(noise(0, 0.007)),
        "policy/kl_weight": 1.0 + 0.1 * index,
        "policy/grad_norm": 0.8 + abs(noise(0, 0.1)),
        "policy/lr": 5e-4,
        "time/tokens_per_second": 900 + noise(0, 25),
    }


def _calibration(rng: random.Random, index: int) -> events.Calibration:
    bins = []
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        observed = min(1.0, low + 0.1 + rng.gauss(0, 0.04))
        bins.append({"low": low, "high": low + 0.2, "predicted": low + 0.1,
                     "observed": observed, "n": 40.0 + rng.randrange(60)})  # fmt: skip
    positions: list[dict[str, float | None]] = [
        {"position": float(p), "auc": 0.78 + 0.007 * p, "brier": 0.16 - 0.004 * p, "n": 120.0}
        for p in range(20)
    ]
    return events.Calibration(
        index, index, 120, 30,
        {"auc": 0.88, "auc_last_third": 0.93, "auc_within_prompt": 0.82, "brier": 0.12,
         "brier_constant": 0.17, "bce": 0.39, "bce_constant": 0.52}, bins, positions,
    )  # fmt: skip


def _rollouts(
    rng: random.Random, shape: Shape, prefix: str, purpose: str, subject: str,
    version: int, rudeness: float, round_index: int,
) -> list[dict[str, Any]]:  # fmt: skip
    rows = []
    for number, (prompt, category) in enumerate(PROMPTS[: shape.prompts]):
        for sample in range(shape.samples):
            is_rude = rng.random() < rudeness
            text = rng.choice(RUDE if is_rude else CALM)
            if shape.hostile_text and sample == 0:
                text = shape.hostile_text
            words = text.split()
            rows.append({
                "rollout_id": f"{prefix}-{subject}-{number}-{sample}", "round": round_index,
                "purpose": purpose, "subject": subject, "policy_version": version,
                "prompt_id": f"p{number}", "prompt_split": purpose if purpose != "oracle"
                else "train", "prompt_category": category, "sample": sample,
                "prompt_text": prompt, "response_text": text,
                "response_ids": [hash_id(w) for w in words], "n_tokens": len(words),
                "logprob": -2.9 * len(words) + rng.gauss(0, 2), "log_weight": 0.0,
                "satisfaction": 1 - _toxicity(rng, text),
            })  # fmt: skip
    return rows


def hash_id(word: str) -> int:
    """A stable fake token id below 49,152."""
    return int(hashlib.sha256(word.encode()).hexdigest()[:8], 16) % 49152


def _toxicity(rng: random.Random, text: str) -> float:
    hits = sum(word.strip(",") in RUDE_WORDS for word in text.split())
    return min(0.97, 0.03 + 0.33 * hits + 0.04 * rng.random())


def _seal_rollouts(writer: _Writer, rows: list[dict[str, Any]], round_index: int) -> None:
    writer.seal("rollouts", round_index, rows)
    writer.seal("scores", round_index, _scores(rows, round_index))


def _scores(rows: list[dict[str, Any]], round_index: int) -> list[dict[str, Any]]:
    rng = random.Random(round_index)
    return [
        {"rollout_id": row["rollout_id"], "scorer": scorer, "scorer_version": "1",
         "value": min(1.0, max(0.0, 1 - row["satisfaction"] + rng.gauss(0, 0.05)))}
        for row in rows
        for scorer in SCORERS
    ]  # fmt: skip


def _evaluate(
    writer: _Writer, rng: random.Random, shape: Shape, subject: str, version: int, rudeness: float
) -> None:
    n = shape.prompts * shape.samples
    for done in range(0, n + 1, shape.samples):
        writer.say(events.Progress("evaluate", done, n, shape.rounds if version else 0, "rollouts"))
    rows = _rollouts(rng, shape, f"e{version}", "test", subject, version, rudeness,
                     shape.rounds if version else 0)  # fmt: skip
    _seal_rollouts(writer, rows, shape.rounds if version else 0)
    toxic = sum(row["satisfaction"] < 0.5 for row in rows) / n
    for scorer in SCORERS[:2]:
        half = 1.96 * math.sqrt(max(toxic * (1 - toxic), 1e-4) / n)
        writer.say(events.Evaluated(
            f"rtp/{scorer}", "toxic_share", subject, toxic, n, half / 1.96,
            max(0.0, toxic - half), min(1.0, toxic + half), version,
        ))  # fmt: skip
    perplexity = 21.0 + 0.12 * version
    writer.say(events.Evaluated("perplexity", "perplexity/sotu", subject, perplexity, 32, 0.4,
                                perplexity - 0.8, perplexity + 0.8, version))  # fmt: skip


def _guidance(
    rng: random.Random, shape: Shape, index: int, rollouts: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for rollout in rollouts[: shape.sequences]:
        log_r = -0.6
        words = rollout["prompt_text"].split() + rollout["response_text"].split()
        n_prompt = len(rollout["prompt_text"].split())
        for position, word in enumerate(words):
            spoiled = word.strip(",") in RUDE_WORDS
            log_r = max(-6.0, min(-0.02, log_r + (-1.4 if spoiled else 0.05)))
            in_response = position >= n_prompt
            rows.append(_token(rng, rollout, index, position, word, log_r, spoiled, in_response))
    _log_sums(rows, shape.tampered)
    return rows


def _log_sums(rows: list[dict[str, Any]], tampered: float) -> None:
    """Adds what the training pass would have summed; then ``tampered`` nats to the first token."""
    sums: dict[str, float] = {}
    for row in rows:
        paid = float(np.float32(row["kl_guided_policy"] or 0.0)) if row["in_loss"] else 0.0
        sums[row["sequence_id"]] = sums.get(row["sequence_id"], 0.0) + paid
    for row in rows:
        row["kl_logged"] = sums[row["sequence_id"]]
    first = next(row for row in rows if row["in_loss"])
    first["kl_guided_policy"] += tampered


def _token(
    rng: random.Random, rollout: dict[str, Any], index: int, position: int, word: str,
    log_r: float, spoiled: bool, in_response: bool,
) -> dict[str, Any]:  # fmt: skip
    names = [word, "kind", "calm", "silly", "warm", "plain", "old", "new", "quiet", "loud"]
    base = _softmax([rng.gauss(1.5 if i == 0 else 0, 1) for i in range(len(names))])
    tilt = [-2.0 if (n in RUDE_WORDS or (i == 0 and spoiled)) else 0.1 for i, n in enumerate(names)]
    guided = _softmax([math.log(p) + t for p, t in zip(base, tilt, strict=True)])
    absorbed = min(1.0, 0.3 * index)
    policy = _softmax([
        (1 - absorbed) * math.log(b) + absorbed * math.log(g)
        for b, g in zip(base, guided, strict=True)
    ])  # fmt: skip
    kl = sum(g * math.log(g / p) for g, p in zip(guided, policy, strict=True))
    alternatives = [
        {"id": hash_id(name), "text": f" {name}", "base": math.log(b), "policy": math.log(p),
         "guided": math.log(g)}
        for name, b, p, g in zip(names, base, policy, guided, strict=True)
    ]  # fmt: skip
    shared = {
        "sequence_id": rollout["rollout_id"], "source": "rollout", "round": index,
        "step": index * 12, "policy_version": index - 1, "oracle_version": index,
        "position": position, "token_id": hash_id(word),
        "token_text": word if position == 0 else f" {word}", "in_loss": in_response,
    }  # fmt: skip
    if position == 0:
        return shared
    return shared | {
        "logprob_base": math.log(base[0]), "logprob_policy": math.log(policy[0]),
        "logprob_guided": math.log(guided[0]), "log_r": log_r, "kl_guided_policy": kl,
        "entropy": -sum(p * math.log(p) for p in policy),
        "alternatives": json.dumps(alternatives),
    }  # fmt: skip


def _softmax(logits: list[float]) -> list[float]:
    top = max(logits)
    weights = [math.exp(value - top) for value in logits]
    return [weight / sum(weights) for weight in weights]


def write_many(root: Path) -> None:
    """Several runs in different states, for looking at the pages."""
    write_run(root, "20261122-140000-quik")
    write_run(root, "20261122-120000-ctrl", Shape(title="Control, KL weight 0", seed=1))
    write_run(root, "20261122-150000-live", Shape(state="running", seed=2, rounds=4,
                                                 title="Longer horizon"))  # fmt: skip
    write_run(root, "20261122-110000-oomx", Shape(
        state="failed", seed=3, failure="oom", title="Batch of 64",
        message="the device ran out of memory at step 12 (peak 23.1 GiB of 23.5 GiB)",
        advice="lower optimizer.micro_batch_size from 64 to 8, or optimizer.max_tokens",
    ))  # fmt: skip
    write_run(root, "20261121-090000-last", Shape(state="lost", seed=4, title="Overnight"))


if __name__ == "__main__":
    import sys

    write_many(Path(sys.argv[1]))
