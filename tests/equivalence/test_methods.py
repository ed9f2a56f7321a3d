"""Settings of the training methods that must give the same trajectory."""

import functools
from pathlib import Path

import pytest
import torch

import acft.methods.acft as acft_module
from acft.checkpoints import DamagedCheckpointError
from acft.oracle.base import ORACLES, OracleKind
from acft.training import train_state
from tests.toy_runs import ALWAYS, ConstantOracle, Trained, largest_difference, toy_run, trained

pytestmark = pytest.mark.equivalence

SFT = {"name": "sft"}
ACFT = {"name": "acft", "prefixes": ["corpus", "on_policy", "guided"]}
TOLERANCE = 1e-5


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("toy")


def assert_same(one: Trained, other: Trained, prefix: str = "", tolerance: float = 0.0) -> None:
    """The same numbers at the same steps, and the same weights in the last checkpoint."""
    first, second = one.scalars(prefix), other.scalars(prefix)
    assert [row[:2] for row in first] == [row[:2] for row in second]
    assert [row[2] for row in first] == pytest.approx(
        [row[2] for row in second], abs=tolerance, rel=tolerance
    )
    last = max(one.checkpoints)
    assert last == max(other.checkpoints)
    policy = [{k: v for k, v in t.weights(last).items() if "policy" in k} for t in (one, other)]
    assert largest_difference(policy[0], policy[1]) <= tolerance


@pytest.mark.parametrize("method", [SFT, ACFT], ids=lambda method: method["name"])
@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_one_batch_of_eight_is_eight_accumulated_ones(place, tmp_path, method, adapter):
    # one optimiser step a round: later ones would only amplify the rounding of the first
    change = ["optimizer.steps_per_round=1", "schedule.rounds=1", f"adapter.kind={adapter}"]
    change += ["optimizer.warmup_steps=0"]
    whole = toy_run(place, "optimizer.micro_batch_size=8", *change)
    pieces = toy_run(place, "optimizer.micro_batch_size=1", *change)
    one = trained(tmp_path / "a", whole, method)
    other = trained(tmp_path / "b", pieces, method)
    assert_same(one, other, "policy/loss", TOLERANCE)
    assert_same(one, other, "policy/grad_norm", TOLERANCE)
    assert_same(one, other, "policy/kl", TOLERANCE)


def test_no_kl_weight_is_plain_fine_tuning(place, tmp_path):
    run = toy_run(place)
    assert_same(
        trained(tmp_path / "a", run, ACFT | {"kl_weight": 0.0}),
        trained(tmp_path / "b", run, SFT),
        "policy/",
    )


@pytest.fixture
def constant_oracle(monkeypatch):
    ORACLES.names()  # so that the kinds of the folder are there before this one
    kind = OracleKind(lambda context: ConstantOracle(context.settings.log_r_min), is_fitted=False)
    monkeypatch.setitem(ORACLES._items, "constant", kind)


@pytest.mark.usefixtures("constant_oracle")
@pytest.mark.parametrize("kl", ["guided_policy", "policy_guided"])
def test_a_constant_oracle_on_the_current_policy_is_plain_fine_tuning(place, tmp_path, kl):
    run = toy_run(place, "oracle.kind=constant")
    method = {"name": "acft", "anchor": "current", "adaptive": False, "kl": kl}
    assert_same(
        trained(tmp_path / "a", run, method), trained(tmp_path / "b", run, SFT),
        "policy/ce", TOLERANCE,
    )  # fmt: skip


@pytest.mark.parametrize("delta", [1.0, 0.9])
def test_an_always_satisfied_constraint_costs_nothing(place, tmp_path, delta):
    run = toy_run(place, "oracle.kind=exact", constraint=[ALWAYS])
    method = {"name": "acft", "anchor": "current", "adaptive": False, "delta": delta}
    penalised = trained(tmp_path, run, method)
    kls = [value for _, _, value in penalised.scalars("policy/kl_guided_policy")]
    assert len(kls) == 9
    assert max(map(abs, kls)) < 1e-6


def test_one_round_makes_both_schedules_equal(place, tmp_path):
    runs = [
        toy_run(place, "schedule.rounds=1", f"schedule.kind={kind}")
        for kind in ("sequential", "parallel")
    ]
    assert_same(trained(tmp_path / "a", runs[0], ACFT), trained(tmp_path / "b", runs[1], ACFT))


