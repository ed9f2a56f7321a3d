"""A compiled step over a fixed cache says what the uncompiled one says."""

import gc
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from threading import Barrier, BrokenBarrierError

import pytest
import torch
from torch._inductor import config as inductor_config
from torch.nn.functional import scaled_dot_product_attention
from transformers import StaticCache

from acft.backbone import compiler
from acft.backbone.cached_decoder import CachedDecoder
from acft.backbone.compiled import CompiledModel, CompiledSteps
from acft.backbone.loading import load_backbone
from acft.engines import build_engine
from acft.engines.compiled import CompiledEngine
from acft.errors import ConfigError, ModelError
from acft.policy import Policy, trainable_policy
from acft.settings import AdapterSettings, ModelSettings, RunSettings, SamplingSettings
from acft.threads import Workers
from acft.types import Prompt, TokenBatch
from tests.fakes import save_tiny_model

TEXTS = ["Rain", "The sea and the land", "A river", "Night"]
PROMPTS = [Prompt(f"p{i}", text, "train") for i, text in enumerate(TEXTS)]
SAMPLING = SamplingSettings(horizon=8, batch_size=8)


class Traced:
    """Keeps the graphs that it is given and runs them with PyTorch's own kernels."""

    def __init__(self):
        self.graphs = []

    def __call__(self, graph, _):
        self.graphs.append(graph)
        return graph.forward


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    model = save_tiny_model(tmp_path_factory.mktemp("tiny"), layers=1, heads=4, groups=2)
    return Policy(load_backbone(ModelSettings(name=str(model)), "cpu", "float32"))


def moved(policy):
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.3)
    return policy


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


def test_responses_and_hidden_states_are_those_of_the_local_engine(base):
    traced = Traced()
    policy = replace(base, engine=CompiledEngine(traced))
    for keep_hidden, n in ((True, 6), (False, 1)):
        drawn = policy.sample(PROMPTS, n, SAMPLING, seed=1, keep_hidden=keep_hidden)
        assert same(drawn, base.sample(PROMPTS, n, SAMPLING, seed=1, keep_hidden=keep_hidden))
    assert len(traced.graphs) == 1, "sizes are rounded up"


@pytest.mark.slow
def test_a_compiler_changes_no_response(base):
    policy = replace(base, engine=CompiledEngine())
    drawn = policy.sample(PROMPTS, 6, SAMPLING, seed=1, keep_hidden=True)
    assert same(drawn, base.sample(PROMPTS, 6, SAMPLING, seed=1, keep_hidden=True))


def test_threads_that_draw_side_by_side_have_a_cache_each_and_share_the_code(base):
    traced = Traced()
    policy = replace(base, engine=CompiledEngine(traced))
    for workers, n in ((Workers(2), 4), (Workers(1), 1)):
        drawn = replace(policy, workers=workers).sample(PROMPTS, n, SAMPLING, seed=1)
        assert same(drawn, base.sample(PROMPTS, n, SAMPLING, seed=1))
    assert len(traced.graphs) == 1


def test_threads_that_ask_for_code_at_once_get_the_same(monkeypatch):
    meeting = Barrier(2)

    def compiled(*_, **__):
        with suppress(BrokenBarrierError):
            meeting.wait(0.2)
        return lambda *_: None

    monkeypatch.setattr(torch, "compile", compiled)
    steps = CompiledSteps()
    with ThreadPoolExecutor(2) as pool:
        assert len(set(pool.map(steps.of, [(16, 64)] * 2))) == 1


def test_weights_are_those_of_the_policy_that_is_drawn_from(base):
    traced = Traced()
    base = replace(base, engine=CompiledEngine(traced))
    tuned = moved(trainable_policy(base, AdapterSettings(rank=2), seed=3))
    for policy in (base, tuned.snapshot(base), tuned, moved(tuned).snapshot(base), base):
        expected = replace(policy, engine=Policy(policy.backbone).engine)
        assert same(
            policy.sample(PROMPTS, 4, SAMPLING, seed=1),
            expected.sample(PROMPTS, 4, SAMPLING, seed=1),
        )
    assert len(traced.graphs) == 2, "merged weights need no second compilation"


def test_a_draw_copies_no_weight_and_leaves_no_cache(base):
    model = base.backbone.model
    copied = CompiledModel(model, "tiny", CompiledSteps(Traced()))._decoder
    assert {id(p) for p in copied.parameters()} <= {id(p) for p in model.parameters()}
    replace(base, engine=CompiledEngine(Traced())).sample(PROMPTS, 4, SAMPLING, seed=1)
    assert not [kept for kept in gc.get_objects() if type(kept) is StaticCache]


def test_draws_within_one_set_up_share_it_and_leave_no_cache_behind(base, monkeypatch):
    made = []

    def model_of(*args):
        made.append(CompiledModel(*args))
        return made[-1]

    monkeypatch.setattr("acft.engines.compiled.CompiledModel", model_of)
    policy = replace(base, engine=CompiledEngine(Traced()))
    tuned = moved(trainable_policy(base, AdapterSettings(rank=2), seed=3)).snapshot(base)
    with policy.engine.prepared(policy.backbone):
        for own in (policy, replace(tuned, engine=policy.engine), policy):
            drawn = own.sample(PROMPTS, 4, SAMPLING, seed=1)
            assert same(drawn, replace(own, engine=base.engine).sample(PROMPTS, 4, SAMPLING, 1))
    assert len(made) == 2, "one for each policy"
    policy.sample(PROMPTS, 1, SAMPLING, seed=1)
    assert len(made) == 3
    made.clear()
    gc.collect()
    assert not [kept for kept in gc.get_objects() if type(kept) is StaticCache]


