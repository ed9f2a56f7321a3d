import copy
import math
from dataclasses import replace

import pytest
import torch

from acft.benchmarks.base import SUITES
from acft.data import collate, documents_from_rollouts, load_prompts
from acft.decoding.base import DecodedPolicy
from acft.decoding.best_of_n import BestOfN
from acft.events import Note
from acft.objective import kl_divergence
from acft.policy import Policy, base_policy
from acft.settings import SamplingSettings
from acft.training.controlled import ControlledPolicy
from tests.bench import Power, bench_of, finish, run_settings, tiny_model
from tests.fakes import ByteTokenizer

HORIZON = 5


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_settings(tiny_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def base(run):
    return base_policy(run)


@pytest.fixture(scope="module")
def tuned(base) -> Policy:
    """The base policy with other weights in its output head."""
    return moved(base, 0.5)


def moved(base, distance: float) -> Policy:
    """The base policy whose output head has noise, by its size relative to the weights."""
    model = copy.deepcopy(base.backbone.model)
    head = model.get_output_embeddings().weight
    with torch.no_grad():
        noise = torch.randn(head.shape, generator=torch.Generator().manual_seed(0))
        head += distance * head.std() * noise
    return replace(base, backbone=replace(base.backbone, model=model), version=1)


def measured(run, base, continuations=150, **bench):
    suite = SUITES.get("divergence")
    options = suite.settings_type.parse({"continuations": continuations, "horizon": HORIZON})
    bench = bench_of(run, get_base=lambda: base, **bench)
    outputs, found = finish(suite.run(options, bench))
    return [o for o in outputs if isinstance(o, Note)], found


@torch.inference_mode()
def exact(run, base, policy, power=1.0) -> float:
    """KL in nats a token over the whole vocabulary, averaged over responses of the subject."""
    subject = policy if power == 1.0 else DecodedPolicy(policy, Power(power))
    prompts = [p for p in load_prompts(run.prompts, 0) if p.split == "test"]
    rollouts = subject.sample(prompts, 150, SamplingSettings(horizon=HORIZON), seed=123).rollouts
    batch = collate(documents_from_rollouts(rollouts, "attribute"), 0, HORIZON)
    mask = batch.response_mask[:, 1:]
    ours = (power * policy.next_logprobs(batch)[:, :-1][mask]).log_softmax(dim=-1)
    theirs = base.next_logprobs(batch)[:, :-1][mask]
    return float(kl_divergence(ours, theirs).mean())


def test_the_base_has_not_gone_anywhere(run, base) -> None:
    _, found = measured(run, base, policy=base)
    test = [p.prompt_id for p in load_prompts(run.prompts, 0) if p.split == "test"]
    assert found["kl_subject_base"].groups == tuple(test)
    assert found["kl_subject_base"].value == 0.0


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_it_is_the_kl_over_the_vocabulary_of_a_tuned_and_of_a_decoded_policy(
    run, base, tuned, power
) -> None:
    sampler = tuned if power == 1.0 else DecodedPolicy(tuned, Power(power))
    _, found = measured(run, base, policy=tuned, sampler=sampler)
    totals = found["kl_subject_base"]
    assert (totals.sums >= 0).all()
    expected = exact(run, base, tuned, power)
    assert expected > 0.05
    n_responses = 150 * len(totals.groups)
    # of one response: variance of a log ratio is about twice its mean where it is small
    noise = math.sqrt(2 * expected * HORIZON / n_responses) / HORIZON
    assert totals.value == pytest.approx(expected, abs=noise), (
        "the log ratios alone would vary as much"
    )


@pytest.mark.parametrize("distance", [0.0, 1e-6, 1e-3, 0.1, 2.0])
@pytest.mark.parametrize("power", [1.0, 1.0 + 1e-6, 2.0])
def test_a_prompt_s_distance_is_never_negative_however_few_continuations_and_however_near(
    run, base, distance, power
) -> None:
    policy = moved(base, distance)
    sampler = policy if power == 1.0 else DecodedPolicy(policy, Power(power))
    _, found = measured(run, base, continuations=1, policy=policy, sampler=sampler)
    totals = found["kl_subject_base"]
    assert len(totals.groups) > 1
    assert (totals.sums / totals.counts > -1e-6).all(), "but for rounding"


def test_log_ratios_of_the_tokens_drawn_would_be_negative_at_some_prompts(run, base) -> None:
    """So the law above says something of the estimator."""
    near = moved(base, 0.1)
    prompts = [p for p in load_prompts(run.prompts, 0) if p.split == "test"]
    rollouts = near.sample(prompts, 8, SamplingSettings(horizon=HORIZON), seed=1).rollouts
    batch = collate(documents_from_rollouts(rollouts, "attribute"), 0, HORIZON)
    with torch.inference_mode():
        ratios = near.token_logprobs(batch) - base.token_logprobs(batch)
    assert (ratios.mul(batch.response_mask[:, 1:]).sum(dim=1) < -0.01).any()


def test_a_control_text_is_nothing_that_the_base_reads(run, base) -> None:
    control = ControlledPolicy.of(base, "Be kind. ")
    _, found = measured(run, base, policy=control)
    totals = found["kl_subject_base"]
    assert totals.sums.sum() > 0.0


def test_a_decoder_without_a_formula_has_none(run, base) -> None:
    sampler = BestOfN(base, lambda prompts, responses: [1.0] * len(responses), 2)
    (note,), found = measured(run, base, policy=base, sampler=sampler)
    assert found == {}
    assert "no formula" in note.text


def test_a_policy_with_other_tokens_has_none(run, base) -> None:
    class Other(ByteTokenizer):
        def get_vocab(self):
            return {"other": 0}

    other = replace(base, backbone=replace(base.backbone, tokenizer=Other()))
    (note,), found = measured(run, base, policy=other)
    assert found == {}
    assert "tokens" in note.text
