"""Forward passes side by side: on CPUs two single-threaded passes beat one with two threads."""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch

from acft.machine import cores

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class Workers:
    """Number of threads that run a model's forward passes."""

    count: int = 1

    def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """``work`` of every item, in the order of the items, ``count`` of them at once.

        With several workers and items each call runs on one thread.
        """
        if min(self.count, len(items)) < 2:
            return [work(item) for item in items]
        with ThreadPoolExecutor(self.count) as pool, one_thread_each():
            return list(pool.map(work, items))

    def imap(
        self, work: Callable[[Item], Result], items: Sequence[Item]
    ) -> Generator[Result, None, None]:
        """The results of ``map``, one after the other; at most ``count`` + 1 exist at a time.

        Later items wait until earlier results are taken, so that large results can be summed up
        without holding all of them. Long items should come first: the others wait least then.
        """
        if min(self.count, len(items)) < 2:
            yield from map(work, items)
            return
        ahead = self.count + 1
        with ThreadPoolExecutor(self.count) as pool, one_thread_each():
            waiting = deque(pool.submit(work, item) for item in items[:ahead])
            try:
                for item in items[ahead:]:
                    yield waiting.popleft().result()
                    waiting.append(pool.submit(work, item))
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()


def use_threads(asked: int) -> int:
    """Number of CPU threads that torch uses from here on: those asked for, or 0 for every core."""
    count = asked or cores()
    torch.set_num_threads(count)
    return count


@contextmanager
def one_thread_each() -> Iterator[None]:
    """One intra-op thread for each of several working threads.

    Pools of threads that share cores wait for each other and are far slower than one thread each.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
