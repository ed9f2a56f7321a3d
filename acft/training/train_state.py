"""What a training run carries from round to round, and how it is saved and restored."""

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from acft.backbone.adapters import save_whole, trainable_state
from acft.backbone.loading import Backbone
from acft.backbone.sharded import laid_out
from acft.checkpoints import verify
from acft.constraints import Constraint
from acft.errors import ModelError
from acft.events import BestCheckpoint
from acft.oracle.base import Oracle
from acft.policy import Policy, trainable_policy
from acft.scoring import ScorerPool
from acft.settings import AdapterSettings, RunSettings
from acft.training.optimization import PolicyOptimizer
from acft.training.oracle_job import Guide, OracleRound, new_oracle
from acft.training.remote import OracleRequest, RayOracle, plain
from acft.training.rollout_files import rollouts_from_file, rollouts_to_file
from acft.training.validation import Validation, best_event, better
from acft.training.world import World

STATE = "state.json"
POLICY_FOLDER = "policy"
"""Folder of a checkpoint with the trained weights; not there where none are."""
ORACLE = "oracle.safetensors"
REPLAY = "replay.json"


class TrainState:
    """What a run carries from round to round: snapshots, optimiser, oracle, weight, validations."""

    def __init__(self, world: World, kl_weight: float = 0.0) -> None:
        run = world.run
        self.world = world
        self._snapshots: dict[int, Policy] = {0: world.base}
        self._best_weights: dict[str, torch.Tensor] = {}
        self._trainable: dict[int, dict[str, torch.Tensor]] = {}
        self.optimizer = PolicyOptimizer(
            world.policy.parameters(),
            run.optimizer,
            run.schedule.rounds * run.optimizer.steps_per_round,
        )
        self.kl_weight = kl_weight
        self.is_tuned = True
        """False where the policy stays the base, and only its oracle changes."""
        self.prefers_latest = False
        """Whether the newest checkpoint is preferred, whatever validation says of it."""
        self.view: Callable[[Policy], Policy] = lambda policy: policy
        """How a frozen policy is used when it is measured."""
        self.save_more: Callable[[Path], None] = lambda folder: None  # noqa: ARG005
        """Adds what the method itself carries from round to round to a checkpoint."""
        self.oracle: Oracle | None = None
        self.recent: list[OracleRound] = []
        """Newest last; as many as replay and the parallel schedule need."""
        self.remote: RayOracle | None = None
        """Does the oracle's job elsewhere, where the run asks for it."""
        self.validations: list[Validation] = []
        self.base_validation: Validation | None = None
        self.best: Validation | None = None

    def snapshot(self, version: int) -> Policy:
        """The frozen policy of that version."""
        return self._snapshots[version]

    def oracle_request(self, round_index: int, version: int, delta: float) -> OracleRequest:
        """What another process must know to do the oracle's job about that version."""
        assert self.oracle is not None
        return OracleRequest(
            round_index, version, plain(self.trainable(version)),
            plain(self.oracle.state_dict()), self.oracle.version,
            [(earlier.rollouts, earlier.satisfaction) for earlier in self.recent], delta,
        )  # fmt: skip

    def trainable(self, version: int) -> dict[str, torch.Tensor]:
        """Trainable weights of a version that is still remembered; none for the base policy."""
        return self._trainable[version] if version else {}

    def can_close(self, round_index: int) -> bool:
        """Whether all steps of the round were taken and its oracle was trained."""
        steps = self.world.run.optimizer.steps_per_round if self.is_tuned else 0
        were_trained = all(latest.is_whole for latest in self.recent[-1:])
        return were_trained and self.optimizer.finished >= round_index * steps

    def is_over_budget(self) -> bool:
        """Whether the policy has moved further from the base than the run allows."""
        budget = self.world.run.limits.kl_base_budget
        return any(0 < budget < validation.kl_policy_base for validation in self.validations[-1:])

    def finish_oracle(self, new: OracleRound) -> None:
        """Take over a freshly trained oracle."""
        self.oracle = new.guide.oracle
        keep = max(1, self.world.run.oracle.replay_rounds)
        # only the newest guides; an older one may hold the policy that it has followed
        self.recent = [*(_replay_of(old, new.guide) for old in self.recent), new][-keep:]

    def finish_policy(self, version: int, keep: int) -> None:
        """Freeze the policy as it is now; versions below ``keep`` are forgotten before."""
        self.world.policy.version = version
        self._snapshots = {v: p for v, p in self._snapshots.items() if v == 0 or v >= keep}
        self._trainable = {v: weights for v, weights in self._trainable.items() if v >= keep}
        if version == 0:  # the base policy, as in methods that leave it as it is
            return
        snapshot = self.world.snapshot()
        self._snapshots[version] = snapshot
        if self.world.run.adapter.kind == "full":  # the snapshot holds a copy of each already
            named = snapshot.backbone.model.named_parameters()
            self._trainable[version] = {name: parameter.detach() for name, parameter in named}
        else:
            self._trainable[version] = trainable_state(self.world.policy.backbone.model)

    def ascend(self, missing: float, rate: float, largest: float) -> None:
        """Dual ascent on the logarithm of the KL's weight."""
        self.kl_weight = min(largest, self.kl_weight * math.exp(rate * missing))

    def record(self, validation: Validation) -> bool:
        """Keep a round's validation; returns whether its weights are now the preferred ones."""
        assert self.base_validation is not None
        tolerance = self.world.run.evaluation.tolerance_utility
        is_best = (
            self.prefers_latest
            or self.best is None
            or better(validation, self.best, self.validations, self.base_validation, tolerance)
        )
        self.validations.append(validation)
        if is_best:
            self.best = validation
            self._best_weights = plain(self.trainable(self.world.policy.version))
        return is_best

    def best_policy(self) -> Policy:
        """A frozen policy with the preferred weights."""
        if self.best is None or self.best.round in self._snapshots:
            return self._snapshots[self.best.round if self.best else 0]
        model = self.world.policy.backbone.model
        now = plain(trainable_state(model))
        _assign(model, self._best_weights)
        frozen = dataclasses.replace(self.world.snapshot(), version=self.best.round)
        _assign(model, now)
        return frozen

    def save(self, folder: Path) -> None:
        """Write everything a resumed run needs into an empty folder."""
        self.world.policy.save(folder / POLICY_FOLDER)
        previous = self._trainable.get(self.world.policy.version - 1)
        if previous is not None and self.world.run.schedule.kind == "parallel":
            save_whole(previous, folder / "previous.safetensors")
        self.optimizer.save(folder)
        facts: dict[str, Any] = {
            "version": self.world.policy.version,
            "kl_weight": self.kl_weight,
            "base_validation": _fields(self.base_validation),
            "best": _fields(self.best),
            "validations": [_fields(v) for v in self.validations],
        }
        if self.recent:
            newest = self.recent[-1]
            (folder / "oracle").mkdir()
            save_file(newest.guide.oracle.state_dict(), folder / "oracle" / ORACLE)
            facts["oracle_version"] = newest.guide.oracle.version
            facts["strength"] = newest.guide.strength
            facts["oracle_kind"] = self.world.run.oracle.kind
            facts["replay"] = [
                {"policy_version": r.guide.policy_version, "satisfaction": r.satisfaction}
                for r in self.recent
            ]
            for index, earlier in enumerate(self.recent):
                rollouts_to_file(earlier.rollouts, folder / f"{index}-{REPLAY}")
        (folder / STATE).write_text(json.dumps(facts, indent=1))
        self.save_more(folder)

    def restore(self, folder: Path) -> None:
        """Continue from a folder written by ``save``; weights of an oracle go into the present one.

        Raises:
            ModelError: A file is missing, damaged or of another run.
            DamagedCheckpointError: The best round so far is not as it was sealed.
        """
        facts = read_state(folder)
        version = int(facts["version"])
        world = self.world
        if (folder / "previous.safetensors").exists():
            _assign(world.policy.backbone.model, load_file(folder / "previous.safetensors"))
            self.finish_policy(version - 1, keep=0)
        world.policy.load(folder / POLICY_FOLDER, version)
        self.finish_policy(version, keep=0)
        self.optimizer.load(folder)
        self.kl_weight = float(facts["kl_weight"])
        self.base_validation = _validation(facts["base_validation"])
        self.validations = [v for v in map(_validation, facts["validations"]) if v is not None]
        self.best = _validation(facts["best"])
        self._restore_best(folder, version)
        if self.oracle is not None and "oracle_version" in facts:
            self._restore_oracle(folder, facts, self.oracle)

    def best_again(self) -> Iterator[BestCheckpoint]:
        """The event of the best checkpoint so far; resuming undid it when it ended its round."""
        if self.best is not None:
            yield best_event(self.best)

    def _restore_best(self, folder: Path, version: int) -> None:
        if self.best is None:
            return
        if self.best.round not in self._trainable:
            model = self.world.policy.backbone.model
            now = trainable_state(model)
            best = folder.parent / f"round-{self.best.round}"
            verify(best)  # whoever resumes has looked at the round it goes on from alone
            self.world.policy.load(best / POLICY_FOLDER, version)
            self._trainable[self.best.round] = trainable_state(model)
            _assign(model, now)
        self._best_weights = plain(self._trainable[self.best.round])

    def _restore_oracle(self, folder: Path, facts: dict[str, Any], oracle: Oracle) -> None:
        newest = load_guide(oracle, folder, facts)
        judged = self._snapshots.get(newest.policy_version)
        if judged is not None:  # only the parallel schedule guides with this oracle again
            oracle.follow(judged.backbone)
        for index, entry in enumerate(facts["replay"]):
            guide = dataclasses.replace(newest, policy_version=int(entry["policy_version"]))
            rollouts = rollouts_from_file(folder / f"{index}-{REPLAY}")
            self.recent.append(OracleRound(guide, rollouts, list(entry["satisfaction"])))


