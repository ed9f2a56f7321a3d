import math
from typing import Any, cast

import pytest
import torch

from acft.backbone.loading import load_backbone
from acft.data import prompt_of
from acft.decoding.base import (
    DECODERS,
    DecodedPolicy,
    DecoderContext,
    DecoderKind,
    build_sampler,
)
from acft.decoding.rad import RadDecoder
from acft.errors import ConfigError, DataError
from acft.policy import Policy
from acft.reweighting import check_decoder
from acft.settings import ModelSettings, SamplingSettings
from acft.token_choice import in_nucleus
from tests.bench import Power
from tests.fakes import save_tiny_model

PROMPTS = [prompt_of("See the rain"), prompt_of("Sun")]
SAMPLING = SamplingSettings(horizon=6)


def no_even_bytes(prompts, responses):
    """Satisfaction falls with the share of characters with an even code."""
    return [1.0 - sum(ord(c) % 2 == 0 for c in text) / max(1, len(text)) for text in responses]


def opened(folder):
    return load_backbone(ModelSettings(name=str(folder)), "cpu", "float32")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return [save_tiny_model(root / str(seed), seed=seed) for seed in range(3)]


@pytest.fixture(scope="module")
def policy(folders):
    return Policy(opened(folders[0]))


def bound(name, policy, **settings):
    kind = DECODERS.get(name)
    context = DecoderContext(policy, verdicts=no_even_bytes)
    return kind.build(kind.settings_type.parse(settings), context)


def drawn(sampler, n=2, seed=0):
    return sampler.sample(PROMPTS, n, SAMPLING, seed).rollouts


def ids(rollouts):
    return [rollout.response_ids for rollout in rollouts]


# ---- best_of_n ---------------------------------------------------------------------------------


def test_the_best_candidate_is_kept_for_every_response(policy):
    pool = drawn(policy, n=6)
    kept = drawn(bound("best_of_n", policy, candidates=3))
    assert [r.rollout_id for r in kept] == [
        f"{prompt.prompt_id}-{sample}" for prompt in PROMPTS for sample in range(2)
    ]
    groups = [pool[start : start + 3] for start in range(0, 12, 3)]
    for response, group in zip(kept, groups, strict=True):
        values = no_even_bytes([], [r.response_text for r in group])
        assert response.response_ids == group[values.index(max(values))].response_ids


def test_one_candidate_is_the_policy_itself(policy):
    assert ids(drawn(bound("best_of_n", policy, candidates=1))) == ids(drawn(policy))


def test_best_of_n_claims_no_log_weight(policy):
    assert all(math.isnan(r.log_weight) for r in drawn(bound("best_of_n", policy, candidates=2)))


# ---- rad ---------------------------------------------------------------------------------------


def test_rad_draws_the_likeliest_tokens_by_their_reward():
    next_logprobs = torch.tensor([[0.5, 0.3, 0.1, 0.1]]).log()
    decoder = RadDecoder(
        lambda _, texts: [1.0 if text == "1" else 0.0 for text in texts],
        lambda tokens: "".join(map(str, tokens)), beta=math.log(5), top_k=2,
    )  # fmt: skip
    session = decoder.start(["prompt"], [[7]])
    found = session.reweight(next_logprobs, torch.zeros(1, 1), torch.tensor([7])).exp()
    # 0.5 and 0.3 · 5 over their sum; the others are not asked about
    torch.testing.assert_close(found, torch.tensor([[0.25, 0.75, 0.0, 0.0]]))


def test_rad_asks_about_the_whole_response_so_far():
    asked = []

    def verdicts(prompts, texts):
        asked.append((list(prompts), list(texts)))
        return [0.5] * len(texts)

    decoder = RadDecoder(verdicts, lambda tokens: "".join(map(str, tokens)), beta=1.0, top_k=1)
    session = decoder.start(["x", "y"], [[7], [8]])
    likely = torch.tensor([[0.0, 5.0], [5.0, 0.0]]).log_softmax(-1)
    session.reweight(likely, torch.zeros(2, 1), torch.tensor([7, 8]))
    session.reweight(likely, torch.zeros(2, 1), torch.tensor([1, 0]))
    assert asked == [(["x", "y"], ["1", "0"]), (["x", "y"], ["11", "00"])]


