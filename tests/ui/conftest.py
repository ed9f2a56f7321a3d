"""A workbench over synthetic runs: as plain objects, and served to a browser."""

import os
import threading
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from acft.errors import AcftError
from acft.inference.client import NEVER, Inference
from acft.settings import RunSettings
from acft.store.connection import open_memory_store
from acft.store.ingest import Ingester
from acft.ui.control import Control
from acft.ui.page import Visit, Workbench
from acft.ui.reading.reader import Reader
from acft.ui.web.guard import Bind, Gate
from tests.ui import synthetic

QUICK = "20261122-140000-quik"
CONTROL = "20261122-120000-ctrl"
FAILED = "20261122-110000-oomx"
LOST = "20261121-090000-last"
LIVE = "20261122-150000-live"
HOSTILE = "20261122-130000-evil"
TOKEN = "t" * 40
PRESET = 'title = "Quickstart"\n\n[schedule]\nrounds = 3\n\n[method]\nname = "acft"\n'
HERE = Bind()
ATTACKS = (
    "<img src=x onerror=\"window.hacked=1\">",
    "${window.hacked=2}",
    "{{constructor.constructor('window.hacked=3')()}}",
    "**bold** [link](javascript:window.hacked=4) <script>window.hacked=5</script>",
    "=HYPERLINK(\"http://example.org\",\"a\")",
)  # fmt: skip


LIVE_ROW = {
    "position": 1, "token_id": 5, "token_text": " typed", "logprob_base": -1.0,
    "logprob_policy": -1.1, "logprob_guided": -1.2, "log_r": -0.1, "kl_guided_policy": 0.01,
    "entropy": 2.0, "in_loss": True,
    "alternatives": '[{"id": 5, "text": " typed", "base": -1.0, "policy": -1.1, "guided": -1.2}]',
}  # fmt: skip


BASE_WEIGHTS = {"version": 0, "sha256": "ab" * 32}
TUNED_WEIGHTS = {"version": 1, "sha256": "cd" * 32}
LIVE_ANSWER = {
    "rows": [LIVE_ROW], "prompt": "a", "prompt_ids": [4], "response_ids": [5],
    "scores": {"jigsaw_tcc": 0.1},
    "weights": {"base": BASE_WEIGHTS, "tuned": TUNED_WEIGHTS, "guided": 0},
}  # fmt: skip


PREFLIGHT: dict[str, Any] = {
    "problems": [], "free_bytes": 10**10, "expected": None,
    "prompts": {"train": 6, "validation": 2, "test": 2},
    "corpora": [
        {"source": "base_rollouts", "domain": "attribute", "note": "written by the policy"},
        {"source": "sotu", "domain": "general", "documents": {"train": 5}, "n_dropped": 1,
         "n_cut": 2, "n_looked_at": 5,
         "samples": [[{"text": "A", "in_ce": False, "in_kl": False},
                      {"text": " year", "in_ce": True, "in_kl": True}]]},
    ],
}  # fmt: skip


REHEARSED: dict[str, Any] = {
    "device": "cpu", "dtype": "float32", "method": "acft", "is_whole": True, "has_kl": True,
    "checks": [{"name": "Tokenizer and model", "is_ok": True, "text": "token ids up to 48"},
               {"name": "Length", "is_ok": False, "text": "the model reads 32"}],
    "step": {"time/step_seconds": 4.2, "policy/loss": 3.1},
    "work": [{"what": "optimiser steps", "n": 60, "low": 252.0, "high": 252.0},
             {"what": "responses read by the oracle", "n": 9, "low": 60.0, "high": 300.0}],
    "seconds": [312.0, 552.0], "peak_bytes": 1_500_000_000, "memory_bytes": 8_000_000_000,
    "free_bytes": 6_000_000_000,
}  # fmt: skip


class FakeRehearsal(Inference):
    """Stands in for the process that takes one step; waits where a test says so."""

    def __init__(self, error: AcftError | None = None) -> None:
        super().__init__()
        self.error = error
        self.read = PREFLIGHT
        """What the settings read and need."""
        self.asked: list[str] = []
        self.hold = threading.Event()
        self.hold.set()

    def stream(
        self, operation: str, seconds: float = 1.0, withdrawn: threading.Event = NEVER,
        **arguments: Any,
    ) -> Iterator[Any]:  # fmt: skip
        if operation == "preflight":
            return self.read
        self.asked.append(arguments["text"])
        yield {"doing": "opening the model"}
        yield {"doing": "taking one optimiser step"}
        while not self.hold.wait(0.05):
            if withdrawn.is_set():
                raise AcftError("it was withdrawn")
        if self.error is not None:
            raise self.error
        return REHEARSED

    def close(self, reason: str = "") -> None:
        """Ends a step that a test holds."""
        self.hold.set()


WEIGHED = {
    "suites": [
        {"name": "rtp", "summary": "Toxicity.", "note": "", "why_not": ""},
        {"name": "perplexity", "summary": "Texts.", "note": "", "why_not": ""},
        {"name": "fluency", "summary": "Natural?", "note": "needs a judge model", "why_not": ""},
        {"name": "harness", "summary": "Tasks.", "note": "", "why_not": "install it"},
    ],
    "scorers": [
        {"name": "jigsaw_tcc", "summary": "A scorer.", "why_not": ""},
        {"name": "detoxify", "summary": "Another.", "why_not": "obtain it"},
    ],
    "controls": [CONTROL], "control": "", "overrides": [], "problems": [],
}  # fmt: skip


