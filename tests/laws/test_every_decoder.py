"""Whatever the decoder: described, seeded, ordered, and no response depends on another."""

import math

import pytest

from acft.backbone.loading import load_backbone
from acft.data import prompt_of
from acft.decoding.base import DECODERS, DecodedPolicy, DecoderContext
from acft.divergence import kl_totals
from acft.likelihood import Judge, own_likelihoods
from acft.oracle.base import ORACLES, OracleContext
from acft.policy import Policy
from acft.settings import ModelSettings, OracleSettings, SamplingSettings
from tests.fakes import save_tiny_model

PROMPTS = [prompt_of(text) for text in ("See the rain", "Sun", "The river rose in the night")]
HORIZON = 5


def short_words(prompts, responses):
    return [1.0 / (1 + max(map(len, text.split() or [""]))) for text in responses]


@pytest.fixture(scope="module")
def decoding(tmp_path_factory):
    folder = save_tiny_model(tmp_path_factory.mktemp("model"))
    backbone = load_backbone(ModelSettings(name=str(folder)), "cpu", "float32")
    settings = OracleSettings(width=8)
    oracle = ORACLES.get("nado_head").build(
        OracleContext(settings, backbone, HORIZON, None, seed=0)
    )
    return DecoderContext(Policy(backbone, version=3), oracle.eval(), short_words, HORIZON)


@pytest.fixture(params=DECODERS.names())
def kind(request):
    return DECODERS.get(request.param)


@pytest.fixture
def sampler(kind, decoding):
    """The decoder with default settings; where a model must be named, the policy's own."""
    fields = kind.settings_type.model_fields
    model = decoding.policy.backbone.name
    needed = {name: model for name, field in fields.items() if field.is_required()}
    return kind.build(kind.settings_type.parse(needed), decoding)


def drawn(sampler, prompts=PROMPTS, n=2, seed=0, **sampling):
    settings = SamplingSettings(**{"horizon": 2 * HORIZON, **sampling})
    return sampler.sample(prompts, n, settings, seed).rollouts


def test_every_decoder_says_what_it_does():
    assert all(kind.summary.endswith(".") for _, kind in DECODERS.items())


def test_responses_come_by_prompt_and_number(sampler):
    expected = [f"{prompt.prompt_id}-{sample}" for prompt in PROMPTS for sample in range(2)]
    assert [rollout.rollout_id for rollout in drawn(sampler)] == expected


def test_the_policys_version_is_told(sampler):
    assert sampler.version == 3
    assert {rollout.policy_version for rollout in drawn(sampler)} == {3}


def test_a_seed_gives_the_same_responses_and_another_others(sampler):
    first, again, other = ([r.response_ids for r in drawn(sampler, seed=s)] for s in (0, 0, 1))
    assert first == again != other


def test_a_response_depends_on_nothing_else_in_its_batch(sampler):
    together = {r.rollout_id: r.response_ids for r in drawn(sampler)}
    for batch_size in (1, 4):
        assert {
            r.rollout_id: r.response_ids for r in drawn(sampler, batch_size=batch_size)
        } == together
    alone = {r.rollout_id: r.response_ids for r in drawn(sampler, PROMPTS[1:2])}
    assert alone.items() <= together.items()


def test_a_kind_says_whether_its_decoder_leaves_tokens_out_by_itself(kind, sampler):
    own = isinstance(sampler, DecodedPolicy) and sampler.decoder.truncates
    assert kind.truncates == own
    assert kind.top_p(0.9) == (1.0 if own else 0.9)


def test_a_nucleus_narrows_what_is_drawn_unless_the_decoder_leaves_tokens_out_itself(kind, sampler):
    whole, narrow = drawn(sampler), drawn(sampler, top_p=0.2)
    # where it does, not even the log-weights differ
    told = [(r.response_ids, str(r.log_weight)) for r in whole]
    assert (told == [(r.response_ids, str(r.log_weight)) for r in narrow]) == kind.truncates


def test_every_decoder_heeds_the_temperature(sampler):
    cold, hot = ([r.response_ids for r in drawn(sampler, temperature=t)] for t in (0.1, 10.0))
    assert cold != hot


def test_a_decoder_that_judges_texts_gives_them_the_likelihood_with_which_it_drew_them(sampler):
    if not isinstance(sampler, Judge):
        pytest.skip("it does not say how likely texts are")
    rollouts = drawn(sampler, n=4)  # past the oracle's horizon
    rows = own_likelihoods(sampler, rollouts)
    assert [row.text_id for row in rows] == [rollout.rollout_id for rollout in rollouts]
    drew = [math.fsum(r.response_logprobs) - r.log_weight for r in rollouts]
    assert [-row.nll for row in rows] == pytest.approx(drew, abs=1e-4)


def test_the_distance_from_the_policy_is_finite_and_never_negative(sampler, decoding):
    if not isinstance(sampler, Policy | DecodedPolicy):
        pytest.skip("no formula gives what it draws from")
    totals = kl_totals(sampler, decoding.policy, drawn(sampler))
    assert set(totals.groups) == {prompt.prompt_id for prompt in PROMPTS}
    assert all(math.isfinite(nats) and nats > -1e-5 for nats in totals.sums)
