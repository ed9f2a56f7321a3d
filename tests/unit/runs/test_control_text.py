"""A policy that was taught to answer behind a text is never used without it."""

import json

import pytest
import torch

from acft.__main__ import main
from acft.data import prompt_of
from acft.inference import texts
from acft.inference.opened import open_run as open_live
from acft.inference.server import Session
from acft.methods.base import METHODS
from acft.runs.restore import open_run
from acft.settings import SamplingSettings
from acft.types import Prompt, TokenBatch
from tests.tiny_run import tiny_settings, train

CONTROL = "quality 5 of 5\n"


@pytest.fixture(scope="module")
def quark(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quark")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACFT_ASSETS", str(folder / "cache"))
        patch.setattr(METHODS, "_is_discovered", False)
        changes = ('method={name="quark"}', "schedule.rounds=1")
        paths, code = train(tiny_settings(folder), folder / "runs", *changes)
        assert code == 0
        yield paths


def test_what_a_run_generates_is_drawn_behind_it(quark):
    run = open_run(quark.root)
    prompts, sampling = [prompt_of("See the sun")], SamplingSettings(horizon=6)
    (drawn,) = run.sampler().sample(prompts, 1, sampling, 0).rollouts
    tuned = run.tuned
    ids = tuned.backbone.tokenizer(CONTROL + "See the sun")["input_ids"]
    assert run.control == CONTROL
    assert drawn.prompt_text == "See the sun", "nobody outside sees it"
    assert len(drawn.prompt_ids) < len(ids)
    (base,) = run.sampler("base").sample(prompts, 1, sampling, 0).rollouts
    assert base.prompt_ids == drawn.prompt_ids


def test_live_answers_are_drawn_behind_it(quark):
    run, session = open_run(quark.root), Session("cpu")
    place = (str(quark.root.parent), quark.root.name)
    sides = [{"subject": "base", "version": 0}, {"subject": "policy", "version": 1}]
    conditions = {"samples": 4, "seed": 3, "horizon": 6, "top_p": 1.0}
    parts = texts.generate(session, *place, "See the sun", sides, **conditions)
    found = {part["side"]: part["texts"] for part in parts}
    prompts, sampling = [Prompt("live", "See the sun", "test")], SamplingSettings(horizon=6)
    for side, policy in enumerate((run.base, run.tuned)):
        drawn = policy.sample(prompts, 4, sampling, 3).rollouts
        assert found[side] == [rollout.response_text for rollout in drawn]
    assert texts.identify(session, *place, 1)["is_proved"]


def test_the_control_text_alone_proves_no_tuned_weights(quark):
    session, place = Session("cpu"), (str(quark.root.parent), quark.root.name)
    assert texts.identify(session, *place, 1)["is_proved"]
    for name, parameter in open_live(session, *place).tuned.backbone.model.named_parameters():
        if "lora_B" in name:
            parameter.data.zero_()
    assert not texts.identify(session, *place, 1)["is_proved"]


def test_what_follows_an_exchanged_token_is_written_behind_it(quark):
    run, place = open_run(quark.root), (str(quark.root.parent), quark.root.name)
    ids = run.tuned.backbone.tokenizer("See the sun")["input_ids"]
    found = texts.branch(Session("cpu"), *place, 1, "See the sun", ids, [7] * 6, 0, 8)
    token_ids = torch.tensor([[*ids, *found["response_ids"]]])
    mask = torch.ones_like(token_ids, dtype=torch.bool)
    likeliest = run.tuned.next_logprobs(TokenBatch(token_ids, mask, mask))[0].argmax(dim=-1)
    n = len(ids)
    assert found["response_ids"][1:] == likeliest[n:-1].tolist()


def test_who_exports_it_is_told_and_so_is_the_reader_of_the_card(quark, tmp_path, capsys):
    arguments = [quark.root.name, str(tmp_path / "out"), "--runs", str(quark.root.parent)]
    assert main(["export", *arguments]) == 0
    assert f"begin every prompt with {json.dumps(CONTROL)}" in capsys.readouterr().out
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"prompt = {json.dumps(CONTROL)} + prompt" in card
