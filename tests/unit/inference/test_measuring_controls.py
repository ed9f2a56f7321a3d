"""A measurement beside a control, from the form's choice to what the run's page says of it."""

import json
import shutil
from dataclasses import asdict, replace

import pytest

from acft.errors import ConfigError, RunError
from acft.inference.measuring import measure, weigh
from acft.inference.server import Session
from acft.methods.evaluate import EvaluateSettings
from acft.runs import spec as spec_module
from acft.runs.controls import controls
from acft.runs.directory import find_run, read_launch, read_status, write_labels
from acft.runs.spec import parse_spec, spec_of
from acft.runs.worker import run_worker
from acft.schema import Labels, RunPaths
from acft.ui.parts.results import first_results
from acft.ui.reading.reader import Reader
from acft.ui.web.dom import text_of
from tests.tiny_run import tiny_settings, train

NUMBERS = {"prompts": 3, "continuations": 2, "documents": 4}
SHORT = ("method.options.rtp.horizon=4",)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run, and plain fine-tuning with its other settings."""
    folder = tmp_path_factory.mktemp("controlled")
    text = tiny_settings(folder)
    found = [train(text, folder / "runs", f'method={{name="{name}"}}') for name in ("acft", "sft")]
    assert [code for _, code in found] == [0, 0]
    return [paths for paths, _ in found]


def runs_of(paths: RunPaths) -> str:
    return str(paths.root.parent)


def weighed(run: RunPaths, control=None, changes=()):
    return weigh(
        Session("cpu"), runs_of(run), run.root.name, ["rtp"], NUMBERS, "", control, None, changes,
        has_files=True,
    )  # fmt: skip


def copied(paths: RunPaths, run_id: str, *overrides: str) -> RunPaths:
    """The same run under another id, as if it had been launched with more overrides."""
    copy = RunPaths(paths.root.parent / run_id)
    shutil.copytree(paths.root, copy.root)
    launch = read_launch(copy)
    changed = replace(launch, overrides=(*launch.overrides, *overrides))
    copy.launch.write_text(json.dumps(asdict(changed)))
    return copy


def test_what_a_control_leaves_of_the_change_is_on_the_page_of_the_measurement(trained):
    run, control = trained
    queued = measure(
        Session("cpu"), runs_of(run), run.root.name, ["rtp"], NUMBERS, "", "once",
        control.root.name, None, SHORT,
    )  # fmt: skip
    paths = find_run(run.root.parent, queued)
    asked = spec_of(paths).method_settings
    assert isinstance(asked, EvaluateSettings)
    assert control.root.name in asked.subjects["control"].checkpoint
    assert asked.options["rtp"]["horizon"] == 4
    assert run_worker(paths) == 0, read_status(paths).message
    shown = Reader(run.root.parent).run(queued)
    assert shown is not None
    assert "change beyond the control's" in text_of(first_results(shown))


def test_the_one_plain_run_of_the_same_settings_is_the_control_unless_told(trained):
    run, control = trained
    found = weighed(run)
    assert found == found | {
        "controls": [control.root.name], "control": control.root.name, "problems": [],
        "overrides": ["method.options={rtp = {prompts = 3,continuations = 2}}"],
    }  # fmt: skip
    assert weighed(run, control="")["control"] == ""
    assert weighed(control)["control"] == ""


def test_the_settings_of_each_run_are_read_once_to_find_the_controls(trained, monkeypatch):
    run, control = trained
    read = []

    def counted(text, overrides, where):
        read.append(where)
        return parse_spec(text, overrides, where)

    monkeypatch.setattr(spec_module, "parse_spec", counted)
    assert controls(run.root.parent, run.root.name)[1] == control.root.name
    assert read == [str(run.spec), str(control.spec)]


def test_the_work_is_that_of_all_subjects_with_the_control(trained):
    run, _ = trained
    assert weighed(run)["work"] == {"drawn": 18}
    assert weighed(run, control="")["work"] == {"drawn": 12}


def test_runs_that_the_command_line_refuses_as_control_are_not_offered(trained):
    run, control = trained
    other_seed = copied(control, "20261202-100000-seed", "seed=1")
    wider = copied(control, "20261202-100000-wide", "adapter.rank=2")
    archived = copied(control, "20261202-100000-arch")
    write_labels(archived, Labels(archived=True))
    try:
        found = weighed(run)
        assert set(found["controls"]) == {control.root.name, other_seed.root.name}
        assert found["control"] == control.root.name
        twin = copied(control, "20261202-100000-twin")
        assert weighed(run)["control"] == ""
        shutil.rmtree(twin.root)
        (problem,) = weighed(run, control=wider.root.name)["problems"]
        assert "adapter.rank 2 and 16" in problem
        with pytest.raises(RunError, match=r"adapter\.rank"):
            measure(Session("cpu"), runs_of(run), run.root.name, ["rtp"], NUMBERS, "", "wide",
                    wider.root.name)  # fmt: skip
    finally:
        for paths in (other_seed, wider, archived):
            shutil.rmtree(paths.root)


def test_rl_without_a_weight_is_no_plain_fine_tuning_and_acft_is(trained):
    run, control = trained
    rl = copied(control, "20261202-100000-free", 'method={name="rl",kl_weight=0.0}')
    try:
        found = weighed(run)
        assert (set(found["controls"]), found["control"]) == (
            {control.root.name, rl.root.name}, control.root.name,
        )  # fmt: skip
        plain = copied(control, "20261202-100000-none", 'method={name="acft",kl_weight=0.0}')
        assert weighed(run)["control"] == "", "two are plain"
        shutil.rmtree(plain.root)
    finally:
        shutil.rmtree(rl.root)


@pytest.mark.parametrize(
    ("change", "what"),
    [("method.options.rtp.horizn=4", "did you mean 'horizon'"),
     ("method.option.rtp.horizon=4", "option"), ('method={name="sft"}', "a measurement trains"),
     ('engine.address="http://a"', "not taken from the browser"),
     ('evaluation.scorers=["jigsaw"]', "jigsaw")],
)  # fmt: skip
def test_a_wrong_further_setting_is_a_sentence_before_anything_is_queued(trained, change, what):
    run, _ = trained
    before = sorted(run.root.parent.iterdir())
    assert any(what in problem for problem in weighed(run, changes=[change])["problems"])
    with pytest.raises(ConfigError, match=what):
        measure(Session("cpu"), runs_of(run), run.root.name, ["rtp"], NUMBERS, "", "wrong", None,
                None, [change])  # fmt: skip
    assert sorted(run.root.parent.iterdir()) == before


def test_what_is_no_run_is_not_measured_as_a_model(trained):
    run, _ = trained
    with pytest.raises(RunError, match="no/such"):
        measure(Session("cpu"), runs_of(run), "no/such", ["rtp"], NUMBERS, "", "model")


def test_scorers_are_named_only_where_others_than_the_runs_own_are_asked_for(trained):
    run, _ = trained
    place = Session("cpu"), runs_of(run), run.root.name, ["rtp"], NUMBERS, "", ""
    assert not any("scorers" in o for o in weigh(*place, None)["overrides"])
    assert 'evaluation.scorers=["jigsaw_tcc"]' in weigh(*place, ["jigsaw_tcc"])["overrides"]