def _replay_of(old: OracleRound, newest: Guide) -> OracleRound:
    """What is read of an older round, its responses, as a resumed run has them."""
    version = old.guide.policy_version
    return dataclasses.replace(old, guide=dataclasses.replace(newest, policy_version=version))


def read_state(folder: Path) -> dict[str, Any]:
    """Facts of a checkpoint: versions, strength, validations.

    Raises:
        ModelError: The file is missing or no JSON.
    """
    try:
        return json.loads((folder / STATE).read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"checkpoint {folder.name!r} cannot be read: {error}") from error


def tuned_policy(base: Policy, adapter: AdapterSettings, folder: Path, version: int) -> Policy:
    """The frozen policy of a checkpoint, its adapter merged.

    Raises:
        ModelError: Its weights are missing, damaged or of another model.
    """
    trained = trainable_policy(base, adapter, seed=0)  # every weight drawn from it is overwritten
    trained.load(folder / POLICY_FOLDER, version)
    return trained.snapshot(base)


def has_oracle(folder: Path) -> bool:
    """Whether the method that wrote a checkpoint trains an oracle.

    Raises:
        ModelError: What the checkpoint tells of itself is missing or no JSON.
    """
    return "oracle_version" in read_state(folder)


def open_guide(
    run: RunSettings, base: Backbone, constraint: Constraint, scorers: ScorerPool, folder: Path
) -> Guide:
    """A checkpoint's oracle and the strength it was used with; see ``has_oracle``.

    Raises:
        ModelError: A file is missing, damaged or of another kind of oracle.
    """
    asked = [scorers(name) for name in constraint.scorers]
    return load_guide(new_oracle(run, base, constraint, asked), folder, read_state(folder))


def load_guide(oracle: Oracle, folder: Path, facts: dict[str, Any]) -> Guide:
    """A checkpoint's oracle, read into a freshly built one, with the strength it was used with.

    Raises:
        ModelError: The file is missing, damaged or of another kind of oracle.
    """
    try:
        oracle.load_state_dict(load_file(folder / "oracle" / ORACLE))
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise ModelError(f"cannot open the checkpoint's oracle: {error}") from error
    oracle.version = int(facts["oracle_version"])
    oracle.eval()
    judged = int(facts["replay"][-1]["policy_version"])
    return Guide(oracle, float(facts["strength"]), judged)


@torch.no_grad()
def _assign(model: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Overwrite weights; the new ones are whole, or laid out over processes as the old are."""
    parameters = dict(model.named_parameters())
    for name, value in weights.items():
        parameters[name].copy_(laid_out(value, parameters[name]))


def _fields(validation: Validation | None) -> dict[str, Any] | None:
    return None if validation is None else dataclasses.asdict(validation)


def _validation(values: dict[str, Any] | None) -> Validation | None:
    return None if values is None else Validation(**values)
