import json
import shutil
from typing import Any, cast

import pytest
import torch

from acft.data import prompt_of
from acft.decoding.base import DECODERS, DecodedPolicy, DecoderKind
from acft.decoding.guided import GuidedDecoder
from acft.errors import ConfigError, DataError, ModelError, RunError
from acft.eventlog import effective, read_events
from acft.events import BestCheckpoint
from acft.runs.restore import PlainModel, RestoredRun, open_run, open_source
from acft.settings import SamplingSettings
from tests.fakes import save_tiny_model
from tests.tiny_run import tiny_settings, train

SAMPLING = SamplingSettings(horizon=6)
PROMPT = prompt_of("See the rain")


def texts(sampler, seed=0, n=6):
    return [r.response_ids for r in sampler.sample([PROMPT], n, SAMPLING, seed).rollouts]


def change_record(paths, **changes):
    record = json.loads(paths.resolved.read_text())
    record["facts"] |= changes
    paths.resolved.write_text(json.dumps(record))


def test_the_preferred_round_is_opened(tiny_run):
    events = [entry.event for entry in effective(read_events(tiny_run.events))]
    best = [event.round for event in events if isinstance(event, BestCheckpoint)]
    assert open_run(tiny_run.root).sealed.round == best[-1]


def test_any_sealed_round_can_be_opened(tiny_run):
    assert [open_run(tiny_run.root, k).sealed.policy_version for k in (1, 2)] == [1, 2]


def test_an_unknown_round_names_those_there_are(tiny_run):
    with pytest.raises(RunError, match=r"no round 7 \(sealed rounds: 1, 2\)"):
        open_run(tiny_run.root, 7)


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(RunError, match="no run directory"):
        open_run(tmp_path / "nothing")


def test_a_run_that_has_not_started_has_nothing_to_open(own_run):
    own_run.resolved.unlink()
    with pytest.raises(RunError, match="has not started"):
        open_run(own_run.root)


def test_a_run_before_its_first_round_says_so(own_run):
    own_run.events.write_text(own_run.events.read_text().splitlines(keepends=True)[0])
    with pytest.raises(RunError, match="no sealed round yet"):
        open_run(own_run.root)


def test_an_evaluation_has_no_policy(own_run):
    record = json.loads(own_run.resolved.read_text())
    record["method"] = {"name": "evaluate"}
    own_run.resolved.write_text(json.dumps(record))
    with pytest.raises(RunError, match="trained nothing"):
        open_run(own_run.root)


def test_a_missing_file_of_the_checkpoint_is_noticed(own_run):
    (open_run(own_run.root).folder / "oracle" / "oracle.safetensors").unlink()
    with pytest.raises(DataError, match="incomplete or altered"):
        open_run(own_run.root)


def test_another_base_model_is_refused(own_run):
    change_record(own_run, model_sha256="0" * 64)
    with pytest.raises(ModelError, match=r"are not those run .* started from"):
        _ = open_run(own_run.root).base


def test_relative_names_start_where_the_run_was_launched(own_run, session_folder, monkeypatch):
    record = json.loads(own_run.resolved.read_text())
    record["settings"]["model"]["name"] = "model"
    own_run.resolved.write_text(json.dumps(record))
    launch = json.loads(own_run.launch.read_text())
    own_run.launch.write_text(json.dumps(launch | {"working_directory": str(session_folder)}))
    monkeypatch.chdir(own_run.root)
    assert open_run(own_run.root).base.backbone.source == "local"


