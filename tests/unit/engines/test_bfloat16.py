"""A coarser copy draws; what is kept of its responses is the policy's own."""

import pytest
import torch

from acft.backbone.adapters import rounded_copy
from acft.backbone.loading import load_backbone
from acft.engines import build_engine
from acft.policy import Policy
from acft.settings import ModelSettings, RunSettings, SamplingSettings
from acft.types import Prompt, TokenBatch
from tests.fakes import save_tiny_model

PROMPTS = [Prompt(f"p{i}", text, "train") for i, text in enumerate(["Rain", "The sea", "A river"])]
SAMPLING = SamplingSettings(horizon=6, batch_size=8)


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    model = save_tiny_model(tmp_path_factory.mktemp("tiny"))
    backbone = load_backbone(ModelSettings(name=str(model)), "cpu", "float32")
    return Policy(
        backbone, engine=build_engine(RunSettings.parse({"engine": {"kind": "bfloat16"}}))
    )


def test_log_probabilities_are_the_policy_s_and_weights_make_up_for_the_copy(policy):
    samples = policy.sample(PROMPTS, 6, SAMPLING, seed=1, keep_hidden=True)
    assert len(samples.rollouts) == len(samples.windows) == 18
    for rollout in samples.rollouts:
        ids = torch.tensor([[*rollout.prompt_ids, *rollout.response_ids]])
        mask = torch.ones_like(ids, dtype=torch.bool)
        own = policy.token_logprobs(TokenBatch(ids, mask, mask))[0]
        own = own[len(rollout.prompt_ids) - 1 :].tolist()
        assert list(rollout.response_logprobs) == pytest.approx(own, abs=1e-4)
    weights = [abs(rollout.log_weight) for rollout in samples.rollouts]
    assert 1e-5 < max(weights) < 0.5
    assert 0 < samples.checks.scalars()["engine/logprob_gap"] < 0.1


def test_the_policy_s_own_weights_stay_whole(policy):
    before = {name: value.clone() for name, value in policy.backbone.model.state_dict().items()}
    policy.sample(PROMPTS, 2, SAMPLING, seed=1)
    after = policy.backbone.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_weights_are_rounded_once_for_draws_that_share_a_set_up(policy, monkeypatch):
    copies = []

    def copied(*args):
        copies.append(rounded_copy(*args))
        return copies[-1]

    monkeypatch.setattr("acft.engines.bfloat16.rounded_copy", copied)
    once = policy.sample(PROMPTS, 2, SAMPLING, seed=1).rollouts
    with policy.engine.prepared(policy.backbone):
        assert [policy.sample(PROMPTS, 2, SAMPLING, seed=1).rollouts for _ in range(2)] == [
            once
        ] * 2
    assert len(copies) == 2
    policy.sample(PROMPTS, 1, SAMPLING, seed=1)
    assert len(copies) == 3, "weights may have changed since"


def test_what_is_no_weight_is_as_exact_in_the_copy(policy):
    copied = rounded_copy(policy.backbone.model, torch.bfloat16)
    assert {parameter.dtype for parameter in copied.parameters()} == {torch.bfloat16}
    for (name, own), (_, exact) in zip(
        copied.named_buffers(), policy.backbone.model.named_buffers(), strict=True
    ):
        assert torch.equal(own, exact), name
