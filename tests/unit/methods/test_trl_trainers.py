"""TRL's trainers get whole steps of pairs, and see responses as the policy drew them."""

from collections import Counter

import pytest
import torch

from acft.backbone import trl_trainers
from acft.backbone.trl_steps import Generated, Pair, TrlSteps
from acft.settings import SamplingSettings
from acft.training.optimization import PolicyOptimizer
from acft.types import Rollout
from tests.fakes import END, N_TOKENS, PAD, pretrained_byte_tokenizer
from tests.toy_runs import ALWAYS, toy_run, world_of


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))


def steps_of(world, n_steps, before_step=lambda: None) -> TrlSteps:
    optimizer = PolicyOptimizer(world.policy.parameters(), world.run.optimizer, n_steps)
    return TrlSteps(
        policy=world.policy.backbone,
        base=world.base.backbone,
        optimizer=optimizer.adam,
        settings=world.run.optimizer,
        n_steps=n_steps,
        seed=1,
        before_step=before_step,
        after_step=lambda _: False,
    )


@pytest.mark.parametrize("n_pairs", [3, 9, 17, 40])
def test_every_step_is_on_as_many_pairs_and_every_pair_comes_as_often(
    tmp_path, monkeypatch, n_pairs
):
    """Leftovers of an epoch had short passes, or a step of their own."""
    run = toy_run(tmp_path, "optimizer.batch_size=16", "optimizer.micro_batch_size=8")
    passes, sizes, seen = [], [], Counter()
    plain = trl_trainers._PairTrainer.compute_loss

    def watched(trainer, model, inputs, *arguments, **options):
        rejected = inputs["input_ids"][len(inputs["input_ids"]) // 2 :]
        passes.append(len(rejected))
        seen.update(map(tuple, rejected.tolist()))
        return plain(trainer, model, inputs, *arguments, **options)

    def before_step():
        sizes.append(tuple(passes))
        passes.clear()

    monkeypatch.setattr(trl_trainers._PairTrainer, "compute_loss", watched)
    pairs = [
        Pair((0,), (1, 1, 1), (1 + n // 16, 1 + n // 4 % 4, 1 + n % 4)) for n in range(n_pairs)
    ]
    trl_trainers.dpo_steps(steps_of(world_of(run), 4, before_step), pairs, beta=0.1)
    assert sizes == [(8, 8)] * 4
    assert len(seen) == n_pairs
    assert max(seen.values()) - min(seen.values()) <= 1


def largest_errors(world, prompts, monkeypatch) -> list[float]:
    """By step, in nats a response: what TRL reads in the policy against what it was drawn with."""
    by_name = {prompt.prompt_id: prompt for prompt in prompts}
    drawn: list[Rollout] = []
    errors = []
    plain = trl_trainers._GroupTrainer._generate_and_score_completions

    def generate(names):
        wanted = [by_name[name] for name in dict.fromkeys(names)]
        sampling = SamplingSettings(horizon=4)
        drawn[:] = world.snapshot().sample(wanted, 4, sampling, len(errors)).rollouts
        return Generated(
            [list(rollout.prompt_ids) for rollout in drawn],
            [list(rollout.response_ids) for rollout in drawn],
            [rollout.response_text for rollout in drawn],
        )

    def watched(trainer, inputs):
        assert trainer.model.training
        output = plain(trainer, inputs)
        own = [sum(rollout.response_logprobs) for rollout in drawn]
        errors.append(float((output["old_logps"] - torch.tensor(own)).abs().max()))
        return output

    monkeypatch.setattr(trl_trainers._GroupTrainer, "_generate_and_score_completions", watched)
    trl_trainers.rloo_steps(
        steps_of(world, 3), list(by_name), generate,
        lambda _, responses: [float(len(set(text))) for text in responses],
        beta=0.05, group=4, responses_per_step=4 * len(prompts),
    )  # fmt: skip
    return errors


def test_a_policy_with_dropout_is_read_as_it_drew(tmp_path, monkeypatch):
    world = world_of(toy_run(tmp_path, "adapter.dropout=0.3", "optimizer.lr=0.1"))
    errors = largest_errors(world, world.prompts["train"][:2], monkeypatch)
    assert len(errors) == 3
    assert max(errors) < 1e-3


def save_gpt2(folder) -> None:
    """A model with learned positions, large enough that a token elsewhere is another one."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=N_TOKENS, n_positions=64, n_embd=32, n_layer=2, n_head=2,
        initializer_range=0.3, bos_token_id=None, eos_token_id=END, pad_token_id=PAD,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        GPT2LMHeadModel(config).save_pretrained(folder)
    pretrained_byte_tokenizer().save_pretrained(folder)


def test_prompts_of_different_lengths_are_read_where_they_were_drawn(tmp_path, monkeypatch):
    save_gpt2(tmp_path / "model")
    texts = [f"{'very ' * (n % 4)}far {n}" for n in range(20)]
    (tmp_path / "prompts.txt").write_text("\n".join(texts))
    run = toy_run(
        tmp_path,
        prompts={"source": str(tmp_path / "prompts.txt")},
        constraint=[ALWAYS],
        corpus=[{"source": "base_rollouts", "domain": "attribute", "max_documents": 4}],
    )
    world = world_of(run)
    prompts = world.prompts["train"][:6]
    assert len({len(prompt.text) for prompt in prompts}) > 2
    errors = largest_errors(world, prompts, monkeypatch)
    assert len(errors) == 3
    assert max(errors) < 1e-3
