"""Cutting windows, weighing rollouts and estimating strength, against what is counted out."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from acft import toy
from acft.backbone.forward import logits
from acft.backbone.toy import START_ID, symbol_ids
from acft.data import TokenizedDocument, collate
from acft.decoding.base import DecoderContext
from acft.decoding.guided import GuidedSettings, guided_decoder
from acft.events import Note, Scalars
from acft.oracle import strength
from acft.oracle.base import Oracle
from acft.oracle.calibration import calibrate
from acft.oracle.consistent import ConsistentOracle
from acft.oracle.strength import guided_estimates, guided_log_weights, smallest_strength
from acft.oracle.training import OracleData, _sampling, _validation_loss
from acft.settings import OracleSettings, SamplingSettings
from acft.training.fit_job import fit_job
from acft.training.optimization import PolicyOptimizer
from acft.training.oracle_job import ScoredSamples as Scored
from acft.training.oracle_job import (
    build_oracle,
    oracle_data,
    oracle_job,
    told_weights,
    with_verdicts,
)
from acft.training.regularizer import Regularizer
from acft.training.replay import replayed
from acft.types import TokenBatch
from acft.windows import response_windows
from tests.toy_runs import HORIZON, N_SYMBOLS, drained, toy_run, world_of


def test_a_window_begins_at_the_last_prompt_token_and_ends_at_the_horizon():
    documents = [
        TokenizedDocument("a", "general", (1, 2, 3, 4, 5, 6, 7), 2),
        TokenizedDocument("b", "general", (1, 2, 3, 4), 3),
    ]
    batch = collate(documents, 0, horizon=3)
    hidden = torch.arange(7.0).expand(2, 7)[..., None]
    window = response_windows(batch, hidden, torch.tensor([2, 3]), horizon=3)
    assert window.token_ids.tolist() == [[2, 3, 4, 5], [3, 4, 0, 0]]
    assert window.mask.tolist() == [[True] * 4, [True, True, False, False]]
    assert window.hidden[..., 0].tolist() == [[1, 2, 3, 4], [2, 3, 0, 0]]
    assert window.prompt_ids.tolist() == [[0, 1, 2], [1, 2, 3]]
    assert window.prompt_mask.tolist() == [[False, True, True], [True, True, True]]


def some_data(n=10, n_satisfied=8):
    """Rollouts of which nothing but verdicts and weights matters."""
    satisfaction = torch.tensor([1.0] * n_satisfied + [0.0] * (n - n_satisfied))
    batch = collate([TokenizedDocument("a", "", (1, 2), 1)] * n, 0, horizon=1)
    window = response_windows(batch, torch.zeros(n, 2, 1), torch.ones(n, dtype=torch.long), 1)
    return OracleData(window, satisfaction, ("p",) * n, torch.linspace(-0.5, 0.5, n))


def test_responses_that_the_policy_would_not_give_count_neither_in_calibration_nor_in_stopping(
    world,
):
    _, (oracle, data, _) = responses(world, 60)
    kept = torch.arange(40)
    log_weights = torch.where(torch.arange(60) < 40, 0.0, -50.0)
    data = dataclasses.replace(data, log_weights=torch.zeros(60))
    weighed = dataclasses.replace(data, log_weights=log_weights)
    found, expected = (calibrate(oracle, each, 1) for each in (weighed, data.rows(kept)))
    assert found.metrics == pytest.approx(expected.metrics)
    assert [row["auc"] for row in found.by_position] == [row["auc"] for row in expected.by_position]
    assert found.metrics != pytest.approx(calibrate(oracle, data, 1).metrics)
    losses = [
        _validation_loss(oracle, each, OracleSettings())
        for each in (weighed, data.rows(kept), data)
    ]
    share = data.window.mask[:40, 1:].sum() / data.window.mask[:, 1:].sum() * 60 / 40
    assert losses[0] == pytest.approx(losses[1] * float(share))
    assert losses[0] != pytest.approx(losses[2])


def test_the_loss_on_validation_responses_is_that_of_one_token_not_of_both_heads(tmp_path):
    world = world_of(toy_run(tmp_path, "oracle.kind=dinado_recurrent"))
    oracle = build_oracle(world)
    samples = world.base.sample(
        world.prompts["validation"], 2, SamplingSettings(horizon=HORIZON), 0, keep_hidden=True
    )
    data = oracle_data(Scored.of(world, samples))
    expected = calibrate(oracle, data, 1).metrics["bce"]  # this kind has one answer for both
    assert _validation_loss(oracle, data, world.run.oracle) == pytest.approx(expected, rel=1e-5)


def test_responses_that_are_replayed_to_who_drew_them_are_as_they_were_drawn(tmp_path, monkeypatch):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path))
    world = world_of(toy_run(tmp_path))
    prompts = world.prompts["train"][:5]
    drawn = world.base.sample(prompts, 20, SamplingSettings(horizon=HORIZON), 0, keep_hidden=True)
    assert drawn.windows is not None
    satisfaction, expected = with_verdicts(world, drawn.rollouts, drawn.windows)
    found = replayed(world, world.base, drawn.rollouts, satisfaction)
    assert float(found.log_weights.abs().max()) < 1e-4
    assert found.window.hidden.dtype == expected.hidden.dtype  # else both are kept in the wider one
    for name in ("token_ids", "mask", "verdicts", "prompt_ids", "prompt_mask"):
        assert torch.equal(getattr(found.window, name), getattr(expected, name))
    kept = expected.mask
    torch.testing.assert_close(
        found.window.hidden[kept], expected.hidden[kept], atol=2e-3, rtol=2e-3
    )


def test_prefixes_are_judged_only_for_kinds_that_read_what_is_said_of_them(tmp_path, monkeypatch):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path))
    world = world_of(toy_run(tmp_path, "oracle.kind=dinado_lora", "oracle.replay_rounds=1"))
    kind, asked = type(world.constraint), []
    score = kind.score
    monkeypatch.setattr(
        kind, "score", lambda self, *texts: asked.extend(texts[1]) or score(self, *texts)
    )
    first = drained(oracle_job(world, build_oracle(world), world.base, 1, []))
    second = drained(oracle_job(world, first.guide.oracle, world.base, 2, [first]))
    optimizer = PolicyOptimizer(world.policy.parameters(), world.run.optimizer, 9)
    drained(fit_job(world, optimizer, Regularizer(second.guide, world.base, 1.0), 1))
    settings = world.run.oracle
    assert len(asked) == 2 * (settings.rollouts_per_round + settings.validation_rollouts)


@pytest.mark.parametrize(("temperature", "is_told"), [(1.0, False), (1.2, True)])
def test_responses_drawn_at_another_temperature_are_told_as_how_many_they_count(
    tmp_path, temperature, is_told
):
    world = world_of(toy_run(tmp_path, f"oracle.temperature={temperature}"))
    outputs = list(oracle_job(world, build_oracle(world), world.base, 1, []))
    shares = [
        output.values["oracle/effective_share"]
        for output in outputs
        if isinstance(output, Scalars) and "oracle/effective_share" in output.values
    ]
    assert len(shares) == is_told
    assert all(0.1 < share < 1 for share in shares)
    assert not [output for output in outputs if isinstance(output, Note)]


def test_responses_of_which_few_count_are_a_warning():
    n = 64
    window = response_windows(
        TokenBatch(torch.zeros(n, 2, dtype=torch.long), *torch.ones(2, n, 2).bool()),
        torch.zeros(n, 2, 1), torch.ones(n, dtype=torch.long), 1,
    )  # fmt: skip
    log_weights = torch.full((n,), -20.0)
    log_weights[:2] = 0.0
    data = OracleData(window, torch.ones(n), ("p",) * n, log_weights)
    scalars, note = told_weights(data, 3)
    assert isinstance(scalars, Scalars)
    assert scalars.values["oracle/effective_share"] == pytest.approx(2 / n)
    assert isinstance(note, Note)
    assert (note.level, note.round) == ("warning", 3)
    assert "the 64 responses that the oracle learns from weigh like 2 drawn" in note.text


def test_the_effective_share_of_responses_is_kishs():
    window = response_windows(
        TokenBatch(torch.zeros(4, 2, dtype=torch.long), *torch.ones(2, 4, 2).bool()),
        torch.zeros(4, 2, 1), torch.ones(4, dtype=torch.long), 1,
    )  # fmt: skip
    log_weights = torch.tensor([0.0, math.log(2), 0.0, math.log(4)])
    data = OracleData(window, torch.ones(4), ("p",) * 4, log_weights)
    assert data.effective_share == pytest.approx(8**2 / (1 + 4 + 1 + 16) / 4)


def test_responses_that_are_all_very_unlikely_weigh_by_their_differences():
    window = response_windows(
        TokenBatch(torch.zeros(2, 2, dtype=torch.long), *torch.ones(2, 2, 2).bool()),
        torch.zeros(2, 2, 1), torch.ones(2, dtype=torch.long), 1,
    )  # fmt: skip
    log_weights = torch.tensor([-1000.0, -1000.0 - math.log(3)])
    data = OracleData(window, torch.ones(2), ("p", "p"), log_weights)
    assert data.weights.tolist() == pytest.approx([1.5, 0.5], rel=1e-4)


def test_balanced_drawing_takes_both_kinds_equally_often_and_its_weights_undo_that():
    data = some_data()
    plain, none = _sampling(data, OracleSettings())
    weights, chance = _sampling(data, OracleSettings(balance="balanced"))
    assert none is None
    assert chance is not None
    assert chance[:8].sum() == pytest.approx(0.5)
    expected = (torch.from_numpy(chance) * weights * data.verdict).sum()
    assert float(expected) == pytest.approx(float((plain * data.verdict).mean()), rel=1e-5)


@pytest.mark.parametrize("n_satisfied", [0, 1, 399, 400])
def test_balanced_drawing_weighs_as_much_as_plain_drawing_where_one_kind_is_rare(n_satisfied):
    weights, chance = _sampling(some_data(400, n_satisfied), OracleSettings(balance="balanced"))
    assert chance is not None
    assert float((torch.from_numpy(chance) * weights).sum()) == pytest.approx(1.0, rel=1e-4)


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path))
    return world_of(toy_run(tmp_path, "oracle.kind=exact"))


def responses(world, n, n_prompts=1):
    """An oracle that knows the true R, responses, and all that an estimate needs."""
    prompts = world.prompts["train"][:n_prompts]
    drawn = world.base.sample(prompts, n, SamplingSettings(horizon=HORIZON), 0, keep_hidden=True)
    satisfaction, windows = with_verdicts(world, drawn.rollouts, drawn.windows)
    model = world.base.backbone.model

    def next_logprobs(hidden):
        return logits(model, hidden.to(model.dtype)).log_softmax(dim=-1)

    data = oracle_data(Scored(drawn.rollouts, satisfaction, windows))
    return drawn, (build_oracle(world), data, next_logprobs)


def estimated(world, strengths, delta=1.0, n=1500):
    """What 1,500 responses to one prompt say about guiding by the true R."""
    drawn, parts = responses(world, n)
    return drawn, guided_estimates(*parts, strengths, delta)


def enumerated(world, prompt, delta, strength):
    """Satisfaction of the guided policy, by listing all responses."""

    def next_logprobs(ids):
        with torch.no_grad():
            mask = torch.ones_like(ids, dtype=torch.bool)
            return world.base.next_logprobs(TokenBatch(ids, mask, mask))

    size = toy.ToyWorld(N_SYMBOLS, HORIZON)
    base = toy.enumerate_policy(next_logprobs, size, list(prompt), symbol_ids(N_SYMBOLS))
    satisfied = size.judge_texts(lambda text: world.constraint.score([""], [text])[0])
    log_r, _ = toy.exact_next_log_r(base, satisfied)
    if strength == 1.0:
        base = toy.guided_tables(base, log_r, delta)
    return float(toy.satisfaction(base, satisfied))


@pytest.mark.parametrize("delta", [1.0, 0.9])
def test_guided_satisfaction_is_estimated_without_drawing_from_the_guided_policy(world, delta):
    drawn, (weak, full) = estimated(world, [1e-6, 1.0], delta)
    prompt = drawn.rollouts[0].prompt_ids
    assert prompt[0] == START_ID
    assert weak.satisfaction == pytest.approx(enumerated(world, prompt, delta, 0.0), abs=0.04)
    assert full.satisfaction == pytest.approx(enumerated(world, prompt, delta, 1.0), abs=0.02)
    assert weak.effective_share == pytest.approx(1.0, abs=1e-3)
    if delta == 1.0:  # by the true R, all satisfying responses weigh 1 / R(x)
        assert full.effective_share == pytest.approx(weak.satisfaction, abs=0.01)


@pytest.mark.parametrize("delta", [1.0, 0.9])
def test_the_weight_of_a_response_does_not_depend_on_its_neighbours(world, delta):
    _, (oracle, data, next_logprobs) = responses(world, 3, n_prompts=4)
    together = guided_log_weights(oracle, data, next_logprobs, [1.0, 2.0], delta)
    alone = [
        guided_log_weights(oracle, data.rows(torch.tensor([row])), next_logprobs, [1.0, 2.0], delta)
        for row in range(len(data))
    ]
    torch.testing.assert_close(together, torch.cat(alone, dim=1))
    assert together.abs().max() > 1e-3


@pytest.mark.parametrize("delta", [1.0, 0.9])
@pytest.mark.parametrize("rare", [0.0, 0.2])
def test_positions_that_are_looked_at_a_few_at_a_time_weigh_what_all_do_together(
    world, delta, rare, monkeypatch
):
    _, (oracle, data, next_logprobs) = responses(world, 3, n_prompts=4)
    mask = data.window.mask.clone()
    mask[0, 1:], mask[1, 3:] = False, False  # no token, and two
    data = dataclasses.replace(data, window=dataclasses.replace(data.window, mask=mask))
    together = guided_log_weights(oracle, data, next_logprobs, [1.0, 2.0], delta, rare)
    asked = []
    monkeypatch.setattr(strength, "positions_at_once", lambda *_: 5)
    found = guided_log_weights(
        oracle, data, lambda hidden: asked.append(len(hidden)) or next_logprobs(hidden),
        [1.0, 2.0], delta, rare,
    )  # fmt: skip
    torch.testing.assert_close(found, together, atol=1e-6, rtol=1e-6)
    assert together[:, 0].tolist() == [0.0, 0.0]
    n_positions = int(mask[:, 1:].sum())
    assert asked[1:] == [5] * (n_positions // 5) + [n_positions % 5] * (n_positions % 5 > 0)


@pytest.mark.parametrize("delta", [1.0, 0.9])
@pytest.mark.parametrize("rare", [0.0, 0.2])
def test_decoding_draws_from_the_policy_by_which_responses_are_weighed(world, delta, rare):
    _, (oracle, _, next_logprobs) = responses(world, 1)
    decoder = guided_decoder(
        GuidedSettings(strength=2.0, delta=delta, rare=rare),
        DecoderContext(world.base, oracle, None, HORIZON),
    )
    sampling = SamplingSettings(horizon=HORIZON)
    drawn = world.base.sample(
        world.prompts["train"][:3], 20, sampling, 0, decoder=decoder, keep_hidden=True
    )
    satisfaction, windows = with_verdicts(world, drawn.rollouts, drawn.windows)
    data = oracle_data(Scored(drawn.rollouts, satisfaction, windows))
    weights = guided_log_weights(oracle, data, next_logprobs, [2.0], delta, rare)[0]
    while_drawing = torch.tensor([-rollout.log_weight for rollout in drawn.rollouts])
    torch.testing.assert_close(weights, while_drawing, atol=1e-3, rtol=0)
    assert weights.abs().max() > 0.1


@torch.no_grad()
def test_a_token_is_judged_once_while_drawing_and_nothing_is_known_after_the_horizon(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path))
    world = world_of(toy_run(tmp_path, "oracle.kind=dinado_recurrent"))
    oracle, generator = build_oracle(world).eval(), torch.Generator().manual_seed(1)
    for parameter in oracle.parameters():
        parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    looked, log_ratio = [], ConsistentOracle._log_ratio

    def noticed(self, read, hidden):
        looked.append(read[..., 0].numel())
        return log_ratio(self, read, hidden)

    monkeypatch.setattr(ConsistentOracle, "_log_ratio", noticed)
    context = DecoderContext(world.base, oracle, world.constraint.score, HORIZON)
    decoder = guided_decoder(GuidedSettings(strength=2.0), context)
    prompt, hidden = [START_ID, 2, 3], torch.randn(1, HORIZON + 1, 16, generator=generator)
    plain, tokens = torch.zeros(1, N_SYMBOLS + 1).log_softmax(dim=-1), [3, 1, 2, 4, 1]
    session, drawn = decoder.start(["b c"], [prompt]), []
    for place, token in enumerate(tokens):
        drawn.append(session.reweight(plain, hidden[:, place], torch.tensor([token])))
    assert max(looked) == 1
    text = world.base.backbone.decode(tokens[1:])
    fresh = decoder.start([session.prompts[0]], [prompt + tokens[1:]])
    again = fresh.reweight(plain, hidden[:, -1], torch.tensor(tokens[-1:]))
    assert session.prompts[0].split() == ["b", "c", *text.split()]
    torch.testing.assert_close(drawn[-1], again)
    assert not torch.allclose(drawn[-1], plain, atol=1e-2)


def test_the_smallest_trusted_strength_that_reaches_the_target_is_chosen(world):
    _, estimates = estimated(world, [1.0, 2.0], n=200)
    assert smallest_strength(estimates, 0.9) == 1.0
    weak = dataclasses.replace(estimates[0], satisfaction=0.5)
    assert smallest_strength([weak, estimates[1]], 0.9) == 2.0
    untrusted = dataclasses.replace(estimates[1], effective_share=0.01)
    assert smallest_strength([weak, untrusted], 0.9) == 1.0


def test_a_copy_of_a_recurrent_oracle_has_its_weights_in_one_piece(monkeypatch):
    flattened = []

    def noted(self):
        flattened.append(self)

    monkeypatch.setattr(nn.RNNBase, "flatten_parameters", noted)
    units = nn.GRU(2, 2)
    oracle = Oracle(-1.0)
    oracle.add_module("units", units)
    flattened.clear()
    copied = oracle.copied()
    assert flattened == [copied.get_submodule("units")]
    assert copied.get_submodule("units") is not units