def test_heads_that_share_keys_read_them_together(tmp_path):
    folder = save_tiny_model(tmp_path, layers=1, heads=4, groups=2)
    local = Policy(load_backbone(ModelSettings(name=str(folder)), "cpu", "float32"))
    local.backbone.model.set_attn_implementation("sdpa")  # as on a GPU
    traced = Traced()
    policy = replace(local, engine=CompiledEngine(traced))
    assert same(
        policy.sample(PROMPTS, 4, SAMPLING, seed=1), local.sample(PROMPTS, 4, SAMPLING, seed=1)
    )
    called = {node.target for graph in traced.graphs for node in graph.graph.nodes}
    assert called
    assert scaled_dot_product_attention not in called
    assert local.backbone.model.config._attn_implementation == "sdpa"


def test_a_batch_that_fails_gives_its_cache_back(base):
    model = base.backbone.model
    compiled = CompiledModel(model, "tiny", CompiledSteps(Traced()))
    ids = torch.ones(2, 3, dtype=torch.long)
    for _ in range(2):
        with (
            pytest.raises(KeyError),
            torch.no_grad(),
            compiled.continued(CachedDecoder(model, ids, ids.bool()), 4),
        ):
            raise KeyError
    assert [len(seats) for seats in compiled._free.values()] == [1]


def test_caches_of_sizes_that_are_over_are_given_back(base):
    model = base.backbone.model
    compiled = CompiledModel(model, "tiny", CompiledSteps(Traced()))

    def use(n_tokens):
        ids = torch.ones(2, 3, dtype=torch.long)
        with torch.no_grad(), compiled.continued(CachedDecoder(model, ids, ids.bool()), n_tokens):
            pass

    for n_tokens in (4, 68, 4, 132):
        use(n_tokens)
    assert list(compiled._free) == [(16, 64), (16, 192)]
    gc.collect()
    assert len([kept for kept in gc.get_objects() if type(kept) is StaticCache]) == 2


def test_more_variants_than_torch_permits_are_told_with_what_to_do(base):
    base = replace(base, engine=CompiledEngine(Traced()))
    tuned = trainable_policy(base, AdapterSettings(rank=2), seed=3)
    base.sample(PROMPTS, 1, SAMPLING, seed=1)
    expected = r"cannot be compiled.*; set \[engine\] kind = 'local'"
    with (
        torch._dynamo.config.patch(recompile_limit=1),
        pytest.raises(ModelError, match=expected),
    ):
        tuned.sample(PROMPTS, 1, SAMPLING, seed=1)


def test_a_step_that_cannot_be_compiled_says_what_to_do(base):
    def broken(*_):
        raise RuntimeError("no such instruction")

    policy = replace(base, engine=CompiledEngine(broken))
    with pytest.raises(
        ModelError, match=r"cannot be compiled.*no such instruction; set \[engine\] kind = 'local'"
    ):
        policy.sample(PROMPTS, 1, SAMPLING, seed=1)


def test_a_missing_compiler_is_told_before_anything_is_loaded():
    expected = "the compiler 'no-such-compiler', which is not installed"
    with (
        inductor_config.patch({"cpp.cxx": (None, "no-such-compiler")}),
        pytest.raises(ConfigError, match=expected),
    ):
        build_engine(RunSettings.parse({"device": "cpu", "engine": {"kind": "compiled"}}))


@pytest.mark.parametrize("has_triton", [False, True])
def test_a_gpu_needs_triton_and_a_c_compiler(monkeypatch, has_triton):
    monkeypatch.setattr(compiler, "find_spec", lambda _: has_triton or None)
    monkeypatch.setenv("CC", "no-such-compiler")
    expected = "'no-such-compiler'.*variable CC" if has_triton else "needs the package triton"
    with pytest.raises(ConfigError, match=expected):
        compiler.require_compiler("[engine] kind = 'compiled'", "kind to 'local'", "cuda")


@pytest.fixture
def replays(monkeypatch):
    """Calls of a recorded graph, in turn."""
    calls = []
    replay = torch.cuda.CUDAGraph.replay

    def counted(graph):
        calls.append(graph)
        replay(graph)

    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", counted)
    return calls


@pytest.mark.gpu
def test_a_gpu_replays_the_step_that_it_recorded(tmp_path, replays):
    backbone = load_backbone(ModelSettings(name=str(save_tiny_model(tmp_path))), "cuda", "float32")
    local = Policy(backbone)
    policy = replace(local, engine=CompiledEngine())
    for seed in (1, 2):
        drawn = policy.sample(PROMPTS, 6, SAMPLING, seed=seed, keep_hidden=True)
        assert same(drawn, local.sample(PROMPTS, 6, SAMPLING, seed=seed, keep_hidden=True))
    assert len(replays) > SAMPLING.horizon
    assert len(set(replays)) == 2, "one graph a draw"


@pytest.mark.gpu
def test_a_gpu_replays_in_bfloat16_what_a_forward_pass_says(tmp_path, replays):
    model = save_tiny_model(tmp_path, heads=4, groups=2)
    backbone = load_backbone(ModelSettings(name=str(model)), "cuda", "bfloat16")
    policy = Policy(backbone, engine=CompiledEngine())
    for rollout in policy.sample(PROMPTS, 6, SAMPLING, seed=1).rollouts:
        ids = torch.tensor([[*rollout.prompt_ids, *rollout.response_ids]], device="cuda")
        mask = torch.ones_like(ids, dtype=torch.bool)
        own = policy.token_logprobs(TokenBatch(ids, mask, mask))[0, len(rollout.prompt_ids) - 1 :]
        assert list(rollout.response_logprobs) == pytest.approx(own.tolist(), abs=0.1)
    assert len(replays) >= SAMPLING.horizon - 1
