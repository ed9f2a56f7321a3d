"""Several processes that train one policy: who does what, and how they agree.

``torchrun`` and ``accelerate launch`` start the processes and say so in the environment. Every
process runs the whole method; forward passes of a step and portions of the rollouts are shared out,
so that all of them hold the same policy and oracle after each step. Only the first one writes.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among those that train the same policy."""

    rank: int = 0
    size: int = 1

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Every ``size``-th item, another part in each process."""
        return items[self.rank :: self.size]

    def share_evenly(self, items: Sequence[T]) -> list[tuple[T, bool]]:
        """This process's items and whether each counts; all processes get equally many.

        The last item is repeated, without counting, for processes that would have one less.
        """
        idle = [(item, False) for item in items[-1:]] * (-len(items) % self.size)
        return list(self.share([*((item, True) for item in items), *idle]))

    def any(self, *, mine: bool) -> bool:
        """Whether it is true in any process; all must ask together."""
        flag = torch.tensor(int(mine))
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)

    def joined(self, own: Sequence[T]) -> list[T]:
        """All items in their first order, from what each process made of its share."""
        if self.size == 1:
            return list(own)
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, list(own))
        result: list[Any] = [None] * sum(map(len, parts))
        for rank, part in enumerate(parts):
            result[rank :: self.size] = part
        return result

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Adds up the gradients of all processes, in place; a missing one counts as zero.

        A sum, not a mean: losses are divided by the tokens of the whole step already.
        """
        if self.size == 1:
            return
        by_dtype: dict[torch.dtype, list[nn.Parameter]] = {}
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if isinstance(parameter, DTensor):
                # a mean over all processes already; a sum is not offered by every backend
                parameter.grad.mul_(self.size)
                continue
            by_dtype.setdefault(parameter.dtype, []).append(parameter)
        for some in by_dtype.values():
            gradients = [p.grad for p in some if p.grad is not None]
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            dist.all_reduce(flat)
            pieces = flat.split([gradient.numel() for gradient in gradients])
            for gradient, piece in zip(gradients, pieces, strict=True):
                gradient.copy_(piece.view_as(gradient))

    def sums(self, values: Sequence[int | float]) -> list[int | float]:
        """Each number added up over all processes."""
        if self.size == 1:
            return list(values)
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, list(values))
        return [sum(column) for column in zip(*parts, strict=True)]

    def copy_first(self, module: nn.Module) -> None:
        """Overwrites a module's weights by the first process's."""
        if self.size > 1:
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, src=0)

    def from_first(self, value: T) -> T:
        """The first process's value."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]


@cache
def ranks() -> Ranks:
    """This process's place; alone unless a launcher started it as one of several."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Ranks()
    gpu = int(os.environ.get("LOCAL_RANK", "0"))
    if gpu < torch.cuda.device_count():  # more processes may train on CPUs
        torch.cuda.set_device(gpu)
    if not dist.is_initialized():
        # both: numbers travel between GPUs, Python objects between processors
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    return Ranks(dist.get_rank(), size)


@contextmanager
def together() -> Iterator[None]:
    """Ends when all processes have come to its end; one that fails does not wait for others."""
    yield
    if ranks().size > 1:
        dist.barrier()


def leave() -> None:
    """Ends the connections between processes when all of them are done.

    One that ends while another still holds its connection can take that one down with it.
    """
    if ranks().size > 1:
        dist.barrier()
        dist.destroy_process_group()


class AgreedStop:
    """Whether training should end, the same in all processes: what the first one is asked to do.

    It changes only where all processes ``settle`` it, since they must not go separate ways: before
    each round, step, portion of an oracle's responses and epoch of its fit.
    """

    def __init__(self, is_asked: Callable[[], bool]) -> None:
        self._is_asked = is_asked
        self._is_set = False

    def __call__(self) -> bool:
        """What was settled last."""
        return self._is_set

    def settle(self) -> bool:
        """Ask the first process; all processes must call this together."""
        self._is_set = ranks().from_first(self._is_asked())
        return self._is_set


def agreed(should_stop: Callable[[], bool]) -> Callable[[], bool]:
    """``should_stop`` itself in a process that is alone, else its agreed form."""
    return should_stop if ranks().size == 1 else AgreedStop(should_stop)


def settled(should_stop: Callable[[], bool]) -> bool:
    """Whether to stop now; to be called by all processes together."""
    return should_stop.settle() if isinstance(should_stop, AgreedStop) else should_stop()
