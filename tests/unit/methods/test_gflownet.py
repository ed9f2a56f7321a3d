"""Trajectory balance: what a response's log-probability should be, and how steps go there."""

import math
import statistics
from collections import defaultdict

import pytest
import torch

from acft.data import collate
from acft.methods.gflownet import target_logprobs, weights_of_square
from acft.objective import align, nll
from acft.training.responses import own_responses
from tests.toy_runs import drained, toy_run, trained, world_of

NO_C = {"kind": "pattern", "pattern": r"c", "must": "not_occur"}
FLOOR = 0.01


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))
    return world_of(toy_run(tmp_path, "adapter.dropout=0.3", constraint=[NO_C]))


@pytest.fixture
def judged(world):
    return drained(own_responses(world, world.base, 1, each=8))


def test_what_the_base_drew_should_become_as_likely_as_its_c_over_the_mean_says(world, judged):
    found = target_logprobs(world, judged, FLOOR)
    c_of = defaultdict(list)
    for item in judged:
        c_of[item.rollout.prompt_id].append(1.0 if item.is_satisfied else FLOOR)
    assert {len(values) for values in c_of.values()} == {8}
    assert {item.is_satisfied for item in judged} == {True, False}
    for item, logprob in zip(judged, found, strict=True):
        ratio = (1.0 if item.is_satisfied else FLOOR) / statistics.fmean(
            c_of[item.rollout.prompt_id]
        )
        assert logprob == pytest.approx(
            sum(item.rollout.response_logprobs) + math.log(ratio), abs=1e-4
        )


def test_the_weights_give_the_gradient_of_the_squared_imbalance_whatever_the_dropout(world, judged):
    model, names = world.policy.backbone.model, [item.rollout.rollout_id for item in judged]
    targets = dict(zip(names, target_logprobs(world, judged, FLOOR), strict=True))
    some = sorted(judged, key=lambda item: item.is_satisfied)
    some = some[:3] + some[-3:]
    rollouts = [item.rollout for item in some]
    model.train()
    weights = weights_of_square(world.policy, rollouts, targets)
    assert model.training
    model.eval()
    batch = collate([item.document for item in some], 0, world.horizon)
    aligned = align(batch, world.policy.next_logprobs(batch))
    logprobs = -torch.where(aligned.mask_response, nll(aligned.values, aligned.targets), 0.0).sum(1)
    wanted = torch.tensor([targets[rollout.rollout_id] for rollout in rollouts])
    parameters = world.policy.parameters()
    square = torch.autograd.grad(((logprobs - wanted) ** 2).sum(), parameters, retain_graph=True)
    weighed = torch.autograd.grad(-(torch.tensor(weights) * logprobs).sum(), parameters)
    flat, other = (torch.cat([each.flatten() for each in some]) for some in (square, weighed))
    assert flat.norm() > 0
    assert (flat - other).norm() < 1e-3 * flat.norm()


def test_the_imbalance_falls_from_round_to_round(tmp_path, monkeypatch):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))
    run = toy_run(
        tmp_path, "optimizer.steps_per_round=10", "oracle.rollouts_per_round=320",
        constraint=[NO_C],
    )  # fmt: skip
    found = trained(tmp_path / "run", run, {"name": "gflownet"}).scalars("train/imbalance")
    before, *_, after = (value for _, _, value in found)
    assert after < before / 2
