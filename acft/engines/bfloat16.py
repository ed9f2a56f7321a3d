"""Drawing in this process from a copy of the weights in bfloat16, and making up for the rounding.

The copy is another policy, if only slightly. So each response is read again by the policy itself:
its log-probabilities and hidden states are exact, and its weight is p(response) / copy(response).
"""

from contextlib import AbstractContextManager
from dataclasses import replace

import torch

from acft.backbone.adapters import rounded_copy
from acft.backbone.loading import Backbone
from acft.engines.base import ENGINES, Engine, EngineKind, Prepared
from acft.engines.local import LocalEngine
from acft.engines.readback import read_again
from acft.sampling import DrawRequest, Samples
from acft.settings import RunSettings
from acft.types import DrawChecks
from acft.windows import join_windows


class Bfloat16Engine(LocalEngine):
    """Halves what is read from memory for each token; worth it where bfloat16 products are fast."""

    def __init__(self) -> None:
        """Nothing is copied before the first response."""
        self._copies = Prepared(_coarse)

    def draw(self, backbone: Backbone, weights: str, request: DrawRequest) -> Samples:
        """Responses of the copy, with what the policy says of them."""
        copied = self._copies.of(backbone)
        drawn = super().draw(copied, weights, replace(request, keep_hidden=False)).rollouts
        rollouts, windows, checks = [], [], DrawChecks()
        size = request.sampling.batch_size
        for start in range(0, len(drawn), size):
            some = drawn[start : start + size]
            read = read_again(
                backbone, [r.prompt_ids for r in some], [r.response_ids for r in some],
                request.sampling, keep_hidden=request.keep_hidden,
            )  # fmt: skip
            for rollout, logprobs in zip(some, read.logprobs, strict=True):
                told = rollout.response_logprobs
                gap = sum((abs(a - b) for a, b in zip(told, logprobs, strict=True)), 0.0)
                checks += DrawChecks(gap=gap, n_gap=len(told))
                weight = rollout.log_weight + sum(logprobs) - sum(told)
                rollouts.append(replace(rollout, response_logprobs=logprobs, log_weight=weight))
            windows += [read.window] if read.window is not None else []
            checks += read.checks
        return Samples(rollouts, join_windows(windows) if windows else None, checks)

    def prepared(self, backbone: Backbone) -> AbstractContextManager[None]:
        """Draws share the copy."""
        return self._copies.scope(backbone)


def _coarse(backbone: Backbone) -> Backbone:
    return replace(backbone, model=rounded_copy(backbone.model, torch.bfloat16))


def build(run: RunSettings) -> Engine:  # noqa: ARG001
    """This process, from a bfloat16 copy of the weights; each response is weighed for it."""
    return Bfloat16Engine()


ENGINES.add("bfloat16")(EngineKind(build))
