"""What makes a run cheaper changes none of its numbers: each lever on and off."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from acft.backbone import compiled_layers, loading
from acft.backbone.forward import logits
from acft.chunked import TokenLosses
from acft.data import micro_batches
from acft.objective import kl_divergence, nll
from acft.schema import RunPaths
from acft.training import fit_job
from tests.tiny_run import check_same, tiny_settings, train

pytestmark = pytest.mark.equivalence
CHANGES = ('method={name="acft", prefixes=["corpus", "on_policy"]}',)
GROUPED = {"heads": 4, "groups": 2}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_settings(tmp_path_factory.mktemp("tiny"), **GROUPED)


def run(text: str, folder: Path, *changes: str) -> RunPaths:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACFT_ASSETS", str(folder / "cache"))
        paths, code = train(text, folder / "runs", *CHANGES, *changes)
    assert code == 0
    return paths


@pytest.fixture(scope="module")
def cheap(text: str, tmp_path_factory: pytest.TempPathFactory) -> RunPaths:
    return run(text, tmp_path_factory.mktemp("cheap"))


def logits_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fit_job, "losses_at", plain_losses)


def any_head(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fit_job, "has_plain_head", lambda _: False)


def plain_losses(policy, hidden, targets, ce_weights, penalty) -> TokenLosses:
    """The losses from the equations, all positions at once."""
    next_logprobs = logits(policy.backbone.model, hidden).log_softmax(dim=-1)
    cross_entropy = nll(next_logprobs, targets)
    zero = torch.zeros_like(cross_entropy)
    if penalty is None:
        return TokenLosses(ce_weights * cross_entropy, cross_entropy.detach(), zero, zero)
    assert penalty.kl == "guided_policy"
    rows = penalty.weights.nonzero()[:, 0]
    with torch.no_grad():
        guided = penalty.guided(rows, lambda: next_logprobs[rows])
    kls = [
        zero.index_put((rows,), kl_divergence(*pair))
        for pair in ((guided, next_logprobs[rows]), (next_logprobs[rows], guided))
    ]
    total = ce_weights * cross_entropy + penalty.weights * kls[0]
    return TokenLosses(total, cross_entropy.detach(), *(kl.detach() for kl in kls))


def own_attention(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(loading, "group_heads", lambda _: None)


def other_library(patch: pytest.MonkeyPatch) -> None:
    cpu = torch.cpu.get_capabilities()
    if cpu.get("amx_tile") or not cpu.get("avx512_f"):
        pytest.skip("never chosen on this CPU, which may round factors to bfloat16")
    chosen = torch.get_float32_matmul_precision()
    patch.setattr(loading, "use_wide_vectors", lambda: False)
    torch.set_float32_matmul_precision({"medium": "highest", "highest": "medium"}[chosen])


def own_layout(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(loading, "lay_out_by_input", lambda _: None)


def any_lengths_together(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fit_job, "balanced_batches", lambda *those: [*micro_batches(*those)])


def step_by_step(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch.optim, "AdamW", PlainAdamW)


class PlainAdamW(torch.optim.AdamW):
    """Without the kernel that takes all of a step's arithmetic at once."""

    def __init__(self, params, **settings) -> None:
        super().__init__(params, **{**settings, "fused": False, "foreach": False})


WITHOUT = (
    logits_at_once,
    any_head,
    own_attention,
    other_library,
    own_layout,
    any_lengths_together,
    step_by_step,
)


@pytest.mark.parametrize("without", WITHOUT)
def test_without_a_lever_the_run_says_the_same(
    text: str, cheap: RunPaths, tmp_path, monkeypatch, without: Callable
):
    precision = torch.get_float32_matmul_precision()
    try:
        without(monkeypatch)
        check_same(run(text, tmp_path), cheap, "adapter_model.safetensors")
    finally:
        torch.set_float32_matmul_precision(precision)


@pytest.mark.parametrize("lever", ["optimizer.checkpointing=true", "schedule.threads=2"])
def test_with_a_lever_the_run_says_the_same(text: str, cheap: RunPaths, tmp_path, lever: str):
    check_same(run(text, tmp_path, lever), cheap, "adapter_model.safetensors")


@pytest.mark.slow
def test_with_compiled_layers_the_run_says_the_same(
    text: str, cheap: RunPaths, tmp_path, monkeypatch
):
    # traced and differentiated as for the compiler, then run by PyTorch's own kernels
    monkeypatch.setattr(compiled_layers, "BACKEND", "aot_eager")
    compiled = run(text, tmp_path, "optimizer.compile=true", "schedule.threads=2")
    check_same(compiled, cheap, "adapter_model.safetensors")
