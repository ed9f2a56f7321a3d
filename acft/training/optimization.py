"""The policy's gradients and optimiser: AdamW, warm-up and decay, clipping, state on disk."""

import math
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grads_with_norm_

from acft.backbone.adapters import save_whole
from acft.backbone.sharded import laid_out, whole
from acft.distributed import ranks
from acft.errors import ModelError, NonFiniteError
from acft.seeding import derive_seed, local_torch_seed
from acft.settings import OptimizerSettings
from acft.threads import Workers
from acft.training.world import World

T = TypeVar("T")

STATE = "optimizer.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def backward(
    passes: Sequence[Callable[[], tuple[Float[Tensor, ""], T]]],
    parameters: Sequence[nn.Parameter],
    workers: Workers,
) -> list[T]:
    """The second result of each forward pass; the gradients of all losses are added up.

    Args:
        passes: Forward passes, the longest ones best first.
        parameters: Whose gradients are wanted.
        workers: Threads for the passes. Gradients are added in the order of the passes whatever
            their number, and those of ``count`` + 1 passes at most wait for it.
    """
    found = []
    if min(workers.count, len(passes)) < 2:
        for forward in passes:
            loss, said = forward()
            loss.backward()
            found.append(said)
        return found

    def gradients(forward: Callable[[], tuple[Tensor, T]]) -> tuple[Sequence[Tensor | None], T]:
        loss, said = forward()
        return torch.autograd.grad(loss, parameters, allow_unused=True), said

    with closing(workers.imap(gradients, passes)) as results:
        for each, said in results:
            _add(each, parameters)
            del each  # or it would be there while the next one is waited for
            found.append(said)
    return found


def _add(gradients: Sequence[Tensor | None], parameters: Sequence[nn.Parameter]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def accumulate(
    world: World,
    passes: Sequence[Callable[[], tuple[Float[Tensor, ""], T]]],
    step: int,
) -> list[T]:
    """What ``backward`` returns of this process's passes of a step; gradients are of all processes.

    Args:
        world: Its policy is trained, its base's threads do the passes.
        passes: This process's forward passes.
        step: From 1. Dropout follows it; without dropout no random number is touched.
    """
    has_dropout = world.run.adapter.dropout > 0
    # dropout draws from one generator
    workers = Workers() if has_dropout else world.base.workers
    parameters = world.policy.parameters()
    # the first process draws what one alone would
    others = [ranks().rank] if ranks().rank else []
    seed = derive_seed(world.run.seed, "policy-dropout", step, *others)
    with local_torch_seed(seed) if has_dropout else nullcontext():
        found = backward(passes, parameters, workers)
    ranks().sum_gradients(parameters)
    return found


class PolicyOptimizer:
    """AdamW with a learning rate that is a function of the finished steps."""

    def __init__(
        self, parameters: list[nn.Parameter], settings: OptimizerSettings, n_steps: int
    ) -> None:
        self._parameters = parameters
        self._settings = settings
        self._n_steps = n_steps
        # a fused kernel takes either kind, not both at once
        kinds = [
            [p for p in parameters if isinstance(p, DTensor) == part] for part in (True, False)
        ]
        groups = [{"params": kind} for kind in kinds if kind]
        self._adam = torch.optim.AdamW(
            groups, lr=settings.lr, weight_decay=settings.weight_decay, fused=True
        )
        self.finished = 0
        """Optimiser steps taken."""

    @property
    def lr(self) -> float:
        """Learning rate of the next step."""
        settings = self._settings
        warm = min(1.0, (self.finished + 1) / max(1, settings.warmup_steps))
        if settings.decay == "constant":
            return settings.lr * warm
        fraction = self.finished / max(1, self._n_steps)
        return settings.lr * warm * 0.5 * (1 + math.cos(math.pi * fraction))

    @property
    def adam(self) -> torch.optim.AdamW:
        """For a trainer that takes the steps itself, between ``prepare`` and ``count``."""
        return self._adam

    def prepare(self) -> None:
        """Set the learning rate of the next step."""
        for group in self._adam.param_groups:
            group["lr"] = self.lr

    def count(self, steps: int = 1) -> None:
        """Record that steps have been taken, or were not needed."""
        self.finished += steps

    def step(self) -> float:
        """Take one step with the gradients that are there; returns their norm before clipping.

        Raises:
            NonFiniteError: The norm is NaN or infinite.
        """
        norm = self._clip()
        if not math.isfinite(norm):
            raise NonFiniteError(
                f"the gradient's norm is {norm} in step {self.finished + 1}; "
                "lower [optimizer] lr or [method] kl_weight"
            )
        self.prepare()
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        self.count()
        return norm

    def _clip(self) -> float:
        """Scale all gradients down to the largest norm allowed; returns their norm before."""
        norms = []
        for group in self._adam.param_groups:
            gradients = [p.grad for p in group["params"] if p.grad is not None]
            norms.append(whole(nn.utils.get_total_norm(gradients)))
        norm = norms[0] if len(norms) == 1 else torch.stack(norms).norm()
        for group in self._adam.param_groups:
            clip_grads_with_norm_(group["params"], self._settings.max_grad_norm, norm)
        return float(norm)

    def save(self, folder: Path) -> None:
        """Write moments and step counts."""
        state = {
            f"{index}.{name}": torch.as_tensor(self._adam.state[parameter][name])
            for index, parameter in enumerate(self._parameters)
            for name in MOMENTS
            if parameter in self._adam.state
        }
        state["finished"] = torch.tensor(self.finished)
        save_whole(state, folder / STATE)

    def load(self, folder: Path) -> None:
        """Read what ``save`` wrote.

        Raises:
            ModelError: The file is missing or damaged.
        """
        try:
            state = load_file(folder / STATE)
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(f"cannot open optimiser state {STATE!r}: {error}") from error
        self.finished = int(state.pop("finished"))
        for index, parameter in enumerate(self._parameters):
            if f"{index}.step" in state:
                found = {name: state[f"{index}.{name}"] for name in MOMENTS}
                self._adam.state[parameter] = {
                    name: laid_out(value, parameter) if value.dim() else value.to(parameter.device)
                    for name, value in found.items()
                }
