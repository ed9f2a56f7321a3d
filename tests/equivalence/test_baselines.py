"""Methods that share an optimum come to it; a filter that drops nothing is no filter."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from acft import toy
from acft.backbone.toy import START_ID, save_toy_model, symbol_ids
from acft.errors import DataError
from acft.events import Note
from acft.methods.dpg import target_weights
from acft.methods.nado_decoding import guided
from acft.policy import Policy
from acft.settings import RunSettings
from acft.toy import Tables, ToyWorld
from acft.training.oracle_job import build_oracle, oracle_job
from acft.training.responses import own_responses
from acft.training.world import World
from acft.types import TokenBatch
from tests.toy_runs import ALWAYS, drained, largest_difference, toy_run, trained, world_of

pytestmark = pytest.mark.equivalence

WORLD = ToyWorld(4, 3)
NO_REPEAT = {"kind": "pattern", "pattern": r"\b(a a|b b|c c|d d)\b", "must": "not_occur"}
NEAR = 0.02
"""Nats a sequence."""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))


def small_world_run(folder: Path) -> RunSettings:
    """64 sequences, of which the base policy breaks the constraint often."""
    save_toy_model(folder / "model", WORLD.n_symbols, width=16, context=32, seed=2)
    values = {
        "device": "cpu",
        "model": {"name": str(folder / "model")},
        "prompts": {"source": "toy"},
        "corpus": [{"source": "base_rollouts", "domain": "attribute", "max_documents": 32}],
        "sampling": {"horizon": WORLD.length, "batch_size": 512},
        "constraint": [NO_REPEAT],
        "adapter": {"kind": "full"},
        "oracle": {
            "kind": "exact", "rollouts_per_round": 1500, "validation_rollouts": 64,
            "strength": 1.0,
        },
        "schedule": {"rounds": 3, "threads": 1},
        "optimizer": {
            "steps_per_round": 40, "batch_size": 128, "micro_batch_size": 128, "max_tokens": 16,
            "warmup_steps": 2, "lr": 4e-3, "decay": "cosine",
        },
        "evaluation": {"scorers": [], "validation_continuations": 8, "test_prompts": 0},
    }  # fmt: skip
    return RunSettings.parse(values)


def tables_of(policy: Policy) -> Tables:
    def next_logprobs(ids):
        everything = ids >= 0
        return policy.next_logprobs(TokenBatch(ids, everything, everything))

    return toy.enumerate_policy(next_logprobs, WORLD, [START_ID], symbol_ids(WORLD.n_symbols))


def distance(world: World, tables: Tables) -> float:
    """KL(q* ‖ a policy given by its tables), nats a sequence."""
    satisfied = WORLD.judge_texts(lambda text: world.constraint.score([""], [text])[0])
    target = toy.target_logprobs(tables_of(world.base), satisfied)
    return toy.sequence_kl(target, toy.sequence_logprobs(tables))


@pytest.mark.parametrize(
    "method",
    [
        {"name": "dpg", "responses_per_prompt": 50},
        {"name": "gflownet", "responses_per_prompt": 50},
        {"name": "etpo"},
        {"name": "acft", "ce_weight": 0.0, "prefixes": ["on_policy"]},
    ],
    ids=lambda method: method["name"],
)
def test_a_tuned_policy_comes_to_the_target_that_nado_decoding_draws_from(tmp_path, method):
    run = small_world_run(tmp_path)
    if method["name"] == "etpo":  # its oracle learns values; verdicts, which are exact, tell none
        learned = run.oracle.model_copy(update={"kind": "nado_recurrent", "max_epochs": 20})
        run = run.model_copy(update={"oracle": learned})
    world = world_of(run)
    assert distance(world, tables_of(world.base)) > 10 * NEAR
    end = trained(tmp_path / "run", run, method).checkpoints[3]
    world.policy.load(end / "policy", 3)
    assert distance(world, tables_of(world.policy)) < NEAR


def test_nado_decoding_draws_from_the_exact_target(tmp_path):
    world = world_of(small_world_run(tmp_path))
    new = drained(oracle_job(world, build_oracle(world), world.base, 1, []))
    sampler = guided(world, world.base, new.guide, delta=1.0)

    def next_logprobs(ids):
        rows = []
        for row in ids:
            session = sampler.decoder.start([""], [tuple(row[:1].tolist())])
            everything = row[None] >= 0
            batch = TokenBatch(row[None], everything, everything)
            hidden, plain = world.base.hidden(batch)[0], world.base.next_logprobs(batch)[0]
            rows.append(
                [
                    session.reweight(plain[t : t + 1], hidden[t : t + 1], row[t : t + 1])[0]
                    for t in range(len(row))
                ]
            )
        return torch.stack([torch.stack(row) for row in rows])

    tables = toy.enumerate_policy(next_logprobs, WORLD, [START_ID], symbol_ids(WORLD.n_symbols))
    assert distance(world, tables) < 1e-5


def test_a_filter_that_drops_nothing_is_plain_fine_tuning(tmp_path):
    run = toy_run(tmp_path, constraint=[ALWAYS])
    filtered = trained(tmp_path / "a", run, {"name": "filtered_sft"})
    plain = trained(tmp_path / "b", run, {"name": "sft"})
    assert filtered.scalars() == plain.scalars()
    assert largest_difference(filtered.weights(3), plain.weights(3)) == 0.0
    said = [output.text for output in filtered.outputs if isinstance(output, Note)]
    assert all(text.startswith("dropped 0 of ") for text in said)


def test_a_filter_that_drops_everything_says_so(tmp_path):
    never = {"kind": "length", "minimum": 1000}
    with pytest.raises(DataError, match="all 55 documents violate"):
        trained(tmp_path / "a", toy_run(tmp_path, constraint=[never]), {"name": "filtered_sft"})


@pytest.mark.parametrize(("loss", "n_dropped"), [("all", 1), ("response", 0)])
def test_a_filter_does_not_judge_a_given_prompt_of_one_token(tmp_path, loss, n_dropped):
    texts = tmp_path / "pairs.csv"
    texts.write_text("prompt,text\nb,a d\nc,a d a\n")
    no_b = {"kind": "forbidden_words", "words": ["b"]}
    corpus = {"source": str(texts), "prompt_field": "prompt", "loss": loss}
    run = toy_run(tmp_path, "schedule.rounds=1", constraint=[no_b], corpus=[corpus])
    filtered = trained(tmp_path / "runs", run, {"name": "filtered_sft"})
    (said,) = [output.text for output in filtered.outputs if isinstance(output, Note)]
    assert said.startswith(f"dropped {n_dropped} of 2 documents")


def test_weights_under_a_constraint_that_always_holds_are_all_one(tmp_path):
    world = world_of(toy_run(tmp_path, constraint=[ALWAYS]))
    judged = drained(own_responses(world, world.base, 1, each=4))
    assert len(judged) == 64
    assert target_weights(world, judged) == pytest.approx([1.0] * 64, abs=1e-4)


def test_weights_are_taken_over_what_drew_the_responses(tmp_path):
    """A proposal that draws the first a third as often as the policy: 3 to 1, with mean 1."""
    world = world_of(toy_run(tmp_path, constraint=[ALWAYS]))
    judged = drained(own_responses(world, world.base, 1, each=4))
    prompt = judged[0].rollout.prompt_id
    first, second = [item for item in judged if item.rollout.prompt_id == prompt][:2]
    rarer = replace(first, rollout=replace(first.rollout, log_weight=math.log(3)))
    assert target_weights(world, [rarer, second]) == pytest.approx([1.5, 0.5], abs=1e-4)
