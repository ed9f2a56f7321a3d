"""A run's models held in memory: the base, one copy for tuned weights, the oracle, the scorers."""

import dataclasses
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path

from acft.checkpoints import verify
from acft.constraints import Constraint
from acft.decoding.base import DecoderContext
from acft.decoding.guided import GuidedSettings, guided_decoder
from acft.errors import DataError, ModelError
from acft.inference.server import Session
from acft.oracle.base import ORACLES
from acft.policy import Policy, trainable_policy
from acft.reweighting import Decoder
from acft.runs.directory import find_run
from acft.runs.restore import origin_of
from acft.runs.spec import Spec, spec_of
from acft.schema import RunPaths, policy_sha256
from acft.scoring import ScorerPool, score_texts
from acft.seeding import derive_seed
from acft.settings import RunSettings
from acft.training.controlled import ControlledPolicy
from acft.training.oracle_job import Guide
from acft.training.train_state import POLICY_FOLDER, has_oracle, open_guide

KEPT_RUNS = 1
"""Runs whose models are held at once; memory is short on small machines."""


@dataclass
class OpenedRun:
    """Everything needed to score and continue texts as a run's policies do."""

    paths: RunPaths
    spec: Spec
    base: Policy
    tuned: Policy
    """One trainable copy; holds the weights of ``tuned.version``."""
    constraint: Constraint
    pool: ScorerPool
    home: Path
    """Where relative names in the settings start."""
    _guides: dict[int, Guide] = field(default_factory=dict)
    tuned_sha256: str = ""
    """Of the files that ``tuned`` was read from, taken when it was."""

    @property
    def run(self) -> RunSettings:
        """The run's settings."""
        return self.spec.settings

    @property
    def delta(self) -> float:
        """Satisfaction asked for; 1 for methods without such a setting."""
        return float(getattr(self.spec.method_settings, "delta", 1.0))

    @property
    def control(self) -> str:
        """Text that the tuned policy was taught to answer behind; empty for most methods."""
        return self.spec.method.control(self.spec.method_settings)

    @property
    def context_length(self) -> int:
        """Longest text in tokens that every version reads."""
        return ControlledPolicy.of(self.base, self.control).context_length

    def policy(self, version: int) -> Policy:
        """The policy of a version, behind its control text where it has one; the base for 0.

        Raises:
            DataError: The version has no sealed checkpoint, or it is damaged.
        """
        if version == 0:
            return self.base
        if self.tuned.version != version:
            folder = self.checkpoint(version)
            verify(folder)
            digest = policy_sha256(folder)
            self.tuned.version = -1  # whatever a load that fails leaves behind
            self.tuned.load(folder / POLICY_FOLDER, version)
            self.tuned.backbone.model.eval()
            self.tuned_sha256 = digest
        return ControlledPolicy.of(self.tuned, self.control)

    def checkpoint(self, version: int) -> Path:
        """Folder of the checkpoint sealed after a version."""
        folder = self.paths.checkpoint(version)
        if not folder.is_dir():
            raise DataError(f"run {self.paths.root.name} has no sealed checkpoint {version}")
        return folder

    def guide(self, version: int) -> Guide | None:
        """The oracle that guided a version, and how strongly; None for methods without one.

        Raises:
            DataError: The version has no sealed checkpoint.
            ModelError: A file of the oracle is missing, damaged or of another kind of oracle.
        """
        if version not in self._guides:
            folder = self.checkpoint(version)
            if not has_oracle(folder):
                return None
            parts = (self.run, self.base.backbone, self.constraint, self.pool)
            self._guides[version] = open_guide(*parts, folder)
        return self._guides[version]

    def anchor(self, version: int) -> int:
        """Version of the policy p in the guided p·R that training aimed ``version`` at."""
        guide = self.guide(version)
        if guide is None or getattr(self.spec.method_settings, "anchor", "") == "current":
            return version
        return guide.policy_version

    def decoder(self, version: int, policy: Policy) -> Decoder:
        """A decoder that reweights ``policy`` by the oracle of ``version``."""
        guide = self.guide(version)
        if guide is None:
            raise ModelError(f"run {self.paths.root.name} trained no oracle; nothing can guide")
        guide.oracle.follow(policy.backbone)
        verdicts = self.constraint.score if self.reads_verdicts else None
        rare, horizon = self.run.oracle.rare, self.run.sampling.horizon
        settings = GuidedSettings(strength=guide.strength, delta=self.delta, rare=rare)
        return guided_decoder(settings, DecoderContext(policy, guide.oracle, verdicts, horizon))

    def scores(self, texts: Sequence[str]) -> dict[str, list[float]]:
        """What the run's judges and the scorers of its constraint give each text."""
        names = dict.fromkeys([*self.run.evaluation.scorers, *self.constraint.scorers])
        with chdir(self.home):
            scorers = [self.pool(name) for name in names]
        return score_texts(scorers, texts)

    @property
    def reads_verdicts(self) -> bool:
        """Whether the oracle reads the constraint's verdict on prefixes."""
        return ORACLES.get(self.run.oracle.kind).reads_verdicts


def open_run(session: Session, runs: str, run_id: str) -> OpenedRun:
    """A run's models, loaded once; another run's are dropped first.

    Raises:
        RunError: There is no such run, or it has not started.
        ModelError: The model or a scorer cannot be opened, or is not what the run started with.
    """
    opened = session.kept.setdefault("runs", {})
    if run_id in opened:
        return opened[run_id]
    while len(opened) >= KEPT_RUNS:
        opened.pop(next(iter(opened)))
    paths = find_run(Path(runs), run_id)
    spec = spec_of(paths)
    settings = spec.settings.model_copy(update={"device": session.device})
    origin = origin_of(paths)
    base = origin.base(settings)
    tuned = trainable_policy(base, settings.adapter, derive_seed(settings.seed, "adapter"))
    tuned.version = -1
    pool = _pool(session, origin.home)
    constraint = origin.constraint(settings, pool)
    spec = dataclasses.replace(spec, settings=settings)
    opened[run_id] = OpenedRun(paths, spec, base, tuned, constraint, pool, origin.home)
    return opened[run_id]


def _pool(session: Session, home: Path) -> ScorerPool:
    """Scorers that runs begun in one folder share; elsewhere the same name may be another one."""
    kept = session.kept.get("pool")
    if kept is None or kept[0] != home:
        kept = session.kept["pool"] = (home, ScorerPool(session.device))
    return kept[1]
