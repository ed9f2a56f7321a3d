"""On a device that is strict about where tensors are, everything says what it says on the CPU.

It is no GPU: its kernels are the CPU's, so nothing is shown of speed, memory, streams or graphs.
What is shown is that no tensor is left behind on the host, that code which goes another way on
other devices comes to the same numbers, and how often a GPU would be waited for.

Run by ``tests/equivalence/test_devices.py`` in a process of its own: PyTorch must know of all
devices before it computes the first gradient.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from acft.backbone.loading import load_backbone
from acft.data import prompt_of
from acft.decoding.base import DECODERS, DecoderContext
from acft.methods.base import METHODS
from acft.oracle.base import ORACLES, OracleContext
from acft.policy import Policy
from acft.settings import ModelSettings, OracleSettings, SamplingSettings
from acft.training import fit_job
from tests.device import pretend
from tests.fakes import save_tiny_model
from tests.toy_runs import toy_run, trained

pytestmark = pytest.mark.equivalence
TOLERANCE = 1e-4
HORIZON = 5
PROMPTS = [prompt_of(text) for text in ("See the rain", "Sun", "The river rose in the night")]
CHANGES = (
    "evaluation.test_prompts=3", "evaluation.continuations=4", "optimizer.lr=1e-3",
    "schedule.rounds=2",
)  # fmt: skip
ALL_PREFIXES = {"name": "acft", "prefixes": ["corpus", "on_policy"]}
OWN_TRAINER = ("dpo", "rl")
"""TRL's trainers choose the device themselves, and know those alone that accelerate knows."""
TRAINED_BY_US = [name for name in METHODS.names() if name not in ("evaluate", *OWN_TRAINER)]


@pytest.fixture(scope="module", autouse=True)
def _device(tmp_path_factory):
    pretend.load(pretend.build(tmp_path_factory.mktemp("device")))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("toy")


def check_same(place, tmp_path, monkeypatch, method, *changes):
    """Fails unless the method says the same numbers on both devices."""
    monkeypatch.setenv("ACFT_ASSETS", str(place / "cache"))
    on_cpu = trained(tmp_path / "cpu", toy_run(place, *CHANGES, *changes), method)
    before = pretend.n_done()
    with pretend.instead_of_a_gpu():
        run = toy_run(place, *CHANGES, *changes, "device=cuda")
        elsewhere = trained(tmp_path / "elsewhere", run, method)
    assert pretend.n_done() - before > 1000
    expected, found = on_cpu.scalars(), elsewhere.scalars()
    assert [s[:2] for s in found] == [s[:2] for s in expected]
    assert [s[2] for s in found] == pytest.approx([s[2] for s in expected], TOLERANCE, TOLERANCE)
    assert responses(elsewhere) == responses(on_cpu)


def responses(run):
    return [(row["rollout_id"], row["response_ids"]) for row in run.rows("rollouts")]


def test_a_tensor_left_behind_is_noticed():
    there = torch.randn(3, 4, device=pretend.NAME)
    assert torch.equal((there @ there.T).cpu(), there.cpu() @ there.cpu().T)
    assert there[torch.tensor([0, 1])].shape == (2, 4)  # indices may come from the host
    with pytest.raises(RuntimeError, match="two devices"):
        _ = there @ torch.randn(4, 2)
    with pytest.raises(RuntimeError, match="same device"):
        _ = there + torch.randn(3, 4)
    with pytest.raises(RuntimeError, match="two devices"):
        there.index_select(0, torch.tensor([0]))
    with pytest.raises(TypeError, match="can't convert pretend"):
        there.numpy()


@pytest.mark.parametrize("name", TRAINED_BY_US)
def test_every_method_says_the_same(place, tmp_path, monkeypatch, name):
    check_same(place, tmp_path, monkeypatch, {"name": name})


@pytest.mark.parametrize(
    "kind",
    [pytest.param(k, marks=[pytest.mark.slow] * (k == "monte_carlo")) for k in ORACLES.names()],
)
def test_every_oracle_says_the_same(place, tmp_path, monkeypatch, kind):
    check_same(place, tmp_path, monkeypatch, ALL_PREFIXES, f"oracle.kind={kind}")


@pytest.mark.parametrize(
    ("method", "change"),
    [
        (ALL_PREFIXES | {"guidance_top_k": 3}, "schedule.kind=sequential"),
        (ALL_PREFIXES | {"guidance_top_k": 3}, "schedule.kind=parallel"),
        (ALL_PREFIXES | {"delta": 0.9, "kl": "policy_guided"}, "adapter.kind=full"),
        ({"name": "acft", "anchor": "current", "adaptive": False}, "oracle.rare=0.01"),
    ],
    ids=["kept guidance", "parallel", "all weights", "own anchor"],
)
def test_other_settings_say_the_same(place, tmp_path, monkeypatch, method, change):
    check_same(place, tmp_path, monkeypatch, method, change)


class Waits(TorchDispatchMode):
    """Counts what a host cannot go on without before a GPU has done all that it was given."""

    LOOKS = (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero)
    PICKS = (torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_)
    n = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found, name = func(*args, **(kwargs or {})), func.overloadpacket
        given = [item for item in tree_leaves(args) if isinstance(item, torch.Tensor)]
        if any(item.device.type == pretend.NAME for item in given):
            by_mask = name in self.PICKS and any(item.dtype == torch.bool for item in given[1:])
            fetched = isinstance(found, torch.Tensor) and found.device.type == "cpu"
            self.n += name in self.LOOKS or by_mask or fetched
        return found


def test_weighted_responses_make_a_gpu_wait_as_seldom_as_texts(place, tmp_path, monkeypatch):
    monkeypatch.setenv("ACFT_ASSETS", str(place / "cache"))
    accumulate, counts = fit_job.accumulate, set()

    def watched(world, passes, step, **options):
        with Waits() as waits:
            found = accumulate(world, passes, step, **options)
        counts.add((name, waits.n / len(passes)))
        return found

    monkeypatch.setattr(fit_job, "accumulate", watched)
    with pretend.instead_of_a_gpu():
        for name in ("sft", "dpg"):
            trained(tmp_path / name, toy_run(place, *CHANGES, "device=cuda"), {"name": name})
    # which positions weigh, and whether transformers reads several texts in one row
    assert counts == {("sft", 2), ("dpg", 2)}


@pytest.mark.parametrize("name", DECODERS.names())
def test_every_decoder_draws_the_same(tmp_path, name):
    folder = save_tiny_model(tmp_path)
    kind = DECODERS.get(name)
    fields = kind.settings_type.model_fields
    needed = {field: str(folder) for field, it in fields.items() if it.is_required()}
    drawn = {}
    for device in ("cpu", pretend.NAME):
        backbone = load_backbone(ModelSettings(name=str(folder)), device, "float32")
        context = OracleContext(OracleSettings(width=8), backbone, HORIZON, None, seed=0)
        oracle = ORACLES.get("nado_head").build(context).to(device).eval()
        sampler = kind.build(
            kind.settings_type.parse(needed),
            DecoderContext(Policy(backbone), oracle, short_words, HORIZON),
        )
        found = sampler.sample(PROMPTS, 2, SamplingSettings(horizon=2 * HORIZON), 0).rollouts
        drawn[device] = [rollout.response_ids for rollout in found]
    assert drawn[pretend.NAME] == drawn["cpu"]


def short_words(_, texts):
    return [1.0 / (1 + max(map(len, text.split() or [""]))) for text in texts]
