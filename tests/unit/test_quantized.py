"""Frozen weights in few bits: refused in a sentence, or shared and trained beside."""

import pytest
import torch

from acft.backbone import quantized
from acft.backbone.loading import load_backbone
from acft.backbone.saving import write_model
from acft.backbone.toy import save_toy_model
from acft.errors import ModelError
from acft.policy import Policy, trainable_policy
from acft.settings import AdapterSettings, ModelSettings, SamplingSettings
from acft.types import Prompt
from tests.fakes import save_tiny_model
from tests.toy_runs import N_SYMBOLS, toy_run, trained

KINDS = ("nf4", "int8")
FEW_BITS = (torch.uint8, torch.int8)
PROMPTS = [Prompt("p0", "The rain", "train")]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("tiny"), width=64)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))


def base_of(model, kind):
    settings = ModelSettings(name=str(model), quantization=kind)
    return Policy(load_backbone(settings, "cpu", "float32"))


def test_without_bitsandbytes_one_sentence_says_so(model, monkeypatch):
    monkeypatch.setattr(quantized, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"needs bitsandbytes, .* install acft\[quantized\]"):
        base_of(model, "nf4")


def test_a_device_that_cannot_do_it_is_refused(model, monkeypatch):
    monkeypatch.setattr(quantized, "find_spec", lambda name: object())
    settings = ModelSettings(name=str(model), quantization="int8")
    with pytest.raises(ModelError, match=r"not possible on device = 'mps' \(allowed: cpu, cuda\)"):
        quantized.loading_options(settings, "mps", torch.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_the_base_policy_stays_near_the_whole_one(model, kind):
    whole, few = base_of(model, "none"), base_of(model, kind)
    assert few.backbone.sha256 != whole.backbone.sha256
    rollouts = whole.sample(PROMPTS, 8, SamplingSettings(horizon=6), seed=1).rollouts
    gaps = []
    for rollout in rollouts:
        ids = torch.tensor([[*rollout.prompt_ids, *rollout.response_ids]])
        hidden = [p.backbone.model(input_ids=ids).logits.log_softmax(-1) for p in (whole, few)]
        gaps.append(float((hidden[0] - hidden[1]).abs().mean()))
    assert 0 < max(gaps) < (2.0 if kind == "nf4" else 0.2)


@pytest.mark.parametrize("kind", KINDS)
def test_snapshots_share_the_frozen_weights_and_keep_their_own_adapter(model, kind):
    base = base_of(model, kind)
    policy = trainable_policy(base, AdapterSettings(rank=2), seed=0)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.05)
    frozen = policy.snapshot(base)
    ids = torch.tensor([[1, 2, 3, 4]])
    before = policy.backbone.model.eval()(input_ids=ids).logits
    torch.testing.assert_close(frozen.backbone.model(input_ids=ids).logits, before)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.05)
    torch.testing.assert_close(frozen.backbone.model(input_ids=ids).logits, before)
    assert not torch.allclose(policy.backbone.model(input_ids=ids).logits, before)
    places = [
        {p.data_ptr() for p in each.backbone.model.parameters() if p.dtype in FEW_BITS}
        for each in (base, policy, frozen)
    ]
    assert places[0] == places[1] == places[2] != set()
    assert not any(p.requires_grad for p in frozen.backbone.model.parameters())


def test_training_every_weight_and_writing_whole_weights_are_refused(model, tmp_path):
    base = base_of(model, "nf4")
    with pytest.raises(ModelError, match="set kind to 'lora'"):
        trainable_policy(base, AdapterSettings(kind="full"), seed=0)
    with pytest.raises(ModelError, match="no whole weights to write"):
        write_model(base.backbone, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["dpo", "rl"])
def test_another_trainer_takes_the_adapter_over_few_bits(tmp_path, kind, method):
    save_toy_model(tmp_path / "wide", N_SYMBOLS, width=64, context=32)
    run = toy_run(tmp_path, "schedule.rounds=1", "optimizer.lr=0.01")
    chosen = ModelSettings(name=str(tmp_path / "wide"), quantization=kind)
    result = trained(tmp_path / "a", run.model_copy(update={"model": chosen}), {"name": method})
    moved = [value for name, value in result.weights(1).items() if "lora_B" in name]
    assert moved
    assert any(bool(value.any()) for value in moved)
    assert {value.dtype for value in moved} == {torch.float32}  # as the adapter's masters are


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_trains_validates_and_resumes(tmp_path, kind):
    run = toy_run(tmp_path, "schedule.rounds=2")
    save_toy_model(tmp_path / "wide", N_SYMBOLS, width=64, context=32)
    chosen = ModelSettings(name=str(tmp_path / "wide"), quantization=kind)
    run = run.model_copy(update={"model": chosen})
    method = {"name": "acft"}
    whole = trained(tmp_path / "a", run, method)
    assert whole.checkpoints.keys() == {1, 2}
    resumed = trained(tmp_path / "b", run, method, resume=(whole.checkpoints[1], 1))
    assert resumed.scalars("policy/", 2) == whole.scalars("policy/", 2)
