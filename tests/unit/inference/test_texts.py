"""Operations on texts with a real run of a tiny model."""

import dataclasses
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from acft.data import prompt_of
from acft.decoding.base import DECODERS, DecoderContext
from acft.errors import DataError, ModelError
from acft.inference import opened as opened_module
from acft.inference import texts
from acft.inference.opened import open_run
from acft.inference.server import Session
from acft.schema import MANIFEST, policy_sha256
from acft.settings import SamplingSettings
from acft.training.train_state import ORACLE
from acft.types import Prompt
from tests.bench import VowelScorer

PROMPT = "See the rain"


@pytest.fixture
def session():
    return Session("cpu")


def answered(session, paths, *sides, **options):
    arguments = {"samples": 3, "horizon": 6, "top_p": 1.0, **options}
    found = {}
    runs, run_id = str(paths.root.parent), paths.root.name
    for part in texts.generate(session, runs, run_id, PROMPT, sides, **arguments):
        found[part["side"]] = part
    return found


def side(subject, version, **more):
    return {"subject": subject, "version": version, **more}


def test_responses_are_graded_by_the_constraint_of_the_run(session, own_run, monkeypatch):
    runs, run_id = str(own_run.root.parent), own_run.root.name
    found = texts.judge(session, runs, run_id, PROMPT, [" on top", " of a cabin"])
    assert found == {"satisfaction": [1.0, 0.0], "scores": {}}
    asked = []
    constraint = open_run(session, runs, run_id).constraint
    monkeypatch.setattr(
        type(constraint), "score", lambda _, *both: asked.append(both) or [1.0] * len(both[1])
    )
    texts.judge(session, runs, run_id, PROMPT, ["a", "b"])
    assert asked == [([PROMPT, PROMPT], ["a", "b"])]


def test_each_side_tells_the_weights_that_wrote_its_texts(session, own_run):
    found = answered(session, own_run, side("base", 0), side("policy", 2), side("policy", 1))
    opened = open_run(session, str(own_run.root.parent), own_run.root.name)
    files = [own_run.checkpoint(v) / "policy" / "adapter_model.safetensors" for v in (2, 1)]
    assert [found[i]["weights"]["sha256"] for i in range(3)] == [
        opened.base.backbone.sha256,
        *(hashlib.sha256(file.read_bytes()).hexdigest() for file in files),
    ]


