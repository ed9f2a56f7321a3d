"""Quark: own responses are sorted by how well they satisfy, and learned after a control text.

Source: arXiv:2205.13636. Each quantile of the pool has a control text in front of the prompt; the
policy learns what follows each and answers after the best. The paper adds a token to the vocabulary
for each quantile; words do the same for models whose embeddings stay frozen.
"""

import bisect
import json
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from acft.config import Config
from acft.errors import ModelError
from acft.events import Note
from acft.methods.base import METHODS, Method
from acft.policy import Policy
from acft.settings import NonNegativeFloat, PositiveFloat, RunSettings
from acft.training.controlled import ControlledPolicy, control_ids, n_leading
from acft.training.outputs import Output, TrainContext
from acft.training.responses import Judged
from acft.training.rollout_files import rollouts_from_file, rollouts_to_file
from acft.training.rounds import rounds_of_own_responses
from acft.training.train_state import TrainState
from acft.training.weighted_fit import BasePull, Weighted, weighted_fit
from acft.training.world import World, facts, load_world

POOL, GRADES = "pool.json", "pool-satisfaction.json"


class QuarkSettings(Config):
    """Quantiles and the two terms beside the likelihood."""

    quantiles: Annotated[int, Field(ge=2, le=20)] = 5
    """Parts into which the pool is sorted. Source: arXiv:2205.13636, 5."""
    control: str = "quality {level} of {levels}\n"
    """Text before the prompt; ``{level}`` is the part's number, ``{levels}`` their count."""
    kl_weight: PositiveFloat = 0.05
    """Weight of KL(policy || base). Source: arXiv:2205.13636, 0.05."""
    entropy_weight: NonNegativeFloat = 0.06
    """Weight of the policy's entropy, which is raised. Source: arXiv:2205.13636, 0.06."""

    @field_validator("control")
    @classmethod
    def _names_the_level(cls, value: str) -> str:
        try:
            if value.format(level=1, levels=2) == value.format(level=2, levels=2):
                raise ValueError("must contain {level}, or all parts get the same text")
        except (LookupError, AttributeError, TypeError) as error:
            raise ValueError(f"knows {{level}} and {{levels}} only, not {error}") from None
        return value

    def text(self, level: int) -> str:
        """The control text of a part, 1 the least satisfying."""
        return self.control.format(level=level, levels=self.quantiles)


def train(settings: QuarkSettings, context: TrainContext) -> Generator[Output, None, None]:
    """Likelihood of own responses after a text that says how well they satisfy."""
    world = yield from load_world(context)
    pool = _Pool.load(context.resume_from) if context.resume_from else _Pool([])
    best = settings.text(settings.quantiles)
    pull = BasePull(settings.kl_weight, settings.entropy_weight)
    state = TrainState(world)

    def behind_control(policy: Policy) -> Policy:
        return ControlledPolicy.of(policy, best) if policy.version else policy

    state.view, state.save_more = behind_control, pool.save

    def learn(index: int, new: list[Judged]) -> Generator[Output, None, None]:
        pool.judged += new
        yield from weighted_fit(
            world, state.optimizer, sorted_responses(world, settings, pool.judged), index,
            pull=pull, should_stop=context.should_stop,
        )  # fmt: skip

    yield Note("info", f"the tuned policy answers after {best!r}; put it before your own prompts")
    yield from rounds_of_own_responses(state, context, learn)


@dataclass
class _Pool:
    """All responses so far."""

    judged: list[Judged]

    def save(self, folder: Path) -> None:
        rollouts_to_file([item.rollout for item in self.judged], folder / POOL)
        grades = [item.satisfaction for item in self.judged]
        (folder / GRADES).write_text(json.dumps(grades))

    @classmethod
    def load(cls, folder: Path) -> "_Pool":
        try:
            grades = json.loads((folder / GRADES).read_text())
            rollouts = rollouts_from_file(folder / POOL)
            return cls([Judged(*pair) for pair in zip(rollouts, grades, strict=True)])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"cannot open the checkpoint's pool of responses: {error}") from error


def levels(grades: Sequence[float], quantiles: int) -> list[int]:
    """The part of each grade, from 1 to ``quantiles``; equal grades share one, the best is last."""
    ordered = sorted(grades)
    return [
        math.ceil(quantiles * bisect.bisect_right(ordered, grade) / len(ordered))
        for grade in grades
    ]


def sorted_responses(
    world: World, settings: QuarkSettings, judged: Sequence[Judged]
) -> list[Weighted]:
    """Each response behind its part's control text; the base policy does not see the text."""
    controls = {
        level: control_ids(world.policy, settings.text(level))
        for level in range(1, settings.quantiles + 1)
    }
    start = n_leading(world.policy)
    parts = levels([item.satisfaction for item in judged], settings.quantiles)
    result = []
    for item, level in zip(judged, parts, strict=True):
        plain = item.document
        ids = plain.token_ids[:start] + controls[level] + plain.token_ids[start:]
        first = plain.response_start + len(controls[level])
        shifted = replace(plain, token_ids=ids, response_start=first, loss_start=first)
        result.append(Weighted(shifted, seen_by_base=plain))
    return result


def used_with(settings: QuarkSettings) -> dict[str, Any]:
    """The best part's control text, which evaluations put before the prompts too."""
    return {"control": settings.text(settings.quantiles)}


def contradictions(settings: QuarkSettings, run: RunSettings) -> list[str]:  # noqa: ARG001
    """That the control text cannot stand before messages, where prompts are some."""
    if not run.model.chat_template:
        return []
    return [
        "[model] chat_template = true: method 'quark' puts its control text before raw text; set "
        "it to false"
    ]


METHODS.add("quark")(Method(QuarkSettings, train, facts, used_with, contradictions=contradictions))
