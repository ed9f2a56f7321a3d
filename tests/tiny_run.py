"""A real run of the real method on a model of a few thousand weights; takes seconds."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from acft.eventlog import read_events
from acft.events import Evaluated, Scalars
from acft.runs.launcher import create_here
from acft.runs.spec import parse_spec
from acft.runs.worker import run_worker
from acft.schema import RunPaths
from tests.fakes import save_tiny_model
from tests.toy_runs import largest_difference

TOLERANCE = 1e-4
NOUNS = ("sun", "moon", "rain", "wind", "snow", "hail", "fog", "dew", "ice", "sky", "sea", "sand")
PROMPTS = [f"{verb} the {noun}" for verb in ("See", "Hear", "Paint") for noun in NOUNS]
LINES = [f"In year {n} the harvest was good, the river {n * 7} feet deep." for n in range(40)]

SETTINGS = """
[model]
name = {model}
[prompts]
source = {prompts}
[[corpus]]
source = "base_rollouts"
domain = "attribute"
max_documents = 8
[[corpus]]
source = {lines}
[[constraint]]
kind = "pattern"
pattern = "[a-m]{{2}}"
must = "not_occur"
[sampling]
horizon = 6
[schedule]
rounds = 2
threads = 1
[oracle]
rollouts_per_round = 48
validation_rollouts = 24
max_epochs = 2
width = 8
strength = 1.5
[optimizer]
steps_per_round = 2
batch_size = 4
micro_batch_size = 2
max_tokens = 40
warmup_steps = 1
lr = 1e-2
[evaluation]
scorers = []
validation_prompts = 4
validation_continuations = 2
test_prompts = 4
continuations = 2
perplexity_documents = 4
"""


def tiny_settings(folder: Path, **shape) -> str:
    """Settings whose model, prompts and texts lie in ``folder``."""
    save_tiny_model(folder / "model", **shape)
    (folder / "prompts.txt").write_text("\n".join(PROMPTS))
    (folder / "lines.txt").write_text("\n".join(LINES))
    places = {"model": "model", "prompts": "prompts.txt", "lines": "lines.txt"}
    return SETTINGS.format(**{k: json.dumps(str(folder / v)) for k, v in places.items()})


def train(text: str, runs_dir: Path, *overrides: str) -> tuple[RunPaths, int]:
    """The run after training in this process, and the worker's exit code."""
    spec = parse_spec(text, overrides)
    paths = create_here(runs_dir, spec)
    return paths, run_worker(paths)


def scalars(paths: RunPaths) -> dict[tuple, float]:
    """Every number but times, by round, step and name."""
    return {
        (entry.event.round, entry.event.step, name): value
        for entry in read_events(paths.events)
        if isinstance(entry.event, Scalars)
        for name, value in entry.event.values.items()
        if not name.startswith(("time/", "memory/", "budget/seconds/"))
    }


def report(paths: RunPaths) -> dict[tuple, float]:
    """Every measured value of the run's own report, by suite, metric and subject."""
    events = [entry.event for entry in read_events(paths.events)]
    return {
        (event.suite, event.metric, event.subject): event.value
        for event in events
        if isinstance(event, Evaluated) and event.value is not None
    }


def check_same(alone: RunPaths, together: RunPaths, weights: str) -> None:
    """Fails unless both runs said the same numbers and ended with the same weights."""
    for numbers in (scalars, report):
        expected, found = numbers(alone), numbers(together)
        assert found.keys() == expected.keys()
        assert [found[key] for key in expected] == pytest.approx(
            list(expected.values()), rel=TOLERANCE, abs=TOLERANCE
        )
    files = [
        paths.root / "checkpoints" / "round-2" / "policy" / weights for paths in (alone, together)
    ]
    assert largest_difference(*map(load_file, files)) < TOLERANCE