@pytest.mark.parametrize(
    "kind", ["nado_recurrent", "dinado_lora", pytest.param("exact", marks=pytest.mark.slow)]
)
def test_jobs_run_at_once_and_one_after_the_other_agree_to_the_bit(
    place, tmp_path, monkeypatch, kind
):
    run = toy_run(place, "schedule.kind=parallel", "schedule.threads=2", f"oracle.kind={kind}")
    at_once = trained(tmp_path / "a", run, ACFT)
    both = functools.partial(acft_module.both)
    monkeypatch.setattr(acft_module, "both", lambda a, b, **_: both(a, b, at_once=False))
    in_turn = trained(tmp_path / "b", run, ACFT)
    assert_same(at_once, in_turn)
    assert at_once.rows("rollouts") == in_turn.rows("rollouts")
    assert at_once.rows("guidance") == in_turn.rows("guidance")
    assert largest_difference(at_once.weights(3), in_turn.weights(3)) == 0.0


@pytest.mark.parametrize("adapter", ["lora", "full"])
@pytest.mark.parametrize(
    ("method", "schedule", "oracle"),
    [
        (SFT, "sequential", "nado_recurrent"),
        (ACFT, "sequential", "nado_recurrent"),
        (ACFT, "parallel", "nado_recurrent"),
        (ACFT | {"kl_weight_target": 0.9}, "parallel", "dinado_recurrent"),
        (ACFT, "parallel", "dinado_lora"),
        (ACFT, "parallel", "nado_lora"),
        (ACFT, "parallel", "exact"),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else value,
)
def test_a_resumed_run_ends_with_the_numbers_of_the_uninterrupted_one(
    place, tmp_path, method, schedule, oracle, adapter
):
    run = toy_run(
        place, f"schedule.kind={schedule}", f"oracle.kind={oracle}", f"adapter.kind={adapter}"
    )
    whole = trained(tmp_path / "whole", run, method)
    for sealed in (1, 2):
        resume = (whole.checkpoints[sealed], sealed)
        resumed = trained(tmp_path / f"resumed-{sealed}", run, method, resume=resume)
        following = sealed + 1
        assert resumed.scalars(first_round=following) == whole.scalars(first_round=following)
        assert resumed.bests[-1] == whole.bests[-1]
        for table in ("rollouts", "guidance"):
            assert resumed.rows(table, following) == whole.rows(table, following)
        assert largest_difference(resumed.weights(3), whole.weights(3)) == 0.0


def test_a_best_checkpoint_that_was_altered_is_not_gone_back_to(place, tmp_path, monkeypatch):
    monkeypatch.setattr(train_state, "better", lambda new, *_: new.round == 1)
    run = toy_run(place)
    whole = trained(tmp_path / "whole", run, SFT)
    assert whole.bests[-1].round == 1
    resume = (whole.checkpoints[2], 2)
    assert trained(tmp_path / "again", run, SFT, resume=resume).bests[-1].round == 1
    (file,) = (whole.checkpoints[1] / "policy").glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(DamagedCheckpointError, match=r"round-1.*differs from its recorded hash"):
        trained(tmp_path / "refused", run, SFT, resume=resume)


def test_a_run_stopped_within_a_round_and_resumed_is_the_uninterrupted_one(place, tmp_path):
    run = toy_run(place)
    whole = trained(tmp_path / "whole", run, ACFT)
    stopped = trained(tmp_path / "stopped", run, ACFT, stop_after_checkpoint=1)
    assert set(stopped.checkpoints) == {1}
    resumed = trained(tmp_path / "again", run, ACFT, resume=(stopped.checkpoints[1], 1))
    assert largest_difference(resumed.weights(3), whole.weights(3)) == 0.0


@pytest.mark.parametrize("method", [SFT, ACFT], ids=lambda method: method["name"])
def test_dropout_depends_on_the_step_alone(place, tmp_path, method):
    run = toy_run(
        place, "adapter.dropout=0.3", "schedule.kind=parallel", "schedule.threads=2",
        "schedule.rounds=2",
    )  # fmt: skip
    whole = trained(tmp_path / "whole", run, method)
    torch.rand(5)  # another process is at another place of torch's own random numbers
    resumed = trained(tmp_path / "resumed", run, method, resume=(whole.checkpoints[1], 1))
    assert largest_difference(resumed.weights(2), whole.weights(2)) == 0.0
