"""What measuring a run anew would cost, and that what is launched is what was asked for."""

import json
import shutil
from dataclasses import asdict, replace

import pytest

from acft.benchmarks.base import SUITES
from acft.errors import ConfigError
from acft.inference.measuring import measure, weigh
from acft.inference.server import Session
from acft.methods.evaluate import EvaluateSettings
from acft.runs.directory import find_run, read_launch
from acft.runs.spec import parse_spec
from acft.schema import RunPaths
from tests.tiny_run import tiny_settings, train

NUMBERS = {"prompts": 3, "continuations": 2, "documents": 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("measured")
    paths, code = train(tiny_settings(folder), folder / "runs", 'method={name="sft"}')
    assert code == 0
    return paths


def weighed(run, suites, judge="", *, has_files=True):
    place = Session("cpu"), str(run.root.parent), run.root.name
    found = weigh(*place, suites, NUMBERS, judge, has_files=has_files)
    json.dumps(found)
    return found


def test_every_registered_suite_is_offered(run):
    found = weighed(run, ["rtp"])
    assert [suite["name"] for suite in found["suites"]] == SUITES.names()


def test_what_is_not_asked_of_a_decoder_is_told_before(run, tmp_path):
    shutil.copytree(run.root, tmp_path / run.root.name)
    decoded = RunPaths(tmp_path / run.root.name)
    launch = read_launch(decoded)
    assert all(suite["note"] == "" for suite in weighed(run, ["rtp"])["suites"]
               if not SUITES.get(suite["name"]).needs_judge)  # fmt: skip
    overrides = (*launch.overrides, 'method={name="nado_decoding"}')
    decoded.launch.write_text(json.dumps(asdict(replace(launch, overrides=overrides))))
    notes = {suite["name"]: suite["note"] for suite in weighed(decoded, ["rtp"])["suites"]}
    assert "decoder" in notes["detection"]
    assert notes["rtp"] == notes["perplexity"] == ""


def test_work_that_two_suites_share_is_counted_once(run):
    model = parse_spec(run.spec.read_text()).settings.model.name
    assert weighed(run, ["rtp"])["work"] == {"drawn": 12}
    found = weighed(run, ["rtp", "fluency", "win_rate"], judge=model)
    assert found == found | {"work": {"drawn": 12, "judged": 12}, "problems": []}
    assert weighed(run, ["rtp", "perplexity"])["work"]["read"] % 8 == 0


@pytest.mark.parametrize(
    ("suites", "judge", "what"),
    [(["fluency"], "", "name a judge"), (["fluency"], "no/such/folder", "judge"),
     (["rpt"], "", "rtp")],
)  # fmt: skip
def test_what_is_missing_is_a_problem_before_anything_is_queued(run, suites, judge, what):
    before = sorted(run.root.parent.iterdir())
    (problem,) = weighed(run, suites, judge)["problems"]
    assert what in problem
    with pytest.raises(ConfigError, match=what):
        measure(Session("cpu"), str(run.root.parent), run.root.name, suites, NUMBERS, judge, "once")
    assert sorted(run.root.parent.iterdir()) == before


def test_the_numbers_go_to_the_suites_that_have_them_and_not_to_a_published_protocol(run):
    runs = run.root.parent
    suites = ["rtp", "perplexity", "toxigen", "detection"]
    asked = measure(Session("cpu"), str(runs), run.root.name, suites, NUMBERS, "", "once")
    again = measure(Session("cpu"), str(runs), run.root.name, suites, NUMBERS, "", "once")
    assert again == asked
    paths = find_run(runs, asked)
    chosen = parse_spec(paths.spec.read_text(), read_launch(paths).overrides).method_settings
    assert isinstance(chosen, EvaluateSettings)
    asked_for = {"rtp": {"prompts": 3, "continuations": 2}, "perplexity": {"documents": 4}}
    assert chosen == EvaluateSettings.parse({**chosen.model_dump(), "options": asked_for})


def test_who_may_only_look_is_not_told_which_files_there_are(run):
    found = [weighed(run, ["fluency"], judge, has_files=False) for judge in ("/etc", "/no/such")]
    said = [each | {"overrides": []} for each in found]  # which repeat what was typed
    assert said[0] == said[1]
    assert found[0]["problems"] == []
