"""What every kind of oracle promises: one R however it is asked, and no look at the future."""

import dataclasses

import pytest
import torch

from acft.backbone.forward import logits
from acft.objective import prompt_log_r
from acft.oracle.base import ORACLES
from acft.settings import SamplingSettings
from acft.training.oracle_job import build_oracle, with_verdicts
from tests.toy_runs import HORIZON, toy_run, world_of

CONSISTENT = ("exact", "dinado_lora", "dinado_recurrent")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("toy")


@pytest.fixture(params=ORACLES.names())
def asked(request, place, monkeypatch):
    """The kind, an oracle of it with random weights, a window of responses, and the world."""
    monkeypatch.setenv("ACFT_ASSETS", str(place))
    world = world_of(toy_run(place, f"oracle.kind={request.param}"))
    drawn = world.base.sample(
        world.prompts["train"][:2], 3, SamplingSettings(horizon=HORIZON), seed=0, keep_hidden=True
    )
    assert drawn.windows is not None
    satisfaction, window = with_verdicts(world, drawn.rollouts, drawn.windows)
    oracle = build_oracle(world)
    oracle.follow(world.base.backbone)
    oracle.prepare(window, 0.3 * torch.tensor(satisfaction))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in oracle.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return request.param, oracle.eval(), window, world


@torch.no_grad()
def test_the_answer_about_one_token_is_that_of_all_tokens(asked):
    _, oracle, window, _ = asked
    states = oracle.states(window)[:, :-1]
    every = oracle.next_log_r(states)
    one = oracle.token_log_r(states, window.token_ids[:, 1:])
    assert torch.allclose(one, every.gather(-1, window.token_ids[:, 1:, None])[..., 0], atol=1e-5)
    assert float(every.min()) >= oracle.log_r_min - 1e-5
    assert float(every.max()) <= 0.0


def test_whole_responses_are_judged_as_their_tokens_are_and_learned_from_alike(asked):
    _, oracle, window, _ = asked
    oracle.train()
    weights = torch.linspace(-1, 1, window.mask[:, 1:].numel()).reshape(window.mask[:, 1:].shape)
    found = []
    for asks in (
        lambda states: oracle.response_log_r(states, window.token_ids),
        lambda states: oracle.token_log_r(states[:, :-1], window.token_ids[:, 1:]),
    ):
        oracle.zero_grad()
        torch.manual_seed(0)  # dropout
        log_r = asks(oracle.states(window))
        if log_r.requires_grad:
            (log_r * weights).sum().backward()
        gradients = [p.grad.clone() for p in oracle.parameters() if p.grad is not None]
        found.append([log_r.detach(), *gradients])
    for each, expected in zip(*found, strict=True):
        torch.testing.assert_close(each, expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_states_have_a_type_that_every_device_has(asked):
    _, oracle, window, _ = asked
    assert oracle.states(window).dtype == torch.float32  # Apple's GPUs have no float64


@torch.no_grad()
def test_later_tokens_change_no_earlier_answer(asked):
    _, oracle, window, _ = asked
    tokens, hidden, verdicts = window.token_ids.clone(), window.hidden.clone(), window.verdicts
    tokens[:, 3:] = tokens[:, 3:].flip(0)
    hidden[:, 3:] = hidden[:, 3:].flip(0)
    verdicts = torch.cat([verdicts[:, :3], 1 - verdicts[:, 3:]], dim=1)
    other = dataclasses.replace(window, token_ids=tokens, hidden=hidden, verdicts=verdicts)
    assert not torch.equal(other.token_ids, window.token_ids)
    before, after = oracle.states(window)[:, :3], oracle.states(other)[:, :3]
    assert torch.allclose(oracle.next_log_r(before), oracle.next_log_r(after), atol=1e-5)
    assert torch.allclose(oracle.prefix_log_r(before), oracle.prefix_log_r(after), atol=1e-5)


@torch.no_grad()
def test_a_window_that_grows_by_one_token_at_a_time_comes_to_the_same_states(asked):
    _, oracle, window, _ = asked
    whole = oracle.states(window)
    known = oracle.states(beginning(window, 1))
    for length in range(2, whole.shape[1] + 1):
        known = oracle.longer_states(beginning(window, length), known)
        assert known.shape[1] == length
    for again in (known, oracle.longer_states(window, oracle.states(beginning(window, 3)))):
        for answer in (oracle.next_log_r, oracle.prefix_log_r):
            torch.testing.assert_close(answer(again), answer(whole), atol=1e-5, rtol=1e-5)


def beginning(window, length):
    """The first indices of a window."""
    names = ("hidden", "token_ids", "mask", "verdicts")
    return dataclasses.replace(window, **{n: getattr(window, n)[:, :length] for n in names})


@torch.no_grad()
def test_consistent_kinds_give_a_prefix_what_its_next_tokens_average_to(asked):
    kind, oracle, window, world = asked
    if kind not in CONSISTENT:
        pytest.skip("learns consistency, if at all")
    states = oracle.states(window)[:, :-1]
    model = world.base.backbone.model
    next_logprobs = logits(model, window.hidden[:, :-1].to(model.dtype)).log_softmax(dim=-1)
    next_log_r = oracle.next_log_r(states)
    average = prompt_log_r(next_logprobs.flatten(0, 1), next_log_r.flatten(0, 1))
    # what is cut off at 1 is missing from the average
    is_uncut = (next_log_r.amax(dim=-1) < -2e-3).flatten() | (kind == "exact")
    assert int(is_uncut.sum()) >= 4
    found, expected = average[is_uncut], oracle.prefix_log_r(states).flatten()[is_uncut]
    assert torch.allclose(found, expected, atol=2e-3)
    as_next = oracle.token_log_r(states, window.token_ids[:, 1:])
    assert torch.allclose(oracle.prefix_log_r(oracle.states(window)[:, 1:]), as_next, atol=1e-5)
