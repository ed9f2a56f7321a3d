"""Responses depend on seed, prompt and sample number, and on nothing else."""

import copy
import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch

from acft import sampling as drawing
from acft.backbone import loading
from acft.backbone.adapters import sharing_copy
from acft.backbone.loading import load_backbone, load_end_ids, load_tokenizer
from acft.backbone.toy import START_ID, save_toy_model, symbol_ids
from acft.decoding.guided import GuidedDecoder, GuidedSettings
from acft.errors import DataError
from acft.policy import Policy
from acft.sampling import _batches, _Item, continuations
from acft.settings import ModelSettings, SamplingSettings
from acft.threads import Workers
from acft.token_choice import (
    BLOCK,
    NUCLEUS_CANDIDATES,
    choose,
    choose_plainly,
    drawing_device,
    uniforms,
)
from acft.types import Prompt
from tests.fakes import END, save_tiny_model
from tests.toy_runs import ConstantOracle

HORIZON = 5
PROMPTS = [
    Prompt(f"p{i}", text, "train") for i, text in enumerate(["Rain", "The sea", "A river in May"])
]


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    folder = save_tiny_model(tmp_path_factory.mktemp("tiny"))
    return Policy(load_backbone(ModelSettings(name=str(folder)), "cpu", "float32"))


@pytest.fixture(scope="module")
def toy_policy(tmp_path_factory):
    folder = save_toy_model(tmp_path_factory.mktemp("toy"), 4, width=16)
    return Policy(load_backbone(ModelSettings(name=str(folder)), "cpu", "float32"))


def tokens(samples):
    return {r.rollout_id: r.response_ids for r in samples.rollouts}


def test_responses_come_by_prompt_and_sample_whatever_the_batches(policy):
    whole = policy.sample(PROMPTS, 4, SamplingSettings(horizon=HORIZON), 7)
    assert [r.rollout_id for r in whole.rollouts] == [
        f"p{p}-{s}" for p in range(3) for s in range(4)
    ]
    for batch_size in (1, 5):
        some = policy.sample(
            PROMPTS, 4, SamplingSettings(horizon=HORIZON, batch_size=batch_size), 7
        )
        assert tokens(some) == tokens(whole)


def test_a_prompt_alone_gets_the_responses_it_gets_among_others(policy):
    sampling = SamplingSettings(horizon=HORIZON)
    among = tokens(policy.sample(PROMPTS, 3, sampling, 7))
    alone = tokens(policy.sample(PROMPTS[1:2], 2, sampling, 7))
    assert alone == {name: among[name] for name in alone}


def test_threads_do_not_change_responses(policy):
    sampling = SamplingSettings(horizon=HORIZON, batch_size=2)
    several = dataclasses.replace(policy, workers=Workers(3))
    one, three = (p.sample(PROMPTS, 4, sampling, 7, keep_hidden=True) for p in (policy, several))
    assert one.rollouts == three.rollouts
    assert torch.equal(one.windows.hidden, three.windows.hidden)


def test_another_seed_gives_other_responses(policy):
    sampling = SamplingSettings(horizon=HORIZON)
    assert tokens(policy.sample(PROMPTS, 4, sampling, 7)) != tokens(
        policy.sample(PROMPTS, 4, sampling, 8)
    )


def test_a_constant_oracle_leaves_every_response_as_it_is(policy):
    sampling = SamplingSettings(horizon=HORIZON)
    oracle = ConstantOracle(-13.8, vocab=policy.backbone.model.config.vocab_size)
    decoder = GuidedDecoder(oracle, policy.backbone.tokenizer.decode, GuidedSettings(strength=3.0))
    plain = policy.sample(PROMPTS, 4, sampling, 7)
    guided = policy.sample(PROMPTS, 4, sampling, 7, decoder=decoder)
    assert tokens(guided) == tokens(plain)
    assert [r.log_weight for r in guided.rollouts] == pytest.approx([0.0] * 12, abs=1e-4)


