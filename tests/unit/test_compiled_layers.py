"""Compiled layers compute what they did before, each copy of a model with weights of its own."""

import pytest
import torch
from torch._inductor import config as inductor_config

from acft.backbone import compiled_layers
from acft.backbone.compiled_layers import compile_layers
from acft.backbone.loading import load_backbone
from acft.errors import ConfigError, ModelError
from acft.policy import Policy, trainable_policy
from acft.settings import AdapterSettings, ModelSettings, OptimizerSettings, SamplingSettings
from acft.types import Prompt, TokenBatch
from tests.fakes import save_tiny_model

COMPILE = OptimizerSettings(compile=True)
ADAPTER = AdapterSettings(rank=2)


class Traced:
    """Counts the graphs that it is given and runs them with PyTorch's own kernels."""

    def __init__(self):
        self.n_graphs = 0

    def __call__(self, graph, _):
        self.n_graphs += 1
        return graph.forward


@pytest.fixture
def traced(monkeypatch):
    backend = Traced()
    monkeypatch.setattr(compiled_layers, "BACKEND", backend)
    return backend


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("tiny"), heads=4, groups=2)


@pytest.fixture
def base(folder):
    return Policy(load_backbone(ModelSettings(name=str(folder)), "cpu", "float32"))


def batch(length=9, n=3):
    ids = torch.randint(0, 250, (n, length), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[0, -2:] = False
    return TokenBatch(ids, mask, mask)


def moved(policy):
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.2)
    return policy


def gradients(policy, some):
    policy.backbone.model.train()
    loss = policy.next_logprobs(some)[some.attention_mask].square().mean()
    return torch.autograd.grad(loss, policy.parameters())


def check_gradients(base, folder, texts, *, checkpointing=False):
    other = Policy(load_backbone(ModelSettings(name=str(folder)), "cpu", "float32"))
    settings = OptimizerSettings(checkpointing=checkpointing)
    plain = moved(trainable_policy(base, ADAPTER, 3, settings))
    settings = OptimizerSettings(checkpointing=checkpointing, compile=True)
    compiled = moved(trainable_policy(other, ADAPTER, 3, settings))
    for some in texts:
        for ours, expected in zip(gradients(compiled, some), gradients(plain, some), strict=True):
            torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-3)


def test_values_and_gradients_are_those_of_plain_layers(base, folder, traced):
    check_gradients(base, folder, [batch(), batch(12), batch(7, n=1)])
    assert traced.n_graphs == 4, "the first layer and others, one text and several"


def test_layers_that_are_computed_again_have_the_gradients_of_plain_layers(base, folder, traced):
    check_gradients(base, folder, [batch(), batch(12)], checkpointing=True)
    assert traced.n_graphs


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_compiler_changes_no_gradient(base, folder, monkeypatch, backend):
    monkeypatch.setattr(compiled_layers, "BACKEND", backend)
    check_gradients(base, folder, [batch(), batch(12), batch(7, n=1)])


def test_copies_share_the_code_and_compute_with_weights_of_their_own(base, traced):
    some = batch()
    before = base.next_logprobs(some)
    tuned = moved(trainable_policy(base, ADAPTER, 3, COMPILE))
    first = tuned.snapshot(base)
    second = moved(tuned).snapshot(base)
    said = [policy.next_logprobs(some) for policy in (base, first, second)]
    assert traced.n_graphs == 1
    said.append(tuned.next_logprobs(some))
    torch.testing.assert_close(said[0], before, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(said[2], said[3], atol=1e-5, rtol=1e-5)
    assert (said[1] - said[0]).abs().max() > 0.01
    assert (said[2] - said[1]).abs().max() > 0.01


def test_drawing_goes_on_uncompiled(base, monkeypatch):
    def refused(*_):
        raise AssertionError("a pass with a cache was compiled")

    prompts = [Prompt("a", "Rain", "train"), Prompt("b", "The sea", "train")]
    sampling = SamplingSettings(horizon=5, batch_size=4)
    expected = base.sample(prompts, 2, sampling, seed=1).rollouts
    monkeypatch.setattr(compiled_layers, "BACKEND", refused)
    compile_layers(base.backbone.model)
    assert base.sample(prompts, 2, sampling, seed=1).rollouts == expected


def test_compiling_twice_is_compiling_once(base):
    compile_layers(base.backbone.model)
    kinds = {type(module) for module in base.backbone.model.modules()}
    compile_layers(base.backbone.model)
    assert {type(module) for module in base.backbone.model.modules()} == kinds


def test_layers_that_cannot_be_compiled_say_what_to_do(base, monkeypatch):
    def broken(*_):
        raise RuntimeError("no such instruction")

    monkeypatch.setattr(compiled_layers, "BACKEND", broken)
    tuned = trainable_policy(base, ADAPTER, 3, COMPILE)
    expected = r"LlamaDecoderLayer cannot be compiled.*; set \[optimizer\] compile = false"
    with pytest.raises(ModelError, match=expected):
        tuned.next_logprobs(batch())


def test_a_missing_compiler_is_told_before_the_policy_is_made(base):
    expected = r"\[optimizer\] compile = true: needs the compiler 'no-such-compiler'"
    with (
        inductor_config.patch({"cpp.cxx": (None, "no-such-compiler")}),
        pytest.raises(ConfigError, match=expected),
    ):
        trainable_policy(base, ADAPTER, 3, COMPILE)
