"""Soft values: what they should be, what an oracle learns of them, and where the policy goes."""

import itertools
import math

import pytest
import torch

from acft.errors import DataError
from acft.methods.base import METHODS
from acft.methods.etpo import EtpoSettings, critic_job, read_by_base
from acft.oracle.soft_values import Backups, log_c, soft_targets
from acft.training.oracle_job import ScoredSamples, build_oracle, drawn_and_held_out, head_of
from tests.toy_runs import ALWAYS, drained, largest_difference, toy_run, trained, world_of

NO_C = {"kind": "pattern", "pattern": r"c", "must": "not_occur"}
FLOOR = 0.01


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))


@pytest.fixture
def world(tmp_path):
    return world_of(toy_run(tmp_path, constraint=[NO_C]))


def drawn_by(world, policy) -> ScoredSamples:
    drawn = drained(drawn_and_held_out(world, policy, 1, lambda: False))
    assert drawn is not None
    return drawn[0]


def backups(world, trace: float) -> Backups:
    return Backups(head_of(world.policy), head_of(world.base), FLOOR, trace, times=1)


def strayed(world) -> None:
    """Moves the policy away from the base."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in world.policy.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def test_with_trace_1_a_response_s_tokens_should_be_worth_its_reward_less_what_straying_cost(world):
    strayed(world)
    drawn = read_by_base(world, drawn_by(world, world.policy.snapshot(world.base)))
    targets, ratios = soft_targets(build_oracle(world), drawn, backups(world, 1.0))
    rewards = log_c(drawn.data, FLOOR)
    mask = drawn.data.window.mask[:, 1:]
    assert sorted(set(rewards.tolist())) == pytest.approx([math.log(FLOOR), 0.0])
    assert ratios.abs().max() > 0.1
    for reward, row, ratio, there in zip(rewards, targets, ratios, mask, strict=True):
        n = int(there.sum())
        expected = [reward - ratio[step + 1 : n].sum() for step in range(n)]
        assert row[:n].tolist() == pytest.approx([float(each) for each in expected], abs=1e-4)


def test_what_a_policy_has_strayed_is_what_it_and_the_base_say_of_each_token(world):
    strayed(world)
    train = drawn_by(world, world.policy.snapshot(world.base))
    _, ratios = soft_targets(build_oracle(world), read_by_base(world, train), backups(world, 0.5))
    for rollout, row in itertools.islice(zip(train.rollouts, ratios, strict=True), 8):
        n, start = len(rollout.response_ids), len(rollout.prompt_ids)
        ids = torch.tensor([rollout.prompt_ids + rollout.response_ids])
        with torch.no_grad():
            logits = world.base.backbone.model(ids).logits[0]
        base = logits.log_softmax(-1)[start - 1 : -1].gather(1, ids[0, start:, None])[:, 0]
        expected = torch.tensor(rollout.response_logprobs) - base
        assert row[:n].tolist() == pytest.approx(expected.tolist(), abs=5e-3)  # states in float16


def test_the_base_policy_has_not_strayed_at_all(world):
    drawn = read_by_base(world, drawn_by(world, world.base))
    _, ratios = soft_targets(build_oracle(world), drawn, backups(world, 0.5))
    assert ratios.abs().max() == 0.0


def test_values_of_an_oracle_learn_what_the_verdicts_say(tmp_path):
    world = world_of(
        toy_run(
            tmp_path, "oracle.max_epochs=20", "oracle.rollouts_per_round=640", constraint=[NO_C]
        )
    )
    new = drained(critic_job(EtpoSettings(floor=FLOOR), world, build_oracle(world), world.base, 1))
    drawn, oracle = read_by_base(world, drawn_by(world, world.base)), new.guide.oracle
    with torch.no_grad():
        states = oracle.states(drawn.data.window)
        found = oracle.response_log_r(states, drawn.data.window.token_ids)
    last = drawn.data.window.mask.sum(dim=1) - 2
    at_end = found.gather(1, last[:, None])[:, 0]
    satisfied = drawn.data.verdict > 0
    assert at_end[satisfied].mean() > at_end[~satisfied].mean() + 1.0
    assert (oracle.version, new.guide.strength, new.guide.policy_version) == (1, 1.0, 0)


def test_what_a_policy_earns_rises_from_round_to_round(tmp_path):
    run = toy_run(
        tmp_path, "optimizer.steps_per_round=10", "oracle.rollouts_per_round=320",
        "oracle.max_epochs=10", constraint=[NO_C],
    )  # fmt: skip
    found = trained(tmp_path / "run", run, {"name": "etpo"}).scalars("oracle/soft_return")
    earned = sorted(value for _, _, value in found)
    assert len(earned) == 3
    assert earned[-1] > earned[0] / 2


def test_a_run_without_a_corpus_learns_from_its_own_responses(tmp_path):
    with_texts = trained(tmp_path / "a", toy_run(tmp_path, constraint=[NO_C]), {"name": "etpo"})
    alone = toy_run(tmp_path, constraint=[NO_C], corpus=[])
    without = trained(tmp_path / "b", alone, {"name": "etpo"})
    assert largest_difference(without.weights(3), with_texts.weights(3)) == 0.0


def test_guidance_of_its_own_responses_is_kept_under_their_names(tmp_path):
    run = trained(tmp_path / "run", toy_run(tmp_path, constraint=[NO_C]), {"name": "etpo"})
    rows = run.rows("guidance")
    assert {row["round"] for row in rows} == {1, 2, 3}
    drawn = {row["rollout_id"] for row in run.rows("rollouts") if row["purpose"] == "oracle"}
    assert {row["sequence_id"] for row in rows} <= drawn


def test_nobody_violates_and_it_says_so_before_a_step_is_taken(tmp_path):
    with pytest.raises(DataError, match="all 96 responses satisfy the constraint"):
        trained(tmp_path / "run", toy_run(tmp_path, constraint=[ALWAYS]), {"name": "etpo"})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("oracle.kind=exact", "learns nothing"),
        ("oracle.replay_rounds=1", "have no effect on soft values"),
        ("oracle.balance=balanced", "have no effect on soft values"),
    ],
)
def test_settings_that_leave_it_nothing_to_learn_are_told(tmp_path, change, said):
    run = toy_run(tmp_path, change)
    (found,) = METHODS.get("etpo").contradictions(EtpoSettings(), run)
    assert said in found
    assert METHODS.get("etpo").contradictions(EtpoSettings(), toy_run(tmp_path)) == []