def test_rad_without_weight_on_all_tokens_is_the_policy(policy):
    assert ids(drawn(bound("rad", policy, beta=0.0, top_k=10_000))) == ids(drawn(policy))


def test_rad_satisfies_more_than_the_policy(policy):
    before, after = (
        sum(no_even_bytes([], [r.response_text for r in drawn(sampler, n=20)]))
        for sampler in (policy, bound("rad", policy, beta=20.0))
    )
    assert after > before


# ---- dexperts ----------------------------------------------------------------------------------


def test_without_weight_the_vote_does_not_count(policy, folders):
    _, expert, anti = map(str, folders)
    sampler = bound(
        "dexperts", policy, expert=expert, anti_expert=anti, alpha=0.0, filter_top_p=1.0
    )
    assert ids(drawn(sampler)) == ids(drawn(policy))


def test_an_expert_that_agrees_with_its_opposite_changes_nothing(policy, folders):
    other = str(folders[1])
    sampler = bound("dexperts", policy, expert=other, anti_expert=other, filter_top_p=1.0)
    assert ids(drawn(sampler)) == ids(drawn(policy))


def test_against_the_policy_itself_the_expert_writes(policy, folders):
    own, expert, _ = map(str, folders)
    sampler = bound("dexperts", policy, expert=expert, anti_expert=own, alpha=1.0, filter_top_p=1.0)
    assert ids(drawn(sampler)) == ids(drawn(Policy(opened(expert))))


def test_the_nucleus_holds_the_fewest_likeliest_tokens():
    next_logprobs = torch.tensor([[0.2, 0.5, 0.3], [0.98, 0.01, 0.01]]).log()
    expected = torch.tensor([[False, True, True], [True, False, False]])
    assert torch.equal(in_nucleus(next_logprobs, 0.75), expected)
    assert bool(in_nucleus(next_logprobs, 1.0).all())


def test_an_expert_with_another_vocabulary_is_refused(policy, folders, tmp_path):
    other = str(save_tiny_model(tmp_path / "other", vocab_size=300))
    with pytest.raises(ConfigError, match=r"expert = .*another vocabulary"):
        bound("dexperts", policy, expert=other, anti_expert=str(folders[1]))


# ---- all ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["best_of_n", "rad"])
def test_decoders_that_ask_the_constraint_need_one(policy, name):
    kind = DECODERS.get(name)
    with pytest.raises(ConfigError, match="needs a constraint"):
        kind.build(kind.settings_type(), DecoderContext(policy))


@pytest.mark.parametrize(("given", "told"), [(None, "gave None"), (Power(), "gave a Power")])
def test_what_builds_a_decoder_must_give_what_draws(policy, monkeypatch, given, told):
    def build(settings, context):
        return given

    monkeypatch.setitem(DECODERS._items, "own", DecoderKind(build))
    with pytest.raises(DataError, match=rf"'own': what builds it \(.*, line \d+\) {told}; it must"):
        build_sampler("own", DecoderKind(build).settings_type(), DecoderContext(policy))


class Silent:
    """Does not say whether it truncates."""

    def start(self, prompts, prompt_ids):
        return self


@pytest.mark.parametrize(
    ("decoder", "told"),
    [(Silent(), r"Silent of .*test_decoders is none; .*truncates"), (None, "decoder NoneType of")],
)
def test_what_is_no_decoder_is_told_what_it_lacks(decoder, told):
    with pytest.raises(DataError, match=told):
        check_decoder(decoder)


def test_only_a_decoder_is_bound_to_a_policy(policy):
    with pytest.raises(DataError, match=r"decoder Power of tests\.bench is a class; give"):
        DecodedPolicy(policy, cast("Any", Power))
