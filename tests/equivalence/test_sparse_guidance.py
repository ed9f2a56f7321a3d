"""Guidance computed once and kept in part: exact with all tokens kept, else its error is told."""

import functools
from pathlib import Path

import pytest
import torch

import acft.methods.acft as acft_module
from acft.errors import ConfigError
from acft.methods.acft import AcftSettings
from acft.methods.base import METHODS
from acft.objective import kl_divergence
from acft.policy import Policy
from acft.training import precompute
from acft.training.outputs import Checkpoint, TrainContext
from acft.training.sparse import sparsified, spread
from acft.types import TokenBatch
from tests.toy_runs import N_SYMBOLS, largest_difference, toy_run, trained

pytestmark = pytest.mark.equivalence

VOCAB = N_SYMBOLS + 1
ACFT = {
    "name": "acft", "anchor": "snapshot", "reach_weighted": True, "kl_weight": 2.0,
    "prefixes": ["corpus", "on_policy"],
}  # fmt: skip


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("toy")


def logprobs(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(shape, generator=generator, dtype=torch.float64)).log_softmax(dim=-1)


def test_all_tokens_kept_are_the_distribution_itself():
    q, p = logprobs(6, 9), logprobs(6, 9, seed=1)
    assert torch.equal(spread(*sparsified(q, 9), p), q)


@pytest.mark.parametrize("top", [1, 3, 8])
def test_the_rest_has_its_exact_mass_in_the_policys_proportions(top):
    q, p = logprobs(6, 9), logprobs(6, 9, seed=1)
    whole = spread(*sparsified(q, top), p)
    assert whole.exp().sum(dim=-1) == pytest.approx(1.0)
    kept = q.topk(top).indices
    assert torch.equal(whole.gather(-1, kept), q.gather(-1, kept))
    ratio = (whole - p).scatter(-1, kept, torch.nan)
    for row in ratio:
        rest = row[~row.isnan()]
        assert torch.allclose(rest, rest[:1].expand_as(rest))
    assert (kl_divergence(whole, p) <= kl_divergence(q, p) + 1e-12).all()


@pytest.mark.parametrize("kind", ["sequential", "parallel"])
@pytest.mark.parametrize("delta", [1.0, 0.9])
def test_all_tokens_kept_give_the_trajectory_of_no_cache(place, tmp_path, kind, delta):
    run = toy_run(place, f"schedule.kind={kind}")
    exact = trained(tmp_path / "a", run, ACFT | {"delta": delta})
    cached = trained(tmp_path / "b", run, ACFT | {"delta": delta, "guidance_top_k": VOCAB})
    expected, found = exact.scalars("policy/"), cached.scalars("policy/")
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    assert [row[2] for row in found] == pytest.approx([row[2] for row in expected], abs=1e-5)
    assert len(cached.rows("guidance")) == len(exact.rows("guidance"))
    errors = [value for _, _, value in cached.scalars("guidance/")]
    assert errors
    assert max(map(abs, errors)) < 1e-6


def test_fewer_tokens_tell_their_error_and_change_little(place, tmp_path):
    run = toy_run(place)
    exact = trained(tmp_path / "a", run, ACFT)
    cached = trained(tmp_path / "b", run, ACFT | {"guidance_top_k": 2})
    error = max(value for _, _, value in cached.scalars("guidance/error_max"))
    assert error > 1e-6
    kls = [t.scalars("policy/kl_guided_policy")[0][2] for t in (exact, cached)]
    assert kls[0] - error <= kls[1] <= kls[0] + 1e-6


def test_the_jobs_order_and_a_resumed_run_change_no_bit(place, tmp_path, monkeypatch):
    method = ACFT | {"guidance_top_k": 2}
    run = toy_run(place, "schedule.kind=parallel", "schedule.threads=2")
    whole = trained(tmp_path / "a", run, method)
    resumed = trained(tmp_path / "b", run, method, resume=(whole.checkpoints[2], 2))
    assert largest_difference(whole.weights(3), resumed.weights(3)) == 0.0
    both = functools.partial(acft_module.both)
    monkeypatch.setattr(acft_module, "both", lambda a, b, **_: both(a, b, at_once=False))
    in_turn = trained(tmp_path / "c", run, method)
    assert largest_difference(whole.weights(3), in_turn.weights(3)) == 0.0


def test_a_policy_that_is_its_own_anchor_has_nothing_to_keep():
    with pytest.raises(ConfigError, match="guidance_top_k 8 keeps what a snapshot says"):
        AcftSettings.parse({"anchor": "current", "guidance_top_k": 8}, "method")


def test_the_anchor_reads_each_text_once(place, tmp_path, monkeypatch):
    read: list[int] = []
    hidden = Policy.hidden

    def counted(self: Policy, batch: TokenBatch) -> torch.Tensor:
        if is_at_work:
            read.append(len(batch.token_ids))
        return hidden(self, batch)

    is_at_work = False
    guidance = precompute._guidance

    def watched(world, rule, top, documents):
        nonlocal is_at_work
        is_at_work = True
        found = guidance(world, rule, top, documents)
        is_at_work = False
        assert read == [len(documents)]
        read.clear()
        return found

    monkeypatch.setattr(Policy, "hidden", counted)
    monkeypatch.setattr(precompute, "_guidance", watched)
    trained(tmp_path / "a", toy_run(place, "schedule.rounds=1"), ACFT | {"guidance_top_k": 2})


def test_a_request_to_stop_ends_the_computing_of_guidance(place, monkeypatch):
    calls: list[int] = []
    guidance = precompute._guidance

    def counted(*arguments):
        calls.append(1)
        return guidance(*arguments)

    monkeypatch.setattr(precompute, "_guidance", counted)
    settings = AcftSettings(anchor="snapshot", guidance_top_k=2)
    context = TrainContext(toy_run(place), should_stop=lambda: len(calls) >= 2)
    outputs = list(METHODS.get("acft").train(settings, context))
    assert len(calls) == 2
    assert not any(isinstance(output, Checkpoint) for output in outputs)
