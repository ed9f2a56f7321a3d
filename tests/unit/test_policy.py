"""The policy: log-probabilities, merged snapshots, files."""

import pytest
import torch

from acft.backbone.adapters import AdaptedCopy
from acft.backbone.toy import symbol_ids
from acft.errors import ModelError
from acft.policy import base_policy, trainable_policy
from acft.settings import AdapterSettings, OptimizerSettings
from acft.types import TokenBatch
from tests.toy_runs import N_SYMBOLS, toy_run

LORA = AdapterSettings(rank=4)
KINDS = pytest.mark.parametrize("kind", ["lora", "full"])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return toy_run(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def base(run):
    return base_policy(run)


def batch() -> TokenBatch:
    ids = torch.randint(1, 5, (6, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[::2, 6:] = False
    return TokenBatch(ids, mask, mask)


def changed(policy, seed=0):
    """The policy after something like training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.03 * torch.randn(parameter.shape, generator=generator))
    return policy


def logprobs(policy):
    """Of the symbols; the start token stands near -37, where float32 is too coarse to compare."""
    with torch.no_grad():
        return policy.next_logprobs(batch())[batch().attention_mask][:, symbol_ids(N_SYMBOLS)]


@pytest.mark.parametrize("at_once", [1, 4, 10_000])
def test_realised_tokens_have_their_log_probabilities_however_many_are_read_at_once(
    base, monkeypatch, at_once
):
    monkeypatch.setattr("acft.policy.positions_at_once", lambda *_: at_once)
    read = batch()
    mask, targets = read.attention_mask[:, 1:], read.token_ids[:, 1:, None]
    whole = base.next_logprobs(read)[:, :-1].gather(-1, targets).squeeze(-1)
    found = base.token_logprobs(read)
    assert torch.allclose(found, torch.where(mask, whole, 0.0), atol=1e-5)
    assert (found[mask] < 0).all()
    assert not found[~mask].any()


@pytest.mark.parametrize("threads", [1, 3])
def test_as_many_threads_draw_as_the_settings_say(run, threads):
    schedule = run.schedule.model_copy(update={"threads": threads})
    assert base_policy(run.model_copy(update={"schedule": schedule})).workers.count == threads


@KINDS
def test_a_new_trainable_part_changes_nothing(base, kind):
    tuned = trainable_policy(base, AdapterSettings(kind=kind, rank=4), seed=3)
    assert torch.equal(logprobs(tuned), logprobs(base))


@pytest.mark.equivalence
@KINDS
def test_merged_is_unmerged(base, kind):
    tuned = changed(trainable_policy(base, AdapterSettings(kind=kind, rank=4), seed=3))
    merged = tuned.snapshot(base)
    assert (logprobs(merged) - logprobs(tuned)).abs().max() < 1e-5
    assert (logprobs(merged) - logprobs(base)).abs().max() > 1e-2
    assert not merged.parameters()


def test_a_snapshot_stays_when_the_policy_moves_on(base):
    tuned = changed(trainable_policy(base, LORA, seed=3))
    tuned.version = 4
    frozen = tuned.snapshot(base)
    before = logprobs(frozen)
    changed(tuned, seed=1)
    assert torch.equal(logprobs(frozen), before)
    assert frozen.version == 4


def test_a_weight_that_no_copy_changes_lies_in_memory_once(base):
    tuned = changed(trainable_policy(base, LORA, seed=3))
    frozen = tuned.snapshot(base)
    places = {
        name: {p.data_ptr() for p in policy.backbone.model.parameters() if not p.requires_grad}
        for name, policy in {"base": base, "tuned": tuned, "frozen": frozen}.items()
    }
    assert places["tuned"] == places["base"]
    adapted = sum("lora_A" in name for name, _ in tuned.backbone.model.named_parameters())
    assert len(places["frozen"] - places["base"]) == adapted > 0
    assert places["frozen"] & places["base"]


def test_training_leaves_the_base_alone(base):
    before = logprobs(base)
    changed(trainable_policy(base, AdapterSettings(kind="full"), seed=3))
    assert torch.equal(logprobs(base), before)


@KINDS
def test_saved_weights_come_back_to_the_bit(base, tmp_path, kind):
    adapter = AdapterSettings(kind=kind, rank=4)
    tuned = changed(trainable_policy(base, adapter, seed=3))
    tuned.save(tmp_path / "policy")
    again = trainable_policy(base, adapter, seed=9)
    again.load(tmp_path / "policy", version=2)
    assert torch.equal(logprobs(again), logprobs(tuned))
    assert again.version == 2


def test_weights_of_another_rank_are_refused(base, tmp_path):
    trainable_policy(base, LORA, seed=3).save(tmp_path / "policy")
    other = trainable_policy(base, AdapterSettings(rank=2), seed=3)
    with pytest.raises(ModelError, match="another rank"):
        other.load(tmp_path / "policy", version=1)


def test_missing_weights_are_an_error(base, tmp_path):
    with pytest.raises(ModelError, match="cannot open checkpoint weights"):
        trainable_policy(base, LORA, seed=3).load(tmp_path, version=1)


def test_padding_changes_no_token(base):
    whole, cut = batch(), batch()
    cut = TokenBatch(
        cut.token_ids[::2, :6], cut.attention_mask[::2, :6], cut.response_mask[::2, :6]
    )
    with torch.no_grad():
        difference = base.next_logprobs(whole)[::2, :6] - base.next_logprobs(cut)
    assert difference.abs().max() < 1e-5


def test_an_adapted_copy_shares_the_frozen_weights_and_owns_its_adapters(base):
    import copy

    model = base.backbone.model
    adapted = AdaptedCopy(model, LORA, seed=1)
    again = copy.deepcopy(adapted)
    frozen = {id(p) for p in model.parameters()}
    for one in (adapted, again):
        shared = [p for p in one.model.parameters() if not p.requires_grad]
        assert {id(p) for p in shared} == frozen
    own = [{id(p) for p in one.parameters()} for one in (adapted, again)]
    assert own[0].isdisjoint(own[1])
    assert len(own[0]) == len(own[1]) > 0


@pytest.mark.equivalence
@KINDS
def test_computing_activations_again_keeps_fewer_and_gives_the_same_gradients(base, kind):
    kept, gradients = [], []
    for checkpointing in (False, True):
        adapter = AdapterSettings(kind=kind, rank=4)
        tuned = trainable_policy(base, adapter, 3, OptimizerSettings(checkpointing=checkpointing))
        tuned.backbone.model.train()
        n_kept = 0

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal n_kept
            n_kept += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = tuned.next_logprobs(batch()).square().mean()
        loss.backward()
        kept.append(n_kept)
        gradients.append([parameter.grad for parameter in tuned.parameters()])
    assert kept[1] < 0.7 * kept[0]
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
