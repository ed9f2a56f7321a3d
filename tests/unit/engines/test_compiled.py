"""A compiled step over a fixed cache says what the uncompiled one says."""

from dataclasses import replace

import pytest
import torch

from acft.backbone.loading import load_backbone
from acft.engines import build_engine
from acft.engines.compiled import CompiledEngine
from acft.errors import ConfigError, ModelError
from acft.policy import Policy, trainable_policy
from acft.settings import AdapterSettings, ModelSettings, RunSettings, SamplingSettings
from acft.threads import Workers
from acft.types import Prompt
from tests.fakes import save_tiny_model

TEXTS = ["Rain", "The sea and the land", "A river", "Night"]
PROMPTS = [Prompt(f"p{i}", text, "train") for i, text in enumerate(TEXTS)]
SAMPLING = SamplingSettings(horizon=8, batch_size=8)
TRACED = "eager"
"""Traces a step and replays it with PyTorch's own kernels; needs no compiler."""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    model = save_tiny_model(tmp_path_factory.mktemp("tiny"))
    return Policy(load_backbone(ModelSettings(name=str(model)), "cpu", "float32"))


def same(compiled, local):
    for drawn, expected in zip(compiled.rollouts, local.rollouts, strict=True):
        assert drawn.response_ids == expected.response_ids
        assert drawn.response_logprobs == pytest.approx(expected.response_logprobs, abs=1e-4)
    if local.windows is not None:
        assert torch.equal(compiled.windows.token_ids, local.windows.token_ids)
        torch.testing.assert_close(
            compiled.windows.hidden, local.windows.hidden, atol=1e-3, rtol=1e-3
        )
    return True


@pytest.mark.parametrize("backend", [TRACED, "inductor"])
def test_responses_and_hidden_states_are_those_of_the_local_engine(base, backend):
    policy = replace(base, engine=CompiledEngine(backend))
    for keep_hidden, n in ((True, 6), (False, 1)):
        drawn = policy.sample(PROMPTS, n, SAMPLING, seed=1, keep_hidden=keep_hidden)
        assert same(drawn, base.sample(PROMPTS, n, SAMPLING, seed=1, keep_hidden=keep_hidden))


def test_threads_that_draw_side_by_side_have_a_cache_each(base):
    policy = replace(base, engine=CompiledEngine(TRACED), workers=Workers(2))
    for seed in (1, 2):
        drawn = policy.sample(PROMPTS, 8, SAMPLING, seed=seed)
        assert same(drawn, base.sample(PROMPTS, 8, SAMPLING, seed=seed))


def test_weights_are_those_of_the_policy_that_is_drawn_from(base):
    engine = CompiledEngine(TRACED)
    base = replace(base, engine=engine)
    tuned = trainable_policy(base, AdapterSettings(rank=2), seed=3)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.add_(0.3)
    snapshot = tuned.snapshot(base)
    for policy in (base, snapshot, tuned, base):
        expected = replace(policy, engine=Policy(policy.backbone).engine)
        assert same(
            policy.sample(PROMPTS, 4, SAMPLING, seed=1),
            expected.sample(PROMPTS, 4, SAMPLING, seed=1),
        )
    assert len(engine._compiled) == 2, "merged weights need no second compilation"


def test_a_cache_that_was_used_before_leaves_nothing_behind(base):
    policy = replace(base, engine=CompiledEngine(TRACED))
    first = policy.sample(PROMPTS[:1], 3, SAMPLING, seed=1)
    policy.sample(PROMPTS[1:2], 3, SAMPLING, seed=2)
    assert same(policy.sample(PROMPTS[:1], 3, SAMPLING, seed=1), first)


def test_a_step_that_cannot_be_compiled_says_what_to_do(base):
    def broken(*_):
        raise RuntimeError("no such instruction")

    policy = replace(base, engine=CompiledEngine(broken))
    with pytest.raises(
        ModelError, match=r"cannot be compiled.*no such instruction; set \[engine\] kind = 'local'"
    ):
        policy.sample(PROMPTS, 1, SAMPLING, seed=1)


def test_a_missing_compiler_is_told_before_anything_is_loaded(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(
        ConfigError, match="the compiler 'no-such-compiler', which is not installed"
    ):
        build_engine(RunSettings.parse({"engine": {"kind": "compiled"}}))


@pytest.mark.gpu
def test_a_gpu_replays_the_step_that_it_recorded(tmp_path):
    backbone = load_backbone(ModelSettings(name=str(save_tiny_model(tmp_path))), "cuda", "float32")
    local = Policy(backbone)
    policy = replace(local, engine=CompiledEngine())
    for seed in (1, 2):
        drawn = policy.sample(PROMPTS, 6, SAMPLING, seed=seed, keep_hidden=True)
        assert same(drawn, local.sample(PROMPTS, 6, SAMPLING, seed=seed, keep_hidden=True))
