"""Responses come from a server over real HTTP, and nothing it says is believed unchecked."""

import dataclasses

import pytest
import torch

from acft.backbone.loading import load_backbone
from acft.engines import http
from acft.engines.base import build_engine
from acft.engines.readback import proposed, read_again
from acft.errors import ModelError
from acft.policy import Policy, trainable_policy
from acft.settings import AdapterSettings, ModelSettings, RunSettings, SamplingSettings
from acft.token_choice import choose
from acft.types import Prompt
from tests.completion_server import CompletionServer, serving
from tests.fakes import save_tiny_model

PROMPTS = [Prompt(f"p{i}", text, "train") for i, text in enumerate(["Rain", "The sea", "A river"])]
SAMPLING = SamplingSettings(horizon=6, batch_size=4)
ADAPTER = AdapterSettings(rank=4)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def server(model):
    with serving(CompletionServer(model)) as running:
        yield running


@pytest.fixture(autouse=True)
def _own_cache_and_no_pauses(tmp_path, monkeypatch):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))
    monkeypatch.setattr(http, "sleep", lambda seconds: None)


def policy_of(folder, server, kind="vllm", **settings):
    """A policy that draws from the server."""
    values = {"kind": kind, "address": server.address, "model": "base", "requests": 4} | settings
    run = RunSettings.parse({"model": {"name": str(folder)}, "engine": values})
    backbone = load_backbone(ModelSettings(name=str(folder)), "cpu", "float32")
    return Policy(backbone, engine=build_engine(run))


def moved(policy, seed=0):
    """Trainable on the policy's weights, and no longer equal to it."""
    trained = trainable_policy(policy, ADAPTER, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    trained.version = policy.version + 1
    return trained


def test_rollouts_carry_the_policy_s_own_log_probabilities(model, server):
    policy = policy_of(model, server)
    samples = policy.sample(PROMPTS, 5, SAMPLING, seed=1, keep_hidden=True)
    assert [r.rollout_id for r in samples.rollouts[:6]] == [
        "p0-0", "p0-1", "p0-2", "p0-3", "p0-4", "p1-0",
    ]  # fmt: skip
    assert samples.windows is not None
    assert len(samples.windows) == len(samples.rollouts) == 15
    for rollout in samples.rollouts:
        assert len(rollout.response_logprobs) == len(rollout.response_ids)
        assert rollout.log_weight == pytest.approx(0.0, abs=1e-3)
    assert samples.checks.n_drawn == 15
    assert samples.checks.gap / samples.checks.n_gap < 1e-4
    assert abs(samples.checks.z) < 4


def test_the_same_seed_gives_the_same_rollouts_whatever_else_is_drawn(model, server):
    policy = policy_of(model, server)
    whole = policy.sample(PROMPTS, 3, SAMPLING, seed=5).rollouts
    part = policy.sample(PROMPTS[1:2], 2, SAMPLING, seed=5).rollouts
    by_id = {rollout.rollout_id: rollout.response_ids for rollout in whole}
    assert {r.rollout_id: r.response_ids for r in part}.items() <= by_id.items()
    assert len({body["seed"] for body in server.requests[:9]}) == 9


def test_what_is_read_again_is_what_drawing_here_would_have_kept(model, server):
    local = dataclasses.replace(policy_of(model, server), engine=Policy.engine)
    drawn = local.sample(PROMPTS, 4, SAMPLING, seed=2, keep_hidden=True)
    read = read_again(
        local.backbone, [r.prompt_ids for r in drawn.rollouts],
        [r.response_ids for r in drawn.rollouts], SAMPLING, keep_hidden=True,
    )  # fmt: skip
    for rollout, logprobs in zip(drawn.rollouts, read.logprobs, strict=True):
        assert logprobs == pytest.approx(rollout.response_logprobs, abs=1e-4)
    assert drawn.windows is not None
    assert read.window is not None
    kept = drawn.windows.mask
    assert torch.equal(read.window.token_ids[kept], drawn.windows.token_ids[kept])
    for name in ("mask", "prompt_ids", "prompt_mask"):
        assert torch.equal(getattr(read.window, name), getattr(drawn.windows, name))
    torch.testing.assert_close(
        read.window.hidden[kept], drawn.windows.hidden[kept], atol=2e-3, rtol=2e-3
    )


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 1.0), (1.0, 0.8), (1.4, 0.5)])
def test_log_probabilities_of_the_proposal_are_those_of_drawing_here(temperature, top_p):
    logprobs = torch.randn(40, 30).log_softmax(dim=-1)
    chosen, expected = choose(logprobs, torch.rand(40), temperature, top_p)
    whole, found = proposed(logprobs, chosen, temperature, top_p)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(whole.exp().sum(dim=-1), torch.ones(40))


def test_each_version_s_adapter_is_loaded_and_older_ones_are_unloaded(model, server):
    base = policy_of(model, server)
    names = []
    for seed in range(5):
        trained = moved(base, seed)
        frozen = trained.snapshot(base)
        samples = frozen.sample(PROMPTS, 2, SAMPLING, seed=3)
        names.append(frozen.weights)
        assert server.requests[-1]["model"] == frozen.weights
        assert samples.checks.gap / samples.checks.n_gap < 1e-3
    assert len(set(names)) == 5
    assert set(server.models) == {"base", *names[-3:]}


def test_weights_are_deleted_even_where_the_server_cannot_be_told_to_forget_them(model, server):
    base = policy_of(model, server)
    for seed in range(3):
        moved(base, seed).snapshot(base)
    base.engine.server._place = http.parse_address("http://127.0.0.1:9")  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ModelError, match="no answer to /v1/unload_lora_adapter"):
        moved(base, 3).snapshot(base)
    base.engine.close()
    assert not list(base.engine._folder.iterdir())  # pyright: ignore[reportAttributeAccessIssue]


