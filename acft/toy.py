"""A world small enough to write down whole: every sequence, the exact R, the exact q*.

Sequences have ``length`` symbols and no end token. A table at depth t has one row for each of the
``n_symbols ** t`` prefixes of t symbols, ordered like numbers to the base ``n_symbols``; float64.
"""

import itertools
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from acft.objective import (
    guided_next_logprobs,
    guided_next_logprobs_soft,
    kl_divergence,
    prompt_log_r,
)

Tables = tuple[Float[Tensor, "_ symbol"], ...]
"""One value for each next symbol after each prefix; index t is about symbol t of the sequence."""

NextValues = Callable[[Int[Tensor, "batch time"]], Float[Tensor, "batch time vocab"]]
"""A language model's ``next_*`` output: at index t, about token t + 1."""


@dataclass(frozen=True)
class ToyWorld:
    """All sequences of ``length`` symbols, written as ``a b c``."""

    n_symbols: int
    length: int

    @property
    def n_sequences(self) -> int:
        """How many sequences there are."""
        return self.n_symbols**self.length

    def prefixes(self, length: int) -> Int[Tensor, "prefix time"]:
        """All prefixes of ``length`` symbols, in the order of the tables' rows."""
        place_values = self.n_symbols ** torch.arange(length - 1, -1, -1)
        rows = torch.arange(self.n_symbols**length).unsqueeze(-1)
        return rows // place_values % self.n_symbols

    def sequences(self) -> Int[Tensor, "sequence time"]:
        """All sequences."""
        return self.prefixes(self.length)

    def texts(self) -> list[str]:
        """The text of every sequence."""
        letters = string.ascii_lowercase[: self.n_symbols]
        return [" ".join(letter) for letter in itertools.product(letters, repeat=self.length)]

    def judge_texts(self, score: Callable[[str], float]) -> Float[Tensor, " sequence"]:
        """C of every sequence in [0, 1], from a judge of texts."""
        return torch.tensor([score(text) for text in self.texts()], dtype=torch.float64)


def sequence_logprobs(next_logprobs: Tables) -> Float[Tensor, " sequence"]:
    """Log-probability of every sequence, in nats."""
    total = torch.zeros(1, dtype=torch.float64)
    for table in next_logprobs:
        total = (total.unsqueeze(-1) + table).flatten()
    return total


def exact_next_log_r(
    next_logprobs: Tables, satisfied: Float[Tensor, " sequence"]
) -> tuple[Tables, Float[Tensor, " 1"]]:
    """Log R after every prefix and next symbol, and log R(x) before the first symbol, in nats.

    Source: arXiv:2205.14219; R(prefix) = sum over v of p(v|prefix)·R(prefix, v), from the end.
    """
    r, tables = satisfied.double(), []
    for table in reversed(next_logprobs):
        r = r.reshape(table.shape)
        tables.append(r.log())
        r = (table.exp() * r).sum(dim=-1).clamp(max=1.0)
    return tuple(reversed(tables)), r.log()


def target_logprobs(
    next_logprobs: Tables, satisfied: Float[Tensor, " sequence"], delta: float = 1.0
) -> Float[Tensor, " sequence"]:
    """Log-probability of every sequence under q*, the nearest with E[C] >= delta, in nats.

    Raises:
        ValueError: The policy never satisfies the constraint, so no such q* exists near it.

    Source: arXiv:2205.14219 for delta = 1; derived for delta < 1.
    """
    logprobs, c = sequence_logprobs(next_logprobs), satisfied.double()
    rate = satisfaction(next_logprobs, satisfied)
    if rate <= 0.0:
        raise ValueError(f"the policy satisfies the constraint with probability {rate!r}")
    if rate >= delta:
        return logprobs
    return logprobs + (delta / rate * c + (1 - delta) / (1 - rate) * (1 - c)).log()


def guided_tables(
    next_logprobs: Tables, next_log_r: Tables, delta: float = 1.0, strength: float = 1.0
) -> Tables:
    """Log-probabilities of the guided policy after every prefix, in nats.

    After a prefix that no continuation can save, which q never reaches, q = p.
    """
    log_r_prompt = prompt_log_r(next_logprobs[0], next_log_r[0])
    guided = []
    for logprobs, log_r in zip(next_logprobs, next_log_r, strict=True):
        if delta < 1.0:
            log_r_x = log_r_prompt.expand(len(logprobs))
            guided.append(guided_next_logprobs_soft(logprobs, log_r, delta, log_r_x, strength))
            continue
        is_hopeless = torch.isneginf(logprobs + log_r).all(dim=-1, keepdim=True)
        guided.append(guided_next_logprobs(logprobs, log_r.where(~is_hopeless, 0.0), strength))
    return tuple(guided)


def satisfaction(next_logprobs: Tables, satisfied: Float[Tensor, " sequence"]) -> float:
    """E[C] of a policy, in [0, 1]."""
    return float((sequence_logprobs(next_logprobs).exp() * satisfied.double()).sum())


def sequence_kl(p: Float[Tensor, " sequence"], q: Float[Tensor, " sequence"]) -> float:
    """KL(p ‖ q) in nats of two distributions over all sequences, from their log-probabilities."""
    return float(kl_divergence(p, q))


def along(
    tables: Tables, sequences: Int[Tensor, "sequence time"]
) -> Float[Tensor, "sequence time symbol"]:
    """The table rows met while walking each sequence; index t is about its symbol t."""
    n_symbols = tables[0].shape[-1]
    row, met = torch.zeros(len(sequences), dtype=torch.long), []
    for table, symbols in zip(tables, sequences.unbind(dim=-1), strict=True):
        met.append(table[row])
        row = row * n_symbols + symbols
    return torch.stack(met, dim=1)


@torch.no_grad()
def enumerate_values(
    next_values: NextValues,
    world: ToyWorld,
    prompt_ids: Sequence[int],
    symbol_ids: Sequence[int] | None = None,
    batch_size: int = 4096,
) -> Tables:
    """A language model's next-token values after every prefix, for the world's symbols only.

    ``prompt_ids`` must not be empty; ``symbol_ids`` are the token ids of the symbols, by default
    0, 1, 2, …
    """
    ids = torch.tensor(symbol_ids if symbol_ids is not None else range(world.n_symbols))
    prompt = torch.tensor(list(prompt_ids))
    # The values at every position come from one pass over the longest prefixes.
    longest = world.prefixes(world.length - 1)
    tokens = torch.cat([prompt.expand(len(longest), -1), ids[longest]], dim=-1)
    found = torch.cat(
        [next_values(part)[:, len(prompt) - 1 :, ids].double() for part in tokens.split(batch_size)]
    )
    repeats = [world.n_symbols ** (world.length - 1 - t) for t in range(world.length)]
    return tuple(found[::repeat, t] for t, repeat in enumerate(repeats))


def enumerate_policy(
    next_values: NextValues,
    world: ToyWorld,
    prompt_ids: Sequence[int],
    symbol_ids: Sequence[int] | None = None,
) -> Tables:
    """Log-probabilities of a language model given that it emits only the world's symbols.

    ``next_values`` may give logits or log-probabilities.
    """
    tables = enumerate_values(next_values, world, prompt_ids, symbol_ids)
    return tuple(table.log_softmax(dim=-1) for table in tables)