def test_stored_log_probabilities_are_those_of_a_forward_pass(policy):
    from acft.data import collate, documents_from_rollouts, pad_token

    rollouts = policy.sample(PROMPTS, 4, SamplingSettings(horizon=HORIZON), 7).rollouts
    documents = documents_from_rollouts(rollouts, "attribute")
    batch = collate(documents, pad_token(policy.backbone.tokenizer), HORIZON)
    again = policy.token_logprobs(batch)
    for row, rollout in zip(again, rollouts, strict=True):
        start = len(rollout.prompt_ids) - 1
        found = row[start : start + len(rollout.response_ids)]
        assert torch.allclose(found, torch.tensor(rollout.response_logprobs), atol=1e-5)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (2.0, 1.0), (1.0, 0.6)])
def test_the_log_weight_is_the_policy_over_the_proposal(policy, temperature, top_p):
    sampling = SamplingSettings(horizon=HORIZON, temperature=temperature, top_p=top_p)
    weights = [r.log_weight for r in policy.sample(PROMPTS, 8, sampling, 7).rollouts]
    if (temperature, top_p) == (1.0, 1.0):
        assert weights == pytest.approx([0.0] * 24, abs=1e-4)
    elif top_p < 1.0:
        assert max(weights) <= 1e-4  # a nucleus only makes its tokens likelier
        assert min(weights) < -0.1
    else:
        assert max(map(abs, weights)) > 0.1


def test_importance_weights_turn_a_tempered_sample_into_one_of_the_policy(toy_policy):
    prompts = [Prompt("p", "start", "train")]
    tempered = SamplingSettings(horizon=3, temperature=1.7, batch_size=4096)
    rollouts = toy_policy.sample(prompts, 4000, tempered, 3).rollouts
    weights = torch.tensor([r.log_weight for r in rollouts]).double().exp()
    assert float(weights.mean()) == pytest.approx(1.0, abs=0.05)


def test_windows_hold_the_last_prompt_token_and_the_response(policy):
    samples = policy.sample(PROMPTS, 2, SamplingSettings(horizon=HORIZON), 7, keep_hidden=True)
    window = samples.windows
    for row, rollout in enumerate(samples.rollouts):
        n = len(rollout.response_ids)
        assert window.token_ids[row, : n + 1].tolist() == [
            rollout.prompt_ids[-1], *rollout.response_ids
        ]  # fmt: skip
        assert window.mask[row].tolist() == [True] * (n + 1) + [False] * (HORIZON - n)
        prompt = window.prompt_ids[row][window.prompt_mask[row]]
        assert tuple(prompt.tolist()) == rollout.prompt_ids


def test_responses_end_at_every_token_that_the_model_names_as_an_end(policy):
    sampling = SamplingSettings(horizon=9)
    plain = policy.sample(PROMPTS, 4, sampling, 7).rollouts
    written = [i for rollout in plain for i in rollout.response_ids]
    often = max(written, key=written.count)
    model = sharing_copy(policy.backbone.model)
    model.generation_config.eos_token_id = [END, often]
    backbone = dataclasses.replace(policy.backbone, model=model)
    assert backbone.end_ids == tuple(sorted((END, often)))
    ending = dataclasses.replace(policy, backbone=backbone).sample(PROMPTS, 4, sampling, 7)
    for rollout, whole in zip(ending.rollouts, plain, strict=True):
        ids = list(itertools.takewhile(lambda i: i != often, whole.response_ids))
        assert rollout.response_ids == whole.response_ids[: len(ids) + 1]
        assert rollout.response_text == backbone.tokenizer.decode(ids, skip_special_tokens=True)
    assert any(len(rollout.response_ids) < 9 for rollout in ending.rollouts)


def test_a_model_that_names_no_end_ends_where_its_tokenizer_does(policy, toy_policy):
    model = sharing_copy(policy.backbone.model)
    for named in (None, END, [END]):
        model.generation_config.eos_token_id = named
        assert dataclasses.replace(policy.backbone, model=model).end_ids == (END,)
    assert toy_policy.backbone.end_ids == ()


