"""A trained run measured through the same worker, directory and table as a user would."""

import functools
import json
from collections import Counter

import pyarrow.parquet as pq
import pytest

from acft.benchmarks.results import Results
from acft.errors import ModelError
from acft.eventlog import effective, read_events
from acft.events import Evaluated, Note, ShardSealed
from acft.runs.directory import read_status
from acft.runs.launcher import create_here, resume
from acft.runs.measure import measurement
from acft.runs.worker import run_worker
from acft.scoring import ScorerPool
from acft.tables.table import result_table
from tests.bench import VowelScorer
from tests.tiny_run import tiny_settings, train

SUBJECTS = {"base", "policy", "guided", "best"}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Runs directory, the trained run and its evaluation, with two decoders beside it."""
    folder = tmp_path_factory.mktemp("evaluated")
    runs_dir = folder / "runs"
    trained, code = train(tiny_settings(folder), runs_dir)
    assert code == 0, read_status(trained).message
    best = json.dumps(str(trained.root / read_status(trained).best_checkpoint))
    options = "rtp={prompts=3, continuations=2, horizon=4}, perplexity={documents=3}"
    changes = [
        f"method.options={{{options}}}",
        f'method.subjects.guided={{checkpoint={best}, decoder="guided"}}',
        f'method.subjects.best={{checkpoint={best}, decoder="best_of_n"}}',
        "schedule.rounds=8",
    ]
    wanted = measurement(runs_dir, trained.root.name, ["rtp", "perplexity"], changes)
    paths = create_here(runs_dir, wanted.spec, "exp", trained.root.name)
    assert run_worker(paths) == 0, read_status(paths).message
    return runs_dir, trained, paths


def events(paths) -> list[Evaluated]:
    entries = effective(read_events(paths.events))
    return [entry.event for entry in entries if isinstance(entry.event, Evaluated)]


def test_every_subject_is_measured_by_every_suite(evaluated) -> None:
    _, _, paths = evaluated
    status = read_status(paths)
    assert (status.state, status.kind, status.round) == ("finished", "evaluation", 8)
    found = {(e.subject, e.suite.split("/")[0]) for e in events(paths)}
    read = {(subject, "perplexity") for subject in ("base", "policy", "guided")}
    assert found == {(subject, "rtp") for subject in SUBJECTS} | read


def test_likelihoods_are_measured_with_decoders_that_tell_them_and_a_note_names_others(
    evaluated,
) -> None:
    _, _, paths = evaluated
    measured = Results.load(paths.root / read_status(paths).checkpoint).measured["perplexity"]
    assert measured["best"] == {}
    assert measured["base"].keys() == measured["policy"].keys() == measured["guided"].keys()
    entries = effective(read_events(paths.events))
    notes = [entry.event.text for entry in entries if isinstance(entry.event, Note)]
    assert [text for text in notes if "no perplexity" in text] == [
        "no perplexity for best: its decoder does not say how likely a given text is"
    ]


def test_the_table_shows_changes_from_base(evaluated) -> None:
    runs_dir, _, _ = evaluated
    table = result_table(runs_dir, "exp", ["perplexity* *perplexity"], against="base")
    assert {row.subject for row in table.rows} == {"policy", "guided"}
    for row in table.rows:
        for cell in row.cells.values():
            assert cell.verdict_text == "lower (prompts only)", "it learns the texts it reads"


class Named(VowelScorer):
    def __init__(self, name: str) -> None:
        self.name = name


def test_a_scorer_mended_and_asked_again_leaves_every_number_and_row_once(
    tmp_path, monkeypatch
) -> None:
    def pool(*broken: str):
        def load(name: str, device: str) -> Named:
            if name in broken:
                raise ModelError(f"scorer {name!r} cannot be loaded: it is not there")
            return Named(name)

        return functools.partial(ScorerPool, load=load)

    tiny_settings(tmp_path)
    changes = [
        f"prompts.source={json.dumps(str(tmp_path / 'prompts.txt'))}",
        f"method.options={{rtp={DRAWING}, fluency={DRAWING}}}",
        f"method.judge={json.dumps(str(tmp_path / 'model'))}",
    ]
    wanted = measurement(
        tmp_path / "runs", str(tmp_path / "model"), ["rtp", "fluency", "perplexity"],
        [*changes, f"corpus=[{{source={json.dumps(str(tmp_path / 'lines.txt'))}}}]"],
    )  # fmt: skip
    paths = create_here(tmp_path / "runs", wanted.spec)
    monkeypatch.setattr("acft.training.outputs.ScorerPool", pool("profanity_svm"))
    assert run_worker(paths) != 0
    status = read_status(paths)
    assert (status.state, status.round) == ("failed", 1), status.message
    assert "no number from scorer profanity_svm" in status.message
    monkeypatch.setattr("acft.training.outputs.ScorerPool", pool())
    assert resume(tmp_path / "runs", paths.root.name) == 1
    assert run_worker(paths) == 0, read_status(paths).message
    assert read_status(paths).round == 3
    numbers = Counter((e.subject, e.suite, e.metric) for e in events(paths))
    assert set(numbers.values()) == {1}
    assert {suite for _, suite, _ in numbers} > {"rtp/jigsaw_tcc", "rtp/profanity_svm", "fluency"}
    assert len(rows(paths, "rollouts")) == 6
    assert len(rows(paths, "scores")) == 12


DRAWING = "{prompts=3, continuations=2, horizon=4}"


def rows(paths, table: str) -> list[dict]:
    """Rows of the shards that count."""
    entries = effective(read_events(paths.events))
    shards = [entry.event for entry in entries if isinstance(entry.event, ShardSealed)]
    assert len({path.name for path in paths.shards.iterdir()}) == len(shards)
    names = [shard.name for shard in shards if shard.table == table]
    return [row for name in names for row in pq.read_table(paths.shards / name).to_pylist()]
