"""Policies and constraints in worlds small enough to enumerate, as hypothesis draws them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from hypothesis import settings
from hypothesis import strategies as st

from acft import toy
from acft.toy import Tables, ToyWorld

SHAPES = [(2, 1), (2, 3), (2, 8), (3, 3), (3, 5), (4, 4), (6, 3), (16, 2)]
TOLERANCE = 1e-9
every_world = settings(max_examples=60, deadline=None, derandomize=True, database=None)


Judge = Callable[[torch.Tensor], torch.Tensor]
"""Which sequences of symbols satisfy a constraint."""


def random_policy(world: ToyWorld, seed: int, sharpness: float = 1.0) -> Tables:
    """Log-probabilities of a policy with independent normal logits after every prefix."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(world.n_symbols**t, world.n_symbols) for t in range(world.length)]
    return tuple(
        (sharpness * torch.randn(shape, generator=generator, dtype=torch.float64)).log_softmax(
            dim=-1
        )
        for shape in shapes
    )


def judged(world: ToyWorld, is_satisfied: Judge) -> torch.Tensor:
    """C of every sequence, 1 = satisfied."""
    return is_satisfied(world.sequences()).double()


def forbids_bigram(first: int, second: int) -> Judge:
    """Satisfied where ``first`` is never followed by ``second`` at once."""
    return lambda s: ~((s[:, :-1] == first) & (s[:, 1:] == second)).any(dim=-1)


def contains_at_least(symbol: int, count: int) -> Judge:
    """Satisfied where ``symbol`` occurs ``count`` times or more."""
    return lambda s: (s == symbol).sum(dim=-1) >= count


def contains_at_most(symbol: int, count: int) -> Judge:
    """Satisfied where ``symbol`` occurs ``count`` times or fewer."""
    return lambda s: (s == symbol).sum(dim=-1) <= count


def accepted_by(transitions: torch.Tensor, accepting: torch.Tensor) -> Judge:
    """Satisfied where the automaton, started in state 0, ends in an accepting state."""

    def is_accepted(sequences: torch.Tensor) -> torch.Tensor:
        state = torch.zeros(len(sequences), dtype=torch.long)
        for symbols in sequences.unbind(dim=-1):
            state = transitions[state, symbols]
        return accepting[state]

    return is_accepted


@dataclass(frozen=True)
class Case:
    """A policy and a constraint in a world; built when asked, so that hypothesis draws numbers."""

    n_symbols: int
    length: int
    policy_seed: int
    sharpness: float = 1.0
    has_zeros: bool = False
    verdicts: int | Judge = 0
    """One bit for every sequence, or a judge."""

    @cached_property
    def world(self) -> ToyWorld:
        return ToyWorld(self.n_symbols, self.length)

    @cached_property
    def policy(self) -> Tables:
        policy = random_policy(self.world, self.policy_seed, self.sharpness)
        if not self.has_zeros:
            return policy
        return tuple(without_first_symbol_in_every_third_row(table) for table in policy)

    @cached_property
    def satisfied(self) -> torch.Tensor:
        if not isinstance(self.verdicts, int):
            return judged(self.world, self.verdicts)
        bits = [self.verdicts >> i & 1 for i in range(self.world.n_sequences)]
        return torch.tensor(bits, dtype=torch.float64)

    @cached_property
    def rate(self) -> float:
        """R(x)."""
        return toy.satisfaction(self.policy, self.satisfied)

    @cached_property
    def next_log_r(self) -> Tables:
        return toy.exact_next_log_r(self.policy, self.satisfied)[0]

    def guided(self, delta: float = 1.0) -> Tables:
        """Guided policy from the exact R."""
        return toy.guided_tables(self.policy, self.next_log_r, delta)


@st.composite
def arbitrary_cases(draw: st.DrawFn) -> Case:
    """Any policy, zeros included, and any set of satisfying sequences, of worlds up to 256."""
    n_symbols, length = draw(st.sampled_from(SHAPES))
    return Case(
        n_symbols,
        length,
        policy_seed=draw(st.integers(0, 2**32)),
        sharpness=draw(st.sampled_from([0.0, 1.0, 4.0])),
        has_zeros=draw(st.booleans()),
        verdicts=draw(st.integers(0, 2 ** (n_symbols**length) - 1)),
    )


def without_first_symbol_in_every_third_row(table: torch.Tensor) -> torch.Tensor:
    logits = table.clone()
    logits[::3, 0] = -math.inf
    return logits.log_softmax(dim=-1)