def test_asking_seldom_whether_all_have_ended_changes_nothing(policy, monkeypatch):
    sampling = SamplingSettings(horizon=9, batch_size=2)
    written = [i for r in policy.sample(PROMPTS, 4, sampling, 7).rollouts for i in r.response_ids]
    tokenizer = copy.deepcopy(policy.backbone.tokenizer)
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(max(written, key=written.count))
    ending = dataclasses.replace(
        policy, backbone=dataclasses.replace(policy.backbone, tokenizer=tokenizer)
    )
    always = ending.sample(PROMPTS, 4, sampling, 7, keep_hidden=True)
    monkeypatch.setattr(drawing, "_asked_every", lambda _: 4)
    seldom = ending.sample(PROMPTS, 4, sampling, 7, keep_hidden=True)
    batches = zip(always.rollouts[::2], always.rollouts[1::2], strict=True)
    lengths = [max(len(r.response_ids) for r in batch) for batch in batches]
    assert any(length % 4 for length in lengths if length < sampling.horizon)
    assert seldom.rollouts == always.rollouts
    for name in ("hidden", "token_ids", "mask"):
        assert torch.equal(getattr(seldom.windows, name), getattr(always.windows, name))


def test_nobody_is_asked_about_a_text_that_goes_on_after_its_end(policy):
    sampling = SamplingSettings(horizon=9)
    written = [i for r in policy.sample(PROMPTS, 4, sampling, 7).rollouts for i in r.response_ids]
    often = max(written, key=written.count)
    model = sharing_copy(policy.backbone.model)
    model.generation_config.eos_token_id = often
    backbone = dataclasses.replace(policy.backbone, model=model)
    asked = set()

    def verdicts(_prompts, responses):
        asked.update(responses)
        return [0.5] * len(responses)

    def decode(ids):
        return backbone.decode([i for i in ids if i not in backbone.end_ids])

    oracle = ConstantOracle(-10.0, vocab=model.config.vocab_size)
    drawn = dataclasses.replace(policy, backbone=backbone).sample(
        PROMPTS, 4, sampling, 7, decoder=GuidedDecoder(oracle, decode, verdicts=verdicts)
    )
    beginnings = [r.response_ids[:end] for r in drawn.rollouts for end in range(10)]
    assert min(map(len, beginnings[9::10])) < sampling.horizon
    assert asked <= set(map(decode, beginnings))


def test_a_toy_response_has_exactly_the_horizon_and_only_symbols(toy_policy):
    prompts = [Prompt("p", "start-1", "train")]
    rollouts = toy_policy.sample(prompts, 200, SamplingSettings(horizon=6), 1).rollouts
    assert {r.prompt_ids for r in rollouts} == {(START_ID,)}
    assert {len(r.response_ids) for r in rollouts} == {6}
    assert {i for r in rollouts for i in r.response_ids} <= set(symbol_ids(4))


def test_a_prompt_that_leaves_no_room_is_named(policy):
    long = Prompt("long", "x" * 126, "train")
    with pytest.raises(DataError, match=r"begins 'x{40}' and has 126 tokens"):
        policy.sample([*PROMPTS, long], 1, SamplingSettings(horizon=HORIZON), 0)


@pytest.mark.parametrize("named", [None, 3, [3, END]])
def test_the_ends_of_responses_are_known_without_the_weights(tmp_path, named):
    folder = save_tiny_model(tmp_path)
    file = tmp_path / "generation_config.json"
    told = json.loads(file.read_text()) | {"eos_token_id": named}
    file.write_text(json.dumps(told))
    settings = ModelSettings(name=str(folder))
    backbone = load_backbone(settings, "cpu", "float32")
    assert load_end_ids(settings, load_tokenizer(settings)) == backbone.end_ids
    file.unlink()
    backbone = load_backbone(settings, "cpu", "float32")
    assert load_end_ids(settings, load_tokenizer(settings)) == backbone.end_ids


def test_no_weights_are_fetched_from_a_hub_for_the_ends_of_responses(tmp_path, monkeypatch):
    folder, fetched = save_tiny_model(tmp_path), []
    monkeypatch.setattr(loading, "_source", lambda settings: (str(folder), "hub"))
    monkeypatch.setattr(
        loading, "_locate", lambda settings: fetched.append(settings) or (folder, "")
    )
    settings = ModelSettings(name="somebody/large")
    assert load_end_ids(settings, load_tokenizer(settings)) == (END,)
    assert not fetched