def test_the_hash_is_of_what_was_loaded_and_read_once(session, own_run, monkeypatch):
    read = []
    monkeypatch.setattr(opened_module, "verify", read.append)
    before = answered(session, own_run, side("policy", 2))[0]["weights"]
    (file,) = (own_run.checkpoint(2) / "policy").glob("*.safetensors")
    assert before["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    manifest = own_run.checkpoint(2) / MANIFEST
    file.write_bytes(b"something else")
    manifest.write_text(manifest.read_text().replace(before["sha256"], "0" * 64))
    assert policy_sha256(own_run.checkpoint(2)) == "0" * 64
    assert answered(session, own_run, side("policy", 2))[0]["weights"] == before
    runs, run_id = str(own_run.root.parent), own_run.root.name
    assert texts.identify(session, runs, run_id, 2)["tuned"]["sha256"] == before["sha256"]
    assert read == [own_run.checkpoint(2)]


def test_another_base_model_than_the_run_started_from_is_refused(session, own_run):
    record = json.loads(own_run.resolved.read_text())
    record["facts"]["model_sha256"] = "0" * 64
    own_run.resolved.write_text(json.dumps(record))
    with pytest.raises(ModelError, match="not those run"):
        open_run(session, str(own_run.root.parent), own_run.root.name)


def test_relative_names_start_where_the_run_was_launched(
    session, own_run, session_folder, monkeypatch
):
    launch = json.loads(own_run.launch.read_text())
    launch["overrides"] = [*launch["overrides"], 'model.name="model"']
    launch["working_directory"] = str(session_folder)
    own_run.launch.write_text(json.dumps(launch))
    monkeypatch.chdir(own_run.root)
    opened = open_run(session, str(own_run.root.parent), own_run.root.name)
    assert opened.base.backbone.source == "local"


def test_a_judge_of_a_relative_name_is_that_of_the_folder_the_run_was_launched_in(
    session, own_run, tmp_path, monkeypatch
):
    seen = []

    def load(name, device):
        seen.append((name, Path.cwd()))
        return VowelScorer()

    monkeypatch.setattr(
        opened_module, "ScorerPool", functools.partial(opened_module.ScorerPool, load=load)
    )
    launch = json.loads(own_run.launch.read_text())
    launch["overrides"] = [*launch["overrides"], 'evaluation.scorers=["model:near"]']
    homes = [tmp_path / name for name in ("one", "other")]
    for home in homes:
        home.mkdir()
        own_run.launch.write_text(json.dumps(launch | {"working_directory": str(home)}))
        session.kept.pop("runs", None)
        opened = open_run(session, str(own_run.root.parent), own_run.root.name)
        for _ in range(2):
            assert opened.scores(["a text"]).keys() == {"vowels"}
    assert seen == [("model:near", home) for home in homes]


@pytest.mark.parametrize("weights", [0, 2])
def test_the_guided_side_draws_from_the_policy_it_names(session, own_run, monkeypatch, weights):
    opened = open_run(session, str(own_run.root.parent), own_run.root.name)
    seen = []

    class Spy(texts.CachedDecoder):
        def __init__(self, model, *rest):
            seen.append(model)
            super().__init__(model, *rest)

    monkeypatch.setattr(texts, "CachedDecoder", Spy)
    found = answered(session, own_run, side("guided", 2, weights=weights))
    assert found[0]["weights"]["version"] == weights
    named = opened.tuned if weights else opened.base
    assert [model is named.backbone.model for model in seen] == [True]


def test_a_guided_side_guides_the_tuned_policy_unless_told_otherwise(session, own_run):
    assert answered(session, own_run, side("guided", 2))[0]["weights"]["version"] == 2


def test_guided_answers_may_be_longer_than_the_oracle_knows(session, own_run):
    found = answered(session, own_run, side("guided", 2), horizon=15)
    assert found[0]["texts"]


def test_the_self_test_passes_and_notices_a_swapped_adapter(session, own_run):
    runs, run_id = str(own_run.root.parent), own_run.root.name
    assert texts.identify(session, runs, run_id, 2)["is_proved"]
    opened = open_run(session, runs, run_id)
    for name, parameter in opened.tuned.backbone.model.named_parameters():
        if "lora_B" in name:
            parameter.data.zero_()
    assert not texts.identify(session, runs, run_id, 2)["is_proved"]


def test_a_scored_text_tells_whose_distribution_was_guided(session, own_run):
    ids = list(prompt_of("x y").text.encode()[:2])
    found = texts.score(session, str(own_run.root.parent), own_run.root.name, 2, PROMPT,
                        response_ids=[i % 20 + 5 for i in ids])  # fmt: skip
    assert found["weights"]["guided"] == 1
    assert found["weights"]["tuned"]["version"] == 2
    guided = [row for row in found["rows"] if row["in_loss"]]
    assert len(guided) == len(ids)
    assert all(row["kl_guided_policy"] >= -1e-6 for row in guided)


def test_the_guided_distribution_is_the_one_that_training_aimed_at(session, own_run):
    opened = open_run(session, str(own_run.root.parent), own_run.root.name)
    assert opened.anchor(2) == 1  # the snapshot whose rollouts trained the oracle
    method = opened.spec.method_settings.model_copy(update={"anchor": "current"})
    opened.spec = dataclasses.replace(opened.spec, method_settings=method)
    assert opened.anchor(2) == 2


def test_a_damaged_oracle_is_told_in_a_sentence(session, own_run):
    opened = open_run(session, str(own_run.root.parent), own_run.root.name)
    file = opened.checkpoint(2) / "oracle" / ORACLE
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(ModelError, match="cannot open the checkpoint's oracle"):
        opened.guide(2)


def test_ids_are_read_exactly_as_they_are(session, own_run):
    runs, run_id = str(own_run.root.parent), own_run.root.name
    typed = texts.score(session, runs, run_id, 2, PROMPT, response="a b")
    by_id = texts.score(session, runs, run_id, 2, prompt_ids=typed["prompt_ids"],
                        response_ids=typed["response_ids"])  # fmt: skip
    assert by_id["rows"] == typed["rows"]
    assert by_id["prompt"]


def test_the_tokens_of_a_text_make_up_the_text_where_one_is_half_of_its_first_letter(
    session, own_run
):
    found = texts.score(session, str(own_run.root.parent), own_run.root.name, 0, "\u00e9a",
                        response=" b")  # fmt: skip
    told = [found["first"], *(row["token_text"] for row in found["rows"])]
    assert told == ["", "\u00e9", "a", " ", "b"]


def test_an_exchanged_token_stands_after_the_same_prompt(session, own_run):
    runs, run_id = str(own_run.root.parent), own_run.root.name
    typed = texts.score(session, runs, run_id, 2, PROMPT, response="a b")
    prompt_ids, response_ids = typed["prompt_ids"], typed["response_ids"]
    other = next(i for i in range(5, 20) if i != response_ids[0])
    found = texts.branch(session, runs, run_id, 2, PROMPT, prompt_ids, response_ids, 0, other)
    assert found["prompt_ids"] == prompt_ids
    assert found["response_ids"][0] == other
    assert len(found["response_ids"]) <= len(response_ids)


def test_a_prompt_with_no_room_for_a_response_is_refused_in_a_sentence(session, own_run):
    room = open_run(session, str(own_run.root.parent), own_run.root.name).base.backbone
    long = "a b " * 900
    with pytest.raises(DataError, match=f"may follow; the model reads {room.context_length:,}"):
        list(texts.generate(session, str(own_run.root.parent), own_run.root.name, long,
                            [side("base", 0)], horizon=200))  # fmt: skip


@pytest.mark.parametrize("part", ["prompt", "response"])
def test_a_text_of_too_many_letters_is_refused_before_it_is_tokenised(session, own_run, part):
    typed: dict[str, Any] = {"prompt": PROMPT, "response": "a b", part: "a " * 30_000}
    with pytest.raises(DataError, match=f"the {part} has 60,000 letters; at most 4,000 are read"):
        texts.score(session, str(own_run.root.parent), own_run.root.name, 0, **typed)


@pytest.mark.parametrize("top_p", [1.0, 0.5])
@pytest.mark.parametrize("name", ["best_of_n", "rad"])
def test_decoders_that_train_nothing_answer_as_they_do_elsewhere(session, own_run, name, top_p):
    opened = open_run(session, str(own_run.root.parent), own_run.root.name)
    context = DecoderContext(opened.base, verdicts=opened.constraint.score)
    kind = DECODERS.get(name)
    sampler = kind.build(kind.settings_type.parse({}), context)
    sampling = SamplingSettings(horizon=6, top_p=top_p)
    drawn = sampler.sample([Prompt("live", PROMPT, "test")], 3, sampling, 0).rollouts
    found = answered(session, own_run, side(name, 0), side("base", 0), top_p=top_p)
    assert found[0]["texts"] == [rollout.response_text for rollout in drawn]
    assert found[0]["weights"] == found[1]["weights"]


def test_no_candidate_is_shown_before_it_is_known_to_be_the_best(session, own_run):
    runs, run_id = str(own_run.root.parent), own_run.root.name
    sides = [side("best_of_n", 0, candidates=4)]
    parts = list(texts.generate(session, runs, run_id, PROMPT, sides, samples=2, horizon=5))
    assert [len(part["texts"]) for part in parts] == [0] * (len(parts) - 1) + [2]


def test_more_candidates_than_a_live_answer_may_have_are_refused(session, own_run):
    with pytest.raises(DataError, match="the best of 99 responses"):
        answered(session, own_run, side("best_of_n", 0, candidates=99))
