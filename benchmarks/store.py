"""The store at a million responses and twenty million token rows: ingest, pages, start, memory.

    python -m benchmarks.store                 # everything; about ten minutes and 6 GB of disk
    python -m benchmarks.store --scale 0.05    # a smoke test

Every stage runs in a process of its own, so that its memory is its own. CPU times are given beside
wall times because those of a busy machine say little.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acft import events
from acft.schema import RunPaths
from acft.store.connection import Store, open_store
from acft.store.ingest import Ingester
from acft.store.queries import audit, comparisons, evaluations, rollouts, runs, tokens
from acft.store.queries.answer import FIRST, Answer, Slice
from acft.store.rebuild import fingerprint, rebuild
from acft.ui.reading.reader import Reader
from benchmarks.synthetic_runs import Size, write_runs

REPEATS = 40
BARS = {
    "ingest rollouts, rows a second": (100_000, "at least"),
    "ingest guidance, rows a second": (500_000, "at least"),
    "slowest page query, p95 ms": (200, "at most"),
    "start on a full store, seconds": (5, "at most"),
    "event to query, seconds": (2, "at most"),
    "memory of ingest, MiB": (2048, "at most"),
    "memory of queries, MiB": (2048, "at most"),
}
TOLERANCE = 1e-4


def main() -> int:
    """0 when every bar is met, 1 when one is missed, whatever the scale."""
    args = _arguments()
    if args.stage:
        print(json.dumps(STAGES[args.stage](args.folder, args.scale)))
        return 0
    with tempfile.TemporaryDirectory(prefix="acft-benchmark-") as temporary:
        folder = args.folder or Path(temporary)
        results: dict[str, float] = {}
        for stage in STAGES:
            results |= _in_process(stage, folder, args.scale)
            print(f"{stage} done", file=sys.stderr, flush=True)
    missed = [name for name in BARS if not _is_met(name, results[name])]
    for name, value in results.items():
        bar = "{1} {0:,}".format(*BARS[name]) if name in BARS else ""
        print(f"{name:45} {value:14,.2f}  {bar}{'  MISSED' if name in missed else ''}")
    return int(bool(missed))


def generate(folder: Path, scale: float) -> dict[str, float]:
    """Writes the run directories unless they are there."""
    size = Size().scaled(scale)
    if not folder.exists() or not any(folder.iterdir()):
        folder.mkdir(parents=True, exist_ok=True)
        for _ in write_runs(folder, size):
            pass
    n_bytes = sum(file.stat().st_size for file in folder.rglob("*.parquet"))
    return {
        "runs": size.runs,
        "rollouts": size.runs * size.rounds * size.rollouts,
        "guidance rows": size.runs * size.rounds * size.guidance_rows,
        "shards on disk, MB": n_bytes / 1e6,
    }


def ingest_parts(folder: Path, _scale: float) -> dict[str, float]:
    """Speed of each large table alone."""
    result = {}
    for name, tables in (
        ("rollouts", ("rollouts", "scores")),
        ("guidance", ("guidance",)),
    ):
        with tempfile.TemporaryDirectory() as temporary:
            store = open_store(folder, Path(temporary) / "part.duckdb")
            start, cpu = time.perf_counter(), time.process_time()
            Ingester(store, tables=tables).poll()
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
            rows = store.rows(f"SELECT count(*) FROM {name}")[0][0]
            store.close()
        result[f"ingest {name}, rows a second"] = rows / seconds
        result[f"ingest {name}, rows a CPU second"] = rows / cpu
    return result


def ingest_all(folder: Path, _scale: float) -> dict[str, float]:
    """Everything into the database that the next stages use."""
    for file in folder.glob("store.duckdb*"):
        file.unlink()
    store = open_store(folder)
    start = time.perf_counter()
    n_events = Ingester(store).poll()
    seconds = time.perf_counter() - start
    again = Ingester(store).poll()
    assert again == 0, "a second pass found something new"
    store.close()
    return {
        "ingest everything, seconds": seconds,
        "events": n_events,
        "database, MB": (folder / "store.duckdb").stat().st_size / 1e6,
        "memory of ingest, MiB": _peak_mib(),
    }


def open_full(folder: Path, _scale: float) -> dict[str, float]:
    """What the workbench does before its first page: open, look for news, list runs."""
    start = time.perf_counter()
    store = open_store(folder)
    Ingester(store).poll()
    Reader(folder).runs()
    seconds = time.perf_counter() - start
    store.close()
    return {"start on a full store, seconds": seconds}


def ask_pages(folder: Path, _scale: float) -> dict[str, float]:
    """The 95th percentile of every page query over random runs, rounds and sequences, in ms."""
    store = open_store(folder)
    names = [name for (name,) in store.rows("SELECT run_id FROM runs ORDER BY run_id")]
    result, work = {}, {}
    for label, ask in QUESTIONS.items():
        seconds, cpu = [], []
        visit = Visit(store, names, random.Random(0))
        for _ in range(REPEATS):
            start, cpu_start = time.perf_counter(), time.process_time()
            ask(visit)
            seconds.append(time.perf_counter() - start)
            cpu.append(time.process_time() - cpu_start)
        result[f"  {label}, p95 ms"] = _p95_ms(seconds)
        work[label] = _p95_ms(cpu)
    store.close()
    return {
        **result,
        "slowest page query, p95 ms": max(result.values()),
        "slowest page query, p95 ms of CPU": max(work.values()),
        "memory of queries, MiB": _peak_mib(),
    }


def live(folder: Path, _scale: float) -> dict[str, float]:
    """Longest time from the writing of an event to its sight by a query, in seconds."""
    store = open_store(folder)
    ingester = Ingester(store)
    ingester.start()
    run_id, seq = store.rows("SELECT run_id, seq FROM positions ORDER BY run_id LIMIT 1")[0]
    waits = []
    with RunPaths(folder / run_id).events.open("a") as file:
        for number in range(seq + 1, seq + 6):
            note = events.Note("info", "written by the benchmark")
            file.write(events.to_json(note, number, time.time()) + "\n")
            file.flush()
            start = time.perf_counter()
            while not store.rows(
                "SELECT 1 FROM events WHERE run_id = $run_id AND seq = $seq",
                {"run_id": run_id, "seq": number},
            ):
                time.sleep(0.01)
            waits.append(time.perf_counter() - start)
    ingester.stop()
    store.close()
    return {"event to query, seconds": max(waits)}


def rebuild_equal(folder: Path, _scale: float) -> dict[str, float]:
    """Makes the database again and compares all rows."""
    store = open_store(folder)
    Ingester(store).poll()
    before = fingerprint(store)
    store.close()
    start = time.perf_counter()
    rebuild(folder)
    seconds = time.perf_counter() - start
    store = open_store(folder)
    assert fingerprint(store) == before, "the database made again has other rows"
    store.close()
    return {"rebuild with equal rows, seconds": seconds}


@dataclass(frozen=True)
class Visit:
    """One opening of a page, at random."""

    store: Store
    names: list[str]
    rng: random.Random

    @property
    def run_id(self) -> str:
        return self.rng.choice(self.names)

    @property
    def round(self) -> int:
        return self.rng.randint(1, 10)

    @property
    def sequence_id(self) -> str:
        return f"r{self.round}-{self.rng.randint(0, 99):05d}"

    def rollouts(self, order_by: str = "round", part: Slice = FIRST, **wanted: Any) -> Answer:
        filtered = rollouts.RolloutFilter(**wanted)
        return rollouts.rollouts(
            self.store, self.run_id, filtered, order_by=order_by, descending=True, part=part
        )


QUESTIONS: dict[str, Callable[[Visit], object]] = {
    "runs: differences": lambda v: runs.settings_difference(v.store, v.names[:10]),
    "run: measured before": lambda v: runs.measurements(v.store, v.run_id),
    "run: audit": lambda v: audit.audit(v.store, v.run_id),
    "rollouts: first page": lambda v: v.rollouts(),
    "rollouts: one round, score range, by score": lambda v: v.rollouts(
        "score:profanity_svm", round=v.round, scores=(rollouts.ScoreRange("jigsaw_tcc", 0.2, 0.5),)
    ),
    "rollouts: all by score, page 20": lambda v: v.rollouts("score:jigsaw_tcc", Slice(50, 1000)),
    "rollouts: text": lambda v: v.rollouts(text=f"W{v.rng.randint(0, 4095):x} "),
    "rollouts: regex": lambda v: v.rollouts(regex=f"w{v.rng.randint(0, 255):x}[0-9]+ w[a-f]"),
    "rollouts: histogram of a score": lambda v: rollouts.histogram(
        v.store, v.run_id, of="score:jigsaw_tcc"
    ),
    "rollouts: histogram of satisfaction": lambda v: rollouts.histogram(v.store, v.run_id),
    "rollouts: scorers": lambda v: rollouts.scorers(v.store, v.run_id),
    "rollouts: choices of a filter": lambda v: rollouts.choices(v.store, v.run_id, "round"),
    "rollouts: one": lambda v: rollouts.rollout(v.store, v.run_id, v.sequence_id),
    "tokens: sequences": lambda v: tokens.sequences(v.store, v.run_id),
    "tokens: versions": lambda v: tokens.sequence_versions(v.store, v.run_id, v.sequence_id),
    "tokens: sums of all": lambda v: tokens.sum_check(v.store, v.run_id, TOLERANCE),
    "tokens: begins at the first": lambda v: tokens.has_first_token(
        v.store, v.run_id, v.sequence_id
    ),
    "tokens: one sequence": lambda v: tokens.guidance(v.store, v.run_id, v.sequence_id),
    "tokens: most shifted, all rounds": lambda v: tokens.most_shifted(v.store, v.run_id),
    "tokens: most shifted, violated": lambda v: tokens.most_shifted(
        v.store, v.run_id, among="violated"
    ),
    "compare: votes": lambda v: comparisons.newest_votes(
        v.store, v.run_id, v.run_id, "base-0", "policy-10"
    ),
    "trade-off: what was measured": lambda v: evaluations.measures(v.store),
    "trade-off: ten runs": lambda v: evaluations.trade_off(
        v.store,
        v.names[:10],
        evaluations.Measure("toxicity/jigsaw_tcc", "toxic_share"),
        evaluations.Measure("utility/general", "perplexity"),
    ),
}
STAGES = {
    "generate": generate,
    "ingest_parts": ingest_parts,
    "ingest_all": ingest_all,
    "open_full": open_full,
    "ask_pages": ask_pages,
    "live": live,
    "rebuild_equal": rebuild_equal,
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the store.")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full size")
    parser.add_argument("--folder", type=Path, help="keep the run directories here and use again")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    return parser.parse_args()


def _p95_ms(seconds: list[float]) -> float:
    return sorted(seconds)[int(0.95 * len(seconds)) - 1] * 1000


def _in_process(stage: str, folder: Path, scale: float) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.store", "--stage", stage]
    command += ["--folder", str(folder), "--scale", str(scale)]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=root)
    return json.loads(done.stdout)


def _peak_mib() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _is_met(name: str, value: float) -> bool:
    bar, sense = BARS[name]
    return value >= bar if sense == "at least" else value <= bar


if __name__ == "__main__":
    sys.exit(main())
