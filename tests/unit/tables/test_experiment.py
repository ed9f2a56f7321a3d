"""A table's rows: what is missing, what is done, and the table from the first run to the last."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from acft.__main__ import main
from acft.errors import ConfigError
from acft.eventlog import Entry, read_events
from acft.events import RoundFinished, Started
from acft.methods.base import METHODS
from acft.runs.directory import all_runs, read_launch, read_status, write_status
from acft.runs.launcher import stop
from acft.runs.measure import best_checkpoint, measurement
from acft.runs.worker import run_worker
from acft.schema import Status
from acft.tables.experiment import Experiment, load_experiment
from acft.tables.packed import pack
from acft.tables.table import INTERVALS
from tests.tiny_run import tiny_settings, train

ROOT = Path(__file__).parents[3]
TABLE = """
title = "tiny"
seeds = [0, 1]
[[rows]]
name = "Base"
is_base = true
[[rows]]
name = "SFT"
changes = ['method={name="sft"}']
[[rows]]
name = "Guided"
changes = ['method={name="nado_decoding"}']
[[rows]]
name = "Quark"
changes = ['method={name="quark"}']
[variants.small]
file = "settings.toml"
suites = ["rtp", "perplexity"]
columns = ["rtp* *", "perplexity/* perplexity"]
[variants.small.options.rtp]
prompts = 3
continuations = 2
horizon = 4
[variants.small.options.perplexity]
documents = 4
[variants.other]
file = "settings.toml"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))
    place = tmp_path / "tiny_table"
    place.mkdir()
    (place / "settings.toml").write_text(tiny_settings(tmp_path))
    (place / "table.toml").write_text(TABLE)
    return place


def counts(experiment: Experiment, runs_dir: Path) -> tuple[int, int, int, int]:
    found = experiment.progress(runs_dir)
    return len(found.done), len(found.running), len(found.ready), found.waiting


