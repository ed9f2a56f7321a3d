"""What goes to TRL's trainers and comes back, without TRL, whose import takes seconds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from acft.backbone.loading import Backbone
from acft.settings import OptimizerSettings


@dataclass(frozen=True)
class TrlSteps:
    """What any of TRL's trainers needs for some optimiser steps."""

    policy: Backbone
    """Its trainable parameters are updated in place."""
    base: Backbone
    optimizer: torch.optim.Optimizer
    settings: OptimizerSettings
    n_steps: int
    seed: int
    before_step: Callable[[], None]
    """Called when the gradients are there."""
    after_step: Callable[[Mapping[str, float]], bool]
    """Called with what TRL measured in the step; True ends the training."""


@dataclass(frozen=True)
class Pair:
    """Two responses to one prompt, as token ids."""

    prompt_ids: tuple[int, ...]
    chosen_ids: tuple[int, ...]
    rejected_ids: tuple[int, ...]


@dataclass(frozen=True)
class Generated:
    """Responses to prompts, one after the other, as token ids and texts."""

    prompt_ids: list[list[int]]
    response_ids: list[list[int]]
    responses: list[str]
