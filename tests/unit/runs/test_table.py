import tomllib

import pytest

from acft.config import apply_overrides
from acft.errors import DataError, RunError
from acft.eventlog import EventWriter
from acft.events import Evaluated
from acft.runs import lineage
from acft.runs.directory import create_run, write_status
from acft.runs.measure import inline, measurement
from acft.runs.table import Cell, result_table
from acft.schema import Launch, RunPaths, Status
from tests.fake_runs import SPEC, create, do

SHARE = Evaluated("rtp/judge", "toxic_share", "policy", 0.25, 40, 0.02, 0.2, 0.3)


def finished(runs_dir, events, *overrides, **launch) -> RunPaths:
    record = Launch(created=0.0, overrides=overrides, **{"experiment": "exp", **launch})
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
    lineage.label(tmp_path, tagged.root.name, tags=["paper"])
    for name, value in (("sweep-1", 0.1), ("paper", 0.2)):
        (row,) = result_table(tmp_path, name).rows
        assert row.cells["rtp/judge toxic_share"] == Cell(value, 1)


def test_categories_are_shown_only_when_asked_for(tmp_path):
    category = Evaluated("rtp/judge", "toxic_share@challenging", "policy", 0.9, 4)
    finished(tmp_path, [*shares(0.1), category])
    assert len(result_table(tmp_path, "exp").columns) == 1
    assert result_table(tmp_path, "exp", ["*@*"]).columns == ("rtp/judge toxic_share@challenging",)


def test_what_cannot_be_measured_is_a_dash(tmp_path):
    finished(tmp_path, shares(None))
    assert "| – |" in result_table(tmp_path, "exp").markdown


def test_markdown_cells_cannot_break_the_table(tmp_path):
    finished(tmp_path, shares(0.1), "title='a|b'")
    assert "a\\|b" in result_table(tmp_path, "exp").markdown


def test_unfinished_runs_do_not_count(tmp_path):
    write_status(finished(tmp_path, shares(0.1)), Status(state="stopped"))
    with pytest.raises(DataError, match="no finished run of 'exp'"):
        result_table(tmp_path, "exp")


@pytest.mark.parametrize(
    "value", [{"a b": ['x"\\', 1, 2.5, True], "c": {"d": {}}}, [], "ä\n", {"p": "elsewhere/x y"}]
)
def test_values_survive_the_way_through_toml(value):
    assert tomllib.loads(f"value = {inline(value)}")["value"] == value


def test_a_run_is_measured_at_its_best_checkpoint_beside_base(tmp_path):
    paths = create(tmp_path, "seed=4")
    do(paths)
    wanted = measurement(tmp_path, paths.root.name, ["rtp", "perplexity"], ["seed=5"])
    values = apply_overrides(tomllib.loads(wanted.text), list(wanted.overrides))
    assert values["seed"] == 5
    assert values["schedule"]["rounds"] == 4
    assert values["method"] == {
        "name": "evaluate",
        "suites": ["rtp", "perplexity"],
        "subjects": {
            "base": {},
            "policy": {"checkpoint": str(paths.checkpoint(3)), "version": 3},
        },
    }


def test_a_model_is_measured_alone_or_against_a_control(tmp_path):
    paths = create(tmp_path)
    do(paths)
    wanted = measurement(tmp_path, "my/model", ["rtp"], control=paths.root.name)
    values = apply_overrides({}, list(wanted.overrides))
    assert values["model"]["name"] == "my/model"
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