def test_models_that_a_decoder_is_given_are_looked_up_where_it_is_asked_for(
    own_run, session_folder, tmp_path, monkeypatch
):
    launch = json.loads(own_run.launch.read_text())
    own_run.launch.write_text(json.dumps(launch | {"working_directory": str(session_folder)}))
    (tmp_path / "here").mkdir()
    save_tiny_model(tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    given = {"expert": "here", "anti_expert": "here"}
    assert texts(open_run(own_run.root).sampler(decoder="dexperts", options=given))


def test_tuned_differs_from_base_and_carries_its_version(tiny_run):
    run = open_run(tiny_run.root, 2)
    assert (run.base.version, run.tuned.version) == (0, 2)
    assert texts(run.sampler("base")) != texts(run.sampler("tuned"))
    assert texts(run.sampler()) == texts(run.sampler("tuned"))


def test_a_round_opened_twice_draws_the_same(tiny_run):
    first, second = open_run(tiny_run.root), open_run(tiny_run.root)
    for decoder in ("plain", "guided"):
        assert texts(first.sampler(decoder=decoder)) == texts(second.sampler(decoder=decoder))


def test_guidance_is_as_strong_as_in_the_run_unless_told_otherwise(tiny_run):
    run = open_run(tiny_run.root)
    assert run.guide.strength == 1.5
    as_in_run = run.sampler("base", "guided")
    assert texts(as_in_run) == texts(run.sampler("base", "guided", {"strength": 1.5}))
    assert isinstance(as_in_run, DecodedPolicy)
    assert isinstance(as_in_run.decoder, GuidedDecoder)
    assert as_in_run.decoder.settings.strength == 1.5


def test_responses_longer_than_the_oracle_knows_can_be_guided(tiny_run):
    longer = SamplingSettings(horizon=15)
    sampler = open_run(tiny_run.root).sampler("base", "guided")
    lengths = [len(r.response_ids) for r in sampler.sample([PROMPT], 4, longer, 0).rollouts]
    assert max(lengths) > SAMPLING.horizon


def test_one_response_does_not_depend_on_the_others(tiny_run):
    sampler = open_run(tiny_run.root).sampler("tuned", "guided")
    assert texts(sampler, n=2) == texts(sampler, n=6)[:2]


def test_a_wrong_option_of_the_decoder_is_told(tiny_run):
    with pytest.raises(ConfigError, match=r"strenght.*did you mean 'strength'"):
        open_run(tiny_run.root).sampler("base", "guided", {"strenght": 2.0})


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory):
    """A run of a method that trains no oracle."""
    folder = tmp_path_factory.mktemp("sft")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACFT_ASSETS", str(folder / "cache"))
        changes = ("method.name=sft", "schedule.rounds=1")
        paths, code = train(tiny_settings(folder), folder / "runs", *changes)
    assert code == 0, paths.status.read_text()
    return paths


def test_a_run_without_oracle_cannot_guide_and_says_why(plain_run):
    run = open_run(plain_run.root)
    assert len(texts(run.sampler())) == 6
    with pytest.raises(ModelError, match="has no oracle: method 'sft' trains none"):
        run.sampler("tuned", "guided")


def test_the_constraint_judges_as_in_the_run(tiny_run):
    run = open_run(tiny_run.root)
    assert run.verdicts(["", ""], ["zz", "abc"]) == [1.0, 0.0]
    assert run.judges == []


def test_the_portable_oracle_holds_the_same_weights(tiny_run):
    run = open_run(tiny_run.root)
    record = run.portable_oracle.record
    assert (record.horizon, record.guidance.strength) == (6, 1.5)
    assert record.constraint == tuple(dict(t) for t in run.settings.constraint)
    assert all(
        torch.equal(value, run.guide.oracle.state_dict()[name])
        for name, value in run.portable_oracle.oracle.state_dict().items()
    )


def test_a_name_that_is_no_run_is_a_model(tmp_path):
    source = open_source(tmp_path, str(save_tiny_model(tmp_path / "model")))
    assert isinstance(source, PlainModel)
    assert len(texts(source.sampler())) == 6


def test_a_model_has_no_tuned_policy(tmp_path):
    source = open_source(tmp_path, str(save_tiny_model(tmp_path / "model")))
    with pytest.raises(ConfigError, match="is a model and has no tuned policy"):
        source.sampler("tuned")


def test_only_a_policy_that_there_is_is_opened(tiny_run, tmp_path):
    model = open_source(tmp_path, str(save_tiny_model(tmp_path / "model")))
    run = open_run(tiny_run.root)
    for ask in (model.sampler, run.sampler, run.policy):
        with pytest.raises(
            ConfigError, match=r"subject = 'guided'.*'base', 'tuned', and .*decoder"
        ):
            ask(cast("Any", "guided"))


def test_the_runs_folder_may_be_given_as_text(tiny_run):
    source = open_source(str(tiny_run.root.parent), tiny_run.root.name)
    assert isinstance(source, RestoredRun)
    assert source.run_id == tiny_run.root.name


def test_a_model_without_run_cannot_be_guided(tmp_path):
    source = open_source(tmp_path, str(save_tiny_model(tmp_path / "model")))
    with pytest.raises(ConfigError, match="needs an oracle"):
        source.sampler("base", "guided")


def test_a_decoder_that_builds_nothing_is_told_before_anything_is_drawn(
    tiny_run, tmp_path, monkeypatch
):
    nothing = cast("Any", lambda settings, context: None)
    monkeypatch.setitem(DECODERS._items, "own", DecoderKind(nothing))
    model = open_source(tmp_path, str(save_tiny_model(tmp_path / "model")))
    for source in (open_run(tiny_run.root), model):
        with pytest.raises(DataError, match=r"decoder 'own': what builds it .* gave None"):
            source.sampler("base", "own")


def test_a_run_moved_elsewhere_still_opens(own_run, tmp_path):
    moved = tmp_path / "moved" / own_run.root.name
    shutil.move(own_run.root, moved)
    assert open_run(moved).tuned.version >= 1