def test_an_empty_prompt_is_named(policy):
    with pytest.raises(DataError, match="prompt '' has no tokens"):
        policy.sample([Prompt("void", "", "train")], 1, SamplingSettings(horizon=HORIZON), 0)


@pytest.mark.parametrize(
    ("n", "batch_size", "n_batches"),
    [(3, 4, 4), (3, 64, 1), (10, 64, 1), (11, 64, 2), (20, 64, 2), (22, 64, 2), (43, 64, 4)],
)
def test_batches_of_a_cpu_are_even_in_number_and_in_size_but_for_a_few_responses(
    policy, n, batch_size, n_batches
):
    sizes = []

    class Watched(Workers):
        def map(self, work, items):
            sizes.extend(map(len, items))
            return super().map(work, items)

    watched = dataclasses.replace(policy, workers=Watched())
    watched.sample(PROMPTS, n, SamplingSettings(horizon=HORIZON, batch_size=batch_size), 7)
    assert sum(sizes) == n * len(PROMPTS)
    assert len(sizes) == n_batches
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= batch_size


def test_batches_that_are_drawn_at_once_read_as_much_and_each_prompt_once():
    lengths = [3, 4, 5, 6, 7, 8, 30, 31]
    items = [
        _Item(Prompt(str(n), "", "train"), tuple(range(n)), sample)
        for n in lengths
        for sample in range(4)
    ]
    order, batches = _batches(items, 8, 2)
    assert sorted(order) == list(range(32))
    assert [index for batch in batches for index in batch] == order
    assert [len(batch) for batch in batches] == [8, 8, 8, 8]
    prompts = [{len(items[index].prompt_ids) for index in batch} for batch in batches]
    assert prompts == [{31, 8}, {30, 7}, {6, 4}, {5, 3}]


def test_continuations_depend_on_the_sequence_alone(toy_policy):
    sequences = [(0,), (0, 1), (0, 1, 2)]
    together = continuations(toy_policy.backbone, sequences, 3, 4, seed=5)
    alone = continuations(toy_policy.backbone, sequences[1:2], 3, 4, seed=5)
    assert together[1] == alone[0]
    assert all(len(ids) == 4 for group in together for ids in group)


