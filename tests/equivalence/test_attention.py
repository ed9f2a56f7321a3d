"""Attention of grouped heads against the model's own."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, PreTrainedModel

from acft.backbone.attention import GROUPED, group_heads
from acft.backbone.cached_decoder import CachedDecoder

pytestmark = pytest.mark.equivalence
SHAPE = {
    "vocab_size": 50, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 6, "head_dim": 4, "max_position_embeddings": 32,
}  # fmt: skip


def model(groups: int, kind: type = LlamaConfig) -> PreTrainedModel:
    config = kind(**SHAPE, num_key_value_heads=groups)
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    for parameter in made.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape)
    return made.eval()


def padded() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(1, 50, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    return ids, mask.bool()


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_losses_and_gradients_are_those_of_the_models_own_attention(groups):
    own = model(groups)
    grouped = copy.deepcopy(own)
    group_heads(grouped)
    assert grouped.config._attn_implementation == GROUPED
    ids, mask = padded()
    outputs = [m(input_ids=ids, attention_mask=mask.long()).logits[mask] for m in (own, grouped)]
    assert torch.allclose(*outputs, atol=1e-5)
    for m, output in zip((own, grouped), outputs, strict=True):
        assert output.std() > 0.1, m.config
        output.log_softmax(dim=-1)[:, 7].sum().backward()
    for one, other in zip(own.parameters(), grouped.parameters(), strict=True):
        assert one.grad is not None
        torch.testing.assert_close(other.grad, one.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_tokens_appended_one_by_one_have_the_hidden_states_of_the_models_own_attention(groups):
    own = model(groups)
    grouped = copy.deepcopy(own)
    group_heads(grouped)
    ids, mask = padded()
    with torch.no_grad():
        one, other = (CachedDecoder(m, ids, mask) for m in (own, grouped))
        for token in range(4):
            assert torch.allclose(one.hidden, other.hidden, atol=1e-5)
            for state in (one, other):
                state.append(torch.full((3,), token))


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda: model(6), "every head has keys of its own"),
        (lambda: model(2, Gemma2Config), "scores have a soft cap"),
    ],
    ids=["heads alone", "soft cap"],
)
def test_other_attention_is_left_alone(made, why):
    there = made()
    group_heads(there)
    assert there.config._attn_implementation == "eager", why
