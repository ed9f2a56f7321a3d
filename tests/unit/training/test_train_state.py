"""Which versions of the policy a run holds, and how often."""

import gc
import weakref

import pytest

from acft.training.train_state import TrainState
from acft.training.world import World
from tests.toy_runs import toy_run, trained, world_of


@pytest.fixture
def alive(monkeypatch):
    """How many versions of the policy are held whenever another is made."""
    made, counts = [], []
    snapshot = World.snapshot

    def counted(world):
        gc.collect()
        counts.append(sum(model() is not None for model in made))
        policy = snapshot(world)
        made.append(weakref.ref(policy.backbone.model))
        return policy

    monkeypatch.setattr(World, "snapshot", counted)
    return counts


@pytest.mark.parametrize(("kind", "held"), [("sequential", 0), ("parallel", 1)])
def test_versions_that_no_job_will_read_are_gone_before_the_next_is_made(
    tmp_path, alive, kind, held
):
    trained(tmp_path / "run", toy_run(tmp_path, f"schedule.kind={kind}"), {"name": "acft"})
    assert alive[:3] == [0, held, held]


@pytest.mark.parametrize("kind", ["dinado_recurrent", "exact"])
def test_rounds_that_are_replayed_hold_no_policy_that_their_oracle_followed(tmp_path, alive, kind):
    run = toy_run(tmp_path, f"oracle.kind={kind}", "oracle.replay_rounds=3", "schedule.rounds=4")
    trained(tmp_path / "run", run, {"name": "acft"})
    assert alive[:4] == [0, 1, 1, 1]


def test_all_weights_of_a_version_are_held_once(tmp_path):
    state = TrainState(world_of(toy_run(tmp_path, "adapter.kind=full")), 1.0)
    state.finish_policy(1, keep=1)
    frozen = dict(state.snapshot(1).backbone.model.named_parameters())
    remembered = state.trainable(1)
    assert remembered.keys() == frozen.keys()
    assert all(value.data_ptr() == frozen[name].data_ptr() for name, value in remembered.items())


def test_the_base_policy_is_not_held_twice_after_resuming_a_method_that_leaves_it(tmp_path):
    world = world_of(toy_run(tmp_path))
    state = TrainState(world)
    state.save(tmp_path / "round-1")
    state.restore(tmp_path / "round-1")
    assert state.snapshot(0) is world.base