class TestChoosing:
    """One token from one distribution."""

    @pytest.mark.parametrize("vocab", [7, NUCLEUS_CANDIDATES[-1] + 300])
    @pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9, 0.999])
    @pytest.mark.parametrize("sharpness", [0.1, 4.0])
    def test_a_nucleus_is_that_of_a_full_sort(self, vocab, top_p, sharpness):
        generator = torch.Generator().manual_seed(vocab)
        logits = sharpness * torch.randn(64, vocab, generator=generator)
        logprobs = logits.log_softmax(dim=-1)
        uniform = torch.rand(64, generator=generator, dtype=torch.float64)
        chosen, chosen_lp = choose(logprobs, uniform, top_p=top_p)
        for row in range(64):
            ordered, ids = logprobs[row].double().sort(descending=True)
            probs = ordered.exp()
            kept = int((probs.cumsum(0) - probs < top_p).sum())
            assert logprobs[row, chosen[row]] >= logprobs[row, ids[kept - 1]]
            total = probs[:kept].sum()
            place = int((probs[:kept].cumsum(0) <= uniform[row] * total).sum())
            assert logprobs[row, chosen[row]] == logprobs[row, ids[place]]  # equals may swap
            assert float(chosen_lp[row]) == pytest.approx(
                float(ordered[place] - total.log()), abs=1e-4
            )

    def test_frequencies_are_the_probabilities(self):
        probs = torch.tensor([0.5, 0.25, 0.2, 0.05])
        uniform = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
        chosen, logprobs = choose(probs.log().expand(10_000, -1), uniform)
        assert torch.bincount(chosen).tolist() == pytest.approx([5000, 2500, 2000, 500], abs=1)
        assert torch.allclose(logprobs.exp(), probs[chosen])

    def test_a_token_that_cannot_occur_is_never_chosen(self):
        logprobs = torch.tensor([-torch.inf, 0.0, -torch.inf]).expand(3, -1)
        uniform = torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64)
        assert choose(logprobs, uniform)[0].tolist() == [1, 1, 1]

    @pytest.mark.parametrize("vocab", [3, BLOCK, BLOCK + 1, 3 * BLOCK - 5])
    def test_a_token_is_where_the_distribution_function_passes_the_random_number(self, vocab):
        generator = torch.Generator().manual_seed(vocab)
        logprobs = (3 * torch.randn(500, vocab, generator=generator)).log_softmax(dim=-1)
        uniform = torch.rand(500, generator=generator, dtype=torch.float64)
        cumulative = logprobs.exp().double().cumsum(dim=-1)
        expected = (cumulative <= (uniform * cumulative[:, -1])[:, None]).sum(dim=-1)
        assert choose(logprobs, uniform)[0].tolist() == expected.tolist()

    @pytest.mark.parametrize("vocab", [3, BLOCK, 3 * BLOCK - 5, 40 * BLOCK])
    def test_plain_scores_give_the_tokens_of_their_log_probabilities(self, vocab):
        generator = torch.Generator().manual_seed(vocab)
        scores = 3 * torch.randn(500, vocab, generator=generator)
        uniform = torch.rand(500, generator=generator, dtype=torch.float64)
        chosen, logprobs = choose_plainly(scores, uniform)
        expected = scores.log_softmax(dim=-1)
        assert torch.equal(chosen, choose(expected, uniform)[0])
        exact = scores.double().log_softmax(dim=-1).gather(1, chosen[:, None])[:, 0]
        torch.testing.assert_close(logprobs.double(), exact, atol=1e-6, rtol=2e-7)

    def test_a_device_without_float64_leaves_the_drawing_to_the_cpu(self):
        places = [drawing_device(torch.device(name)).type for name in ("mps", "cuda", "cpu")]
        assert places == ["cpu", "cuda", "cpu"]

    @pytest.mark.gpu
    @pytest.mark.parametrize("top_p", [1.0, 0.7])
    def test_tokens_are_drawn_where_the_random_numbers_are(self, top_p):
        generator = torch.Generator().manual_seed(0)
        logprobs = torch.randn(50, 3 * BLOCK - 5, generator=generator).log_softmax(dim=-1)
        uniform = torch.rand(50, generator=generator, dtype=torch.float64)
        found = choose(logprobs.cuda(), uniform, top_p=top_p)
        assert all(each.is_cuda for each in found)
        for each, expected in zip(found, choose(logprobs, uniform, top_p=top_p), strict=True):
            assert torch.equal(each.cpu(), expected)

    @pytest.mark.parametrize("first", [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK + 7])
    @pytest.mark.parametrize("second", [2, BLOCK + 1, 3 * BLOCK - 1])
    def test_a_token_that_cannot_occur_is_never_chosen_at_any_edge_of_a_block(self, first, second):
        logprobs = torch.full((1, 4 * BLOCK - 9), -torch.inf)
        logprobs[0, [first, second]] = torch.tensor([0.3, 0.7]).log()
        edges = [0.0, 0.3, float(np.nextafter(0.3, 0)), float(np.nextafter(1, 0))]
        uniform = torch.tensor(edges, dtype=torch.float64)
        chosen = choose(logprobs.expand(len(edges), -1), uniform)[0].tolist()
        assert set(chosen) <= {first, second}
        assert (chosen[0], chosen[-1]) == (min(first, second), max(first, second))

    def test_temperature_divides_the_logits(self):
        logprobs = torch.tensor([[0.9, 0.1]]).log()
        _, cold = choose(logprobs, torch.tensor([0.0], dtype=torch.float64), temperature=0.5)
        assert float(cold.exp()) == pytest.approx(0.81 / 0.82)

    def test_random_numbers_of_a_longer_response_begin_with_those_of_a_shorter(self):
        assert uniforms(1, "p", 2, 9)[:4].tolist() == uniforms(1, "p", 2, 4).tolist()
        assert uniforms(1, "p", 2, 4).tolist() != uniforms(1, "p", 3, 4).tolist()