class FakeSettingsProcess(Inference):
    """Stands in for the process that checks settings."""

    def __init__(self) -> None:
        super().__init__()
        self.problems: list[str] = []
        self.launched: list[dict[str, Any]] = []

    def call(self, operation: str, seconds: float = 1.0, **arguments: Any) -> Any:
        if operation == "check":
            return self.problems
        if operation == "outline":
            settings = RunSettings.parse(tomllib.loads(arguments["text"]))
            return {"rounds": settings.schedule.rounds, "judged": 700,
                    "steps": settings.optimizer.steps_per_round, "is_counted": True}  # fmt: skip
        if operation == "launch":
            self.launched.append(arguments)
            return QUICK
        if operation == "weigh":
            numbers = arguments["numbers"]
            drawn = numbers["prompts"] * numbers["continuations"] if numbers else 0
            control = CONTROL if arguments["control"] is None else arguments["control"]
            subjects = 3 if control else 2
            work = {"drawn": subjects * drawn, "read": subjects * 200}
            return WEIGHED | {"work": work, "control": control,
                              "overrides": [*arguments["changes"]]}  # fmt: skip
        if operation == "measure":
            self.launched.append(arguments)
            return CONTROL
        if operation == "describe":
            fields = [{"name": "kl_weight", "kind": "float", "help": "Weight.", "default": 1.0,
                       "choices": [], "required": False}]  # fmt: skip
            return {"method": {"acft": {"summary": "The method.", "fields": fields}},
                    "constraint": {"scorer": {"summary": "A scorer.", "fields": []}}}  # fmt: skip
        raise AssertionError(operation)


class FakeModelProcess(Inference):
    """Stands in for the process that holds models."""

    def stream(
        self, operation: str, seconds: float = 1.0, withdrawn: threading.Event = NEVER,
        **arguments: Any,
    ) -> Iterator[Any]:  # fmt: skip
        if operation == "generate":
            for words in range(1, 4):
                for number, side in enumerate(arguments["sides"]):
                    used = side.get("weights", side["version"])
                    yield {"side": number, "texts": [" kind" * words] * arguments["samples"],
                           "weights": TUNED_WEIGHTS if used else BASE_WEIGHTS}  # fmt: skip
            return {"done": True}
        answers = {
            "identify": {"base": {"name": "m", "sha256": "ab" * 32, "source": "packaged"},
                         "tuned": {"version": 1, "sha256": "cd" * 32}, "dtype": "float32",
                         "device": "cpu", "differs": 1.0, "restored": 0.0, "is_proved": True},
            "judge": {"scores": {"jigsaw_tcc": [0.1] * len(arguments.get("texts", []))},
                      "satisfaction": [1.0, 0.25] * len(arguments.get("texts", []))},
            "score": LIVE_ANSWER
            | {"rows": [LIVE_ROW, LIVE_ROW | {"position": 2}], "response_ids": [5, 5]},
            "branch": LIVE_ANSWER,
        }  # fmt: skip
        return answers[operation]


@pytest.fixture(scope="session")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    synthetic.write_many(root)
    hostile = synthetic.Shape(seed=9, title=ATTACKS[0], hostile_text=" ".join(ATTACKS))
    synthetic.write_run(root, HOSTILE, hostile)
    return root


@pytest.fixture(scope="session")
def experiments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experiments")
    (folder / "quickstart.toml").write_text(PRESET, "utf-8")
    return folder


@pytest.fixture(scope="session")
def shared_bench(runs_dir: Path, experiments: Path) -> Workbench:
    return make_bench(runs_dir, experiments)


@pytest.fixture
def bench(shared_bench: Workbench) -> Workbench:
    settings_process: Any = FakeSettingsProcess()
    control = Control(shared_bench.reader, settings_process)
    return replace(shared_bench, settings_process=settings_process, control=control)


def make_bench(runs: Path, experiments: Path, bind: Bind = HERE) -> Workbench:
    store = open_memory_store(runs)
    ingester = Ingester(store)
    ingester.poll()
    reader = Reader(runs)
    settings_process: Any = FakeSettingsProcess()
    return Workbench(
        reader,
        Gate(TOKEN),
        bind,
        experiments,
        store,
        ingester,
        Control(reader, settings_process),
        settings_process,
        FakeModelProcess(),
        rehearsal_process=FakeRehearsal(),
    )


def visit(run: str = "", *, may_change: bool = False, data: Any = None, **query: str) -> Visit:
    parameters = {"run": run, **query} if run else dict(query)
    return Visit(parameters, data or {}, session="tab", may_change=may_change)


@dataclass(frozen=True)
class Served:
    """A running workbench."""

    address: str
    token: str
    bench: Workbench
    blocks: Any

    def link(self, path: str) -> str:
        """An address that also hands over the launch token."""
        joint = "&" if "?" in path else "?"
        return f"{self.address}{path}{joint}token={self.token}"


@pytest.fixture(scope="session")
def served(shared_bench: Workbench) -> Iterator[Served]:
    from acft.ui.app import launch
    from acft.ui.options import Options

    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    bench = replace(shared_bench, bind=Bind(port=0))
    blocks = launch(bench, Options(runs=bench.reader.runs_dir, port=0))
    yield Served(str(blocks.local_url).rstrip("/"), TOKEN, bench, blocks)
    blocks.close()
