"""How a CPU multiplies: the library by its maker, and weights laid out for products of few rows."""

import copy

import pytest
import torch
from torch import nn

from acft.backbone.adapters import trainable_copy
from acft.backbone.products import lay_out_by_input, use_wide_vectors
from acft.backbone.toy import toy_model
from acft.policy import base_policy, trainable_policy
from acft.settings import AdapterSettings
from tests.toy_runs import toy_run

IDS = torch.arange(6).view(2, 3)


def layers(model: nn.Module) -> dict[str, nn.Linear]:
    """All linear layers by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}


def is_by_input(weight: torch.Tensor) -> bool:
    return weight.t().is_contiguous() and not weight.is_contiguous()


@pytest.mark.parametrize(
    ("name", "has_wide", "has_units", "is_expected"),
    [
        ("AMD EPYC", True, False, True),
        ("Intel Xeon", True, False, False),
        ("Intel Xeon", True, True, False),
        ("AMD EPYC", True, True, False),
        ("AMD EPYC", False, False, False),
        (None, True, False, True),
    ],
)
def test_one_dnn_is_chosen_where_mkl_keeps_to_narrow_vectors(
    monkeypatch, name, has_wide, has_units, is_expected
):
    found = {"avx512_f": has_wide, "amx_tile": has_units} | ({"cpu_name": name} if name else {})
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("highest")
        assert use_wide_vectors() is is_expected
        assert torch.get_float32_matmul_precision() == ("medium" if is_expected else "highest")
    finally:
        torch.set_float32_matmul_precision(before)


def test_the_layout_changes_no_value_and_leaves_the_head_as_it_is():
    model = toy_model(6, seed=0)
    before = copy.deepcopy(model)
    lay_out_by_input(model)
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before.get_parameter(name))
    by_input = {name for name, layer in layers(model).items() if is_by_input(layer.weight)}
    assert by_input == layers(model).keys() - {"lm_head"}
    with torch.no_grad():
        found, expected = (m(input_ids=IDS).logits for m in (model, before))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_an_opened_model_and_its_snapshots_have_the_layout_and_trained_weights_their_own(tmp_path):
    base = base_policy(toy_run(tmp_path))
    tuned = trainable_policy(base, AdapterSettings(rank=4), seed=0)
    for model in (base.backbone.model, tuned.snapshot(base).backbone.model):
        found = layers(model)
        assert all(is_by_input(found[name].weight) for name in found.keys() - {"lm_head"})
    full = trainable_copy(base.backbone.model, AdapterSettings(kind="full"), seed=0)
    assert all(parameter.is_contiguous() for parameter in full.parameters())