def test_a_server_that_is_busy_is_asked_again(model, server):
    server.failures = 3
    assert len(policy_of(model, server).sample(PROMPTS, 1, SAMPLING, seed=1).rollouts) == 3


def test_a_missing_server_is_one_sentence_after_every_try(model, server):
    policy = policy_of(model, server, retries=2)
    policy.engine.server._place = http.parse_address("http://127.0.0.1:9")  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ModelError, match=r"no answer to /v1/models in 3 tries .*is it running"):
        policy.sample(PROMPTS, 1, SAMPLING, seed=1)


def test_a_key_is_sent_and_its_absence_is_an_error(model, server, monkeypatch):
    server.key = "secret"
    with pytest.raises(ModelError, match="status 401"):
        policy_of(model, server).sample(PROMPTS, 1, SAMPLING, seed=1)
    monkeypatch.setenv("ACFT_ENGINE_KEY", "secret")
    assert policy_of(model, server).sample(PROMPTS, 1, SAMPLING, seed=1).rollouts


def test_a_server_of_another_name_is_refused(model, server):
    with pytest.raises(ModelError, match="serves base, not 'other'"):
        policy_of(model, server, model="other").sample(PROMPTS, 1, SAMPLING, seed=1)


def test_other_weights_under_the_right_name_are_found_by_their_log_probabilities(
    model, server, tmp_path
):
    other = save_tiny_model(tmp_path / "other", seed=1)
    with pytest.raises(ModelError, match=r"log-probabilities that differ .* above \[engine\]"):
        policy_of(other, server).sample(PROMPTS, 4, SAMPLING, seed=1)


def test_other_weights_are_found_without_log_probabilities_too(model, server, tmp_path):
    server.tells_logprobs = False
    other = save_tiny_model(tmp_path / "other", seed=1)
    with pytest.raises(ModelError, match="does not draw from the policy"):
        policy_of(other, server).sample(PROMPTS, 20, SAMPLING, seed=1)


def test_a_server_that_cuts_the_distribution_off_is_found(model, server):
    server.top_k = 5
    with pytest.raises(ModelError, match="less likely than expected"):
        policy_of(model, server).sample(PROMPTS, 60, SAMPLING, seed=1)


@pytest.mark.parametrize(("kind", "name"), [("vllm", "vLLM"), ("sglang", "SGLang")])
def test_a_server_that_cannot_load_adapters_says_what_to_start_it_with(model, server, kind, name):
    server.can_load = False
    base = policy_of(model, server, kind)
    frozen = moved(base).snapshot(base)
    with pytest.raises(ModelError, match=f"start {name} with --enable-lora"):
        frozen.sample(PROMPTS, 1, SAMPLING, seed=1)


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_servers_of_adapters_are_asked_and_answer_in_token_ids(model, server, kind):
    samples = policy_of(model, server, kind).sample(PROMPTS, 5, SAMPLING, seed=1)
    assert samples.checks.n_refused == 0
    asked = {tuple(body["prompt"]) for body in server.requests}
    assert asked == {rollout.prompt_ids for rollout in samples.rollouts}


def test_an_older_server_of_adapters_answers_in_text(model, server):
    server.tells_ids = False
    short = SamplingSettings(horizon=2)
    samples = policy_of(model, server, "sglang").sample(PROMPTS, 4, short, seed=1)
    assert samples.checks.n_refused > 0


@pytest.mark.parametrize(("kind", "n_gap"), [("vllm", True), ("sglang", False)])
def test_a_server_may_tell_log_probabilities_at_its_temperature(model, server, kind, n_gap):
    server.tells_scaled = kind == "sglang"
    hot = SAMPLING.at(temperature=2.0)
    samples = policy_of(model, server, kind).sample(PROMPTS, 8, hot, seed=1)
    assert bool(samples.checks.n_gap) == n_gap
    assert abs(samples.checks.z) < 4
    cold = policy_of(model, server, kind).sample(PROMPTS, 2, SAMPLING, seed=1)
    assert cold.checks.gap / cold.checks.n_gap < 1e-4


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_an_adapter_that_the_server_has_already_is_drawn_from(model, server, kind):
    drawn = []
    for _ in range(2):  # a resumed run, or another process of the same one
        base = policy_of(model, server, kind)
        drawn.append(moved(base).snapshot(base).sample(PROMPTS, 4, SAMPLING, seed=1).rollouts)
    assert drawn[0] == drawn[1]
    assert server.requests[-1]["model"].endswith(next(n for n in server.models if n != "base"))


def test_a_plain_server_gets_whole_weights_in_a_folder_and_a_sentence(model, server):
    base = policy_of(model, server, kind="completions")
    frozen = moved(base).snapshot(base)
    with pytest.raises(ModelError, match="cannot load new weights by itself") as caught:
        frozen.sample(PROMPTS, 1, SAMPLING, seed=1)
    (folder,) = (base.engine._folder / frozen.weights,)  # pyright: ignore[reportAttributeAccessIssue]
    assert str(folder) in str(caught.value)
    opened = load_backbone(ModelSettings(name=str(folder)), "cpu", "float32")
    state = frozen.backbone.model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in opened.model.state_dict().items())


def test_responses_whose_tokens_cannot_be_told_are_counted_and_drawn_again(model, server):
    """Half of the byte model's tokens are no letters, so text alone often hides them."""
    server.tells_ids = server.tells_logprobs = False
    short = SamplingSettings(horizon=2)
    samples = policy_of(model, server, kind="completions").sample(PROMPTS, 4, short, seed=1)
    assert len(samples.rollouts) == 12
    assert samples.checks.n_refused > 0
    assert samples.checks.scalars()["engine/refused_share"] > 0