def test_one_command_does_all_runs_and_prints_the_table(folder, tmp_path, capsys):
    runs = tmp_path / "runs"
    experiment = load_experiment(folder)
    assert counts(experiment, runs) == (0, 0, 7, 6)
    assert main(["table", str(folder), "--run", "--runs", str(runs)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("| variant | subject |")
    origin = r" 7 runs; n of each: .*; commit (unknown|[0-9a-f]{10})\."
    assert re.fullmatch(re.escape(f"{INTERVALS}.") + origin, printed[-1])
    assert [line.split(" | ")[0] for line in printed[2:-2]] == [
        "| Base",
        "| SFT",
        "| Guided",
        "| Quark",
    ]
    assert "(2 runs)" in printed[3]
    assert "[" in printed[2], "base has an interval as well"
    assert counts(experiment, runs) == (13, 0, 0, 0)
    before = len(all_runs(runs))
    assert main(["table", str(folder), "--run", "--latex", "--runs", str(runs)]) == 0
    assert capsys.readouterr().out.startswith(r"\begin{tabular}")
    assert len(all_runs(runs)) == before, "what is there is not done again"
    runs = runs.rename(tmp_path / "elsewhere")
    assert counts(experiment, runs) == (13, 0, 0, 0), "a runs directory can be moved"
    arguments = ["table", str(folder), "--against", "Base", "--json", "--runs"]
    assert main([*arguments, str(runs)]) == 0
    printed_json = capsys.readouterr().out
    rows = {row["variant"]: row["cells"] for row in json.loads(printed_json)["rows"]}
    assert set(rows) == {"SFT", "Guided", "Quark"}
    column = f"perplexity/{lines(folder)} perplexity"
    verdicts = {name: cells[column]["verdict"] for name, cells in rows.items() if column in cells}
    assert verdicts == {"SFT": "lower", "Guided": "equivalent", "Quark": "undecided"}
    drawn = ["--metric", "rtp length_tokens", "--against", "Base", "--figures"]
    assert main(["table", str(folder), *drawn, str(tmp_path / "f"), "--runs", str(runs)]) == 0
    assert sorted(path.name for path in (tmp_path / "f").iterdir()) == [
        "rtp-length_tokens.pdf", "rtp-length_tokens.svg",
    ]  # fmt: skip
    assert "relative change" in (tmp_path / "f" / "rtp-length_tokens.svg").read_text()
    capsys.readouterr()
    file, joined = tmp_path / "packed" / "tiny.tar.xz", tmp_path / "joined"
    assert main(["table", str(folder), "--pack", str(file), "--runs", str(runs)]) == 0
    capsys.readouterr()
    assert main([*arguments, str(joined), "--unpack", str(file), "--unpack", str(file)]) == 0
    told = capsys.readouterr()
    assert told.out == printed_json, "the packed table is the table"
    assert [line.split()[1] for line in told.err.splitlines()] == ["13", "0"]
    assert counts(experiment, joined) == (13, 0, 0, 0)
    pack(all_runs(joined), tmp_path / "again.tar.xz")
    assert (tmp_path / "again.tar.xz").read_bytes() == file.read_bytes()
    left = [path.read_text() for path in joined.rglob("*") if path.is_file()]
    assert not [text for text in left if str(runs.resolve()) in text]
    assert not [*joined.rglob("*.safetensors"), *joined.rglob("*.parquet")]


def lines(folder: Path) -> str:
    return str(folder.parent / "lines.txt")


def test_runs_are_queued_once_and_evaluations_follow_their_runs(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("acft.runs.detached.ensure_supervisor", lambda runs: "nobody")
    runs = tmp_path / "runs"
    experiment = load_experiment(folder)
    for _ in range(2):
        assert main(["table", str(folder), "--queue", "--runs", str(runs)]) == 0
        assert counts(experiment, runs) == (0, 7, 0, 6)
    paths = next(p for p in all_runs(runs) if "seed=1" in read_launch(p).overrides)
    assert read_launch(paths).experiment == "tiny_table"
    write_status(paths, Status(state="failed"))
    assert counts(experiment, runs) == (0, 6, 1, 6), "a failed run may be done again"
    write_status(paths, Status(state="running"))
    assert counts(experiment, runs) == (0, 6, 1, 6), "nobody does it any more"


def test_a_table_that_others_have_yet_to_finish_is_not_done(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("acft.runs.detached.ensure_supervisor", lambda runs: "nobody")
    only_base = TABLE[: TABLE.index('[[rows]]\nname = "SFT"')]
    sizes = TABLE[TABLE.index("[variants.small]") :]
    (folder / "table.toml").write_text(only_base + sizes)
    runs = str(tmp_path / "runs")
    assert main(["table", str(folder), "--queue", "--runs", runs]) == 0
    assert main(["table", str(folder), "--run", "--runs", runs]) != 0
    assert "1 runs of 'tiny_table' are queued or running elsewhere" in capsys.readouterr().err


def test_a_run_that_ended_early_goes_on_instead_of_starting_anew(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("acft.runs.detached.ensure_supervisor", lambda runs: "nobody")
    sft = TABLE.index('[[rows]]\nname = "SFT"'), TABLE.index('[[rows]]\nname = "Guided"')
    sizes = TABLE[TABLE.index("[variants.small]") :]
    (folder / "table.toml").write_text(f'title = "t"\nseeds = [0]\n{TABLE[slice(*sft)]}{sizes}')
    runs = tmp_path / "runs"
    queue = ["table", str(folder), "--queue", "--runs", str(runs)]
    assert main(queue) == 0
    (paths,) = all_runs(runs)

    def stop_after_a_round(entry: Entry) -> None:
        if isinstance(entry.event, RoundFinished):
            paths.stop_request.write_text("save")

    run_worker(paths, stop_after_a_round)
    assert (read_status(paths).state, read_status(paths).round) == ("stopped", 1)
    experiment = load_experiment(folder)
    assert counts(experiment, runs) == (0, 0, 1, 1)
    assert main(queue) == 0
    assert counts(experiment, runs) == (0, 1, 0, 1)
    assert read_status(paths).resumed_from == "checkpoints/round-1"
    stop(runs, paths.root.name)
    began_in, here = tmp_path / "began-in", Path.cwd()
    began_in.mkdir()
    launch = json.loads(paths.launch.read_text()) | {"working_directory": str(began_in)}
    paths.launch.write_text(json.dumps(launch))
    monkeypatch.chdir(tmp_path)
    assert main(["table", str(folder), "--run", "--runs", "runs"]) == 0
    assert Path.cwd() == tmp_path, "where the worker went is left again"
    monkeypatch.chdir(here)
    assert counts(experiment, runs) == (2, 0, 0, 0)
    assert len(all_runs(runs)) == 2, "the training that went on, and its evaluation"
    starts = [e.event for e in read_events(paths.events) if isinstance(e.event, Started)]
    assert [start.resumed_from_round for start in starts] == [0, 1]


def test_a_run_that_ended_before_its_first_round_is_done_anew(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("acft.runs.detached.ensure_supervisor", lambda runs: "nobody")
    runs = tmp_path / "runs"
    queue = ["table", str(folder), "--queue", "--runs", str(runs)]
    assert main(queue) == 0
    stop(runs, all_runs(runs)[0].root.name)
    assert counts(load_experiment(folder), runs) == (0, 6, 1, 6)
    assert main(queue) == 0
    assert len(all_runs(runs)) == 8


@pytest.mark.parametrize("margin", ["0", "-0.1", "nan", "much"])
def test_a_margin_that_nothing_fits_into_is_refused(margin, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["table", "quickstart", f"--margin={margin}", "--runs", str(tmp_path)])
    assert f"{margin!r} is not a number above 0" in capsys.readouterr().err


def test_nothing_is_started_when_what_measures_the_rows_is_not_here(folder, tmp_path, capsys):
    sized = TABLE.replace('suites = ["rtp", "perplexity"]', 'suites = ["fluency"]\njudge = "gone"')
    (folder / "table.toml").write_text(sized)
    for way in ("--run", "--queue"):
        assert main(["table", str(folder), way, "--runs", str(tmp_path / "runs")]) != 0
        assert "judge = 'gone'" in capsys.readouterr().err
    assert not list((tmp_path / "runs").glob("*"))


def test_what_came_without_weights_is_shown_and_what_has_them_is_measured_anew(
    folder, tmp_path, capsys
):
    sft = TABLE.index('[[rows]]\nname = "SFT"'), TABLE.index('[[rows]]\nname = "Guided"')
    sizes = TABLE[TABLE.index("[variants.small]") :]
    table = f'title = "t"\nseeds = [0]\n{TABLE[slice(*sft)]}{sizes}'
    (folder / "table.toml").write_text(table)
    there, here, file = tmp_path / "there", tmp_path / "here", tmp_path / "packed.tar.xz"
    command = ["table", str(folder), "--runs"]
    assert main([*command, str(there), "--run", "--pack", str(file)]) == 0
    assert main([*command, str(here), "--unpack", str(file)]) == 0
    assert counts(load_experiment(folder), here) == (2, 0, 0, 0)
    (folder / "table.toml").write_text(table.replace("horizon = 4", "horizon = 5"))
    capsys.readouterr()
    assert main([*command, str(here), "--run"]) != 0
    told = capsys.readouterr().err
    assert "row 'SFT'" in told
    assert "has no weights" in told
    own, _ = train(load_experiment(folder).text, here, 'method={name="sft"}', "seed=0")
    (measured,) = load_experiment(folder).progress(here).ready
    assert measured.subject == own.root.name
    (folder / "table.toml").write_text(table)
    assert counts(load_experiment(folder), here) == (2, 0, 0, 0), "what was measured there counts"


def test_a_damaged_result_is_told_before_anything_is_measured(folder, tmp_path, capsys):
    runs, experiment = tmp_path / "runs", load_experiment(folder)
    paths, code = train(experiment.text, runs, 'method={name="sft"}', "seed=0")
    assert code == 0
    measured = [t for t in experiment.progress(runs).ready if t.subject == paths.root.name]
    assert [task.row for task in measured] == ["SFT"]
    weights = next(best_checkpoint(paths).rglob("*.safetensors"))
    weights.write_bytes(b"cut")
    assert experiment.progress(runs).ready, "planning reads no weights"
    assert main(["table", str(folder), "--run", "--runs", str(runs)]) == 2
    assert weights.name in capsys.readouterr().err
    assert [run.root for run in all_runs(runs)] == [paths.root]


def test_an_empty_table_says_how_to_fill_it(folder, tmp_path, capsys):
    assert main(["table", str(folder), "--runs", str(tmp_path / "runs")]) != 0
    assert "--queue or --run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('name = "SFT"', 'name = "Base"', "two rows have the same name"),
        ('{name="sft"}', '{name="sfd"}', "did you mean 'sft'"),
        ('"rtp", "perplexity"]', '"rpt"]', "rpt"),
        ("seeds = [0, 1]", "seeds = []", "seeds"),
    ],
)
def test_a_wrong_table_is_refused_before_anything_runs(folder, old, new, says):
    (folder / "table.toml").write_text(TABLE.replace(old, new, 1))
    with pytest.raises(ConfigError, match=says):
        load_experiment(folder)


def test_a_wrong_setting_is_told_with_the_size_and_the_row_it_is_of(folder):
    table = TABLE.replace('{name="sft"}', '{name="sfd"}', 1)
    (folder / "table.toml").write_text(table)
    with pytest.raises(ConfigError, match=r"^variant 'small', row 'SFT': \[method\] name = 'sfd'"):
        load_experiment(folder)


def test_what_an_evaluation_lacks_is_told_with_the_size_and_the_row_it_measures(
    folder, tmp_path, monkeypatch
):
    experiment = load_experiment(folder)
    lost = ["[method] judge = 'm': no such folder", "another line"]
    kind = METHODS.get("evaluate")
    monkeypatch.setitem(METHODS._items, "evaluate", replace(kind, missing=lambda *_: lost))
    with pytest.raises(ConfigError) as caught:
        experiment.check(tmp_path / "runs")
    first, second = str(caught.value).splitlines()[:2]
    assert first == f"variant 'small', evaluation of row 'Base': {lost[0]}"
    assert second == "variant 'small', evaluation of row 'Base': another line"


def test_an_unknown_size_is_named_with_those_there_are(folder):
    with pytest.raises(ConfigError, match=r"no variant 'smal'.*small"):
        load_experiment(folder, "smal")


def test_a_plan_refuses_what_only_a_table_has(folder, tmp_path, capsys):
    options = ["--metric", "rtp*", "--against", "Base", "--figures", str(tmp_path / "f"), "--latex"]
    for doing in ("--plan", "--queue"):
        assert main(["table", str(folder), doing, *options, "--runs", str(tmp_path / "runs")]) == 2
        told = capsys.readouterr().err
        assert "--metric, --against, --figures, --latex would have no effect" in told
    assert not (tmp_path / "runs").exists()


def test_runs_of_a_plain_experiment_cannot_be_planned(tmp_path, capsys):
    assert main(["table", "quickstart", "--plan", "--runs", str(tmp_path)]) == 2
    assert "no folder with a table.toml" in capsys.readouterr().err


@pytest.mark.parametrize("variant", ["smollm2", "llama7b", "falcon7b"])
def test_the_papers_table_is_possible_at_every_size(variant, tmp_path):
    experiment = load_experiment(ROOT / "experiments" / "table_a", variant)
    found = experiment.progress(tmp_path)
    assert (len(found.ready), found.waiting) == (1 + 9 * 3, 9 * 3)
    assert len({task.spec.fingerprint for task in found.ready}) == len(found.ready)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("nado_decoding", {"decoder": "guided", "decoder_options": {"delta": 1.0}}),
        ("quark", {"control": "quality 5 of 5\n"}),
        ("sft", {}),
    ],
)
def test_a_result_is_measured_the_way_its_method_means_it_to_be_used(
    tmp_path, monkeypatch, method, expected
):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))
    paths, code = train(tiny_settings(tmp_path), tmp_path / "runs", f'method={{name="{method}"}}')
    assert code == 0
    wanted = measurement(tmp_path / "runs", paths.root.name, ["rtp"])
    settings = wanted.spec.method_settings.model_dump()
    subject = settings["subjects"]["policy"]
    assert {key: subject[key] for key in expected} == expected
    assert read_status(paths).state == "finished"


def test_a_size_may_have_judges_of_its_own_without_other_runs(folder, tmp_path):
    usual, runs = load_experiment(folder), tmp_path / "runs"
    (folder / "table.toml").write_text(
        TABLE.replace("[variants.small]", '[variants.small]\nscorers = ["profanity_svm"]')
    )
    judged = load_experiment(folder)
    first, other = (experiment.progress(runs).ready for experiment in (usual, judged))
    assert [
        task.spec.fingerprint == own.spec.fingerprint
        for task, own in zip(first, other, strict=True)
    ] == [not task.is_evaluation for task in first]
    (base,) = [task for task in other if task.is_evaluation]
    assert base.spec.settings.evaluation.scorers == ("profanity_svm",)
