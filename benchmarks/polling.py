"""How much ten open browser tabs slow two runs, and how fast pages answer meanwhile.

    python -m benchmarks.polling                 # about ten minutes; needs the packaged model
    python -m benchmarks.polling --windows 1 --seconds 20      # a smoke test

A workbench over fifty runs trains two of them, one thread each. In turn the tabs are closed and
open; the share by which a training step takes longer while they are open is what polling costs.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acft.eventlog import read_events
from acft.events import Scalars
from acft.runs.status import current_state
from acft.schema import RunPaths
from acft.ui.page import POLL_SECONDS
from benchmarks.synthetic_runs import Size, write_runs
from benchmarks.workbench import workbench

HISTORY = Size(runs=48, rounds=3, rollouts=200, guidance_rows=2_000)
CLIENTS = 10
WORKING = ("queued", "starting", "running")
BARS = {"slowest page query, s": 1.0, "steps take longer, share": 0.05}
SPEC = """
title = "polled"
device = "cpu"
[model]
name = "smollm2-135m"
[[corpus]]
source = "sotu"
[prompts]
source = "realtoxicityprompts"
[[constraint]]
kind = "scorer"
scorer = "jigsaw_toxblock"
[schedule]
rounds = 1
threads = 1
[optimizer]
steps_per_round = 100000
batch_size = 2
micro_batch_size = 2
max_tokens = 32
[evaluation]
scorers = ["profanity_svm"]
validation_prompts = 2
validation_continuations = 2
test_prompts = 2
continuations = 2
perplexity_documents = 2
[method]
name = "sft"
"""


@dataclass
class Tab:
    """One browser tab, which asks as its page's timer does."""

    address: str
    page: str
    run_id: str
    number: int
    seconds: list[float] = field(default_factory=list)

    def poll(self, config: dict[str, Any], closed: threading.Event) -> None:
        """Opens the page, then asks again and again until it is closed."""
        mine = set(config["page"][self.page]["dependencies"])
        by_event = {
            event: function
            for function in config["dependencies"]
            if function["id"] in mine
            for _, event in function["targets"]
        }
        self._ask(by_event["load"])
        while not closed.wait(POLL_SECONDS):
            start = time.perf_counter()
            self._ask(by_event["tick"])
            self.seconds.append(time.perf_counter() - start)

    def _ask(self, function: dict[str, Any]) -> None:
        query = f"?run={self.run_id}" if self.run_id else ""
        body = {
            "fn_index": function["id"],
            "data": [None] * len(function["inputs"]),
            "session_hash": f"tab{self.number}",
        }
        _post(f"{self.address}/gradio_api/run/predict{query}", body, self.address)


def main() -> int:
    """0 when both bars are met, 1 when one is missed."""
    args = _arguments()
    with tempfile.TemporaryDirectory(prefix="acft-polling-") as folder:
        root = Path(folder) / "runs"
        for _ in write_runs(root, HISTORY):
            pass
        with workbench(root) as address, _training(root, Path(folder)) as runs:
            pairs, tabs = _alternate(address, runs, args.windows, args.seconds)
    waits = sorted(second for tab in tabs for second in tab.seconds)
    results = {
        "queries": len(waits),
        "median page query, s": statistics.median(waits),
        "slowest page query, s": waits[-1],
        "step with tabs closed, s": statistics.median(closed for closed, _ in pairs),
        "step with tabs open, s": statistics.median(opened for _, opened in pairs),
        "steps take longer, share": statistics.median(
            opened / closed - 1 for closed, opened in pairs
        ),
        "windows": len(pairs),
        "shares": [round(opened / closed - 1, 3) for closed, opened in pairs],
    }
    missed = [name for name, bar in BARS.items() if results[name] > bar]
    print(json.dumps(results | {"missed": missed}, indent=2))
    return int(bool(missed))


def _alternate(
    address: str, runs: list[RunPaths], windows: int, seconds: float
) -> tuple[list[tuple[float, float]], list[Tab]]:
    """Seconds of a step with tabs closed and open, window by window and run by run; the tabs."""
    pairs, tabs = [], []
    for number in range(windows):
        closed = _watched(runs, seconds)
        with _open_tabs(address, [run.root.name for run in runs]) as opened:
            during = _watched(runs, seconds)
        pairs += zip(closed, during, strict=True)
        tabs += opened
        print(f"window {number + 1} of {windows} done", file=sys.stderr, flush=True)
    return pairs, tabs


@contextmanager
def _open_tabs(address: str, run_ids: list[str]) -> Iterator[list[Tab]]:
    """Half the tabs on the list of runs, the others on the two runs."""
    tabs = [
        Tab(address, "run" if n % 2 else "", run_ids[n // 2 % 2] if n % 2 else "", n)
        for n in range(CLIENTS)
    ]
    with urllib.request.urlopen(f"{address}/config", timeout=60) as answer:
        config = json.load(answer)
    closed = threading.Event()
    threads = [threading.Thread(target=tab.poll, args=(config, closed)) for tab in tabs]
    for thread in threads:
        thread.start()
    try:
        yield tabs
    finally:
        closed.set()
        for thread in threads:
            thread.join()


def _watched(runs: list[RunPaths], seconds: float) -> list[float]:
    """Seconds a training step of each run took, on average over the window."""
    before = [_step(run) for run in runs]
    time.sleep(seconds)
    after = [_step(run) for run in runs]
    return [
        (end_time - start_time) / max(1, end - start)
        for (start, start_time), (end, end_time) in zip(before, after, strict=True)
    ]


def _step(run: RunPaths) -> tuple[int, float]:
    """The last step logged and when, in seconds."""
    logged = [
        (entry.event.step, entry.time)
        for entry in read_events(run.events)
        if isinstance(entry.event, Scalars) and "policy/loss" in entry.event.values
    ]
    return logged[-1] if logged else (0, 0.0)


@contextmanager
def _training(root: Path, folder: Path) -> Iterator[list[RunPaths]]:
    """Two runs that have begun to train; stopped in the end."""
    spec = folder / "polled.toml"
    spec.write_text(SPEC)
    runs = []
    for seed in (1, 2):
        found = _acft("launch", str(spec), "--set", f"seed={seed}", "--json", "--runs", str(root))
        runs.append(RunPaths(root / json.loads(found)["run_ids"][0]))
    try:
        while not all(run.events.exists() and _step(run)[0] > 2 for run in runs):
            labels = [current_state(run)[1].label for run in runs]
            if not all(current_state(run)[1].state in WORKING for run in runs):
                raise SystemExit(f"a run did not come to train: {labels}")
            time.sleep(1)
        yield runs
    finally:
        for run in runs:
            _acft("stop", run.root.name, "--now", "--runs", str(root))


def _acft(*arguments: str) -> str:
    command = [sys.executable, "-m", "acft", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _post(address: str, body: dict[str, Any], origin: str) -> None:
    request = urllib.request.Request(
        address, json.dumps(body).encode(), {"Content-Type": "application/json", "Origin": origin}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--windows", type=int, default=4, help="pairs of closed and open")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of half a pair")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
