"""Fitting an oracle to soft values instead of to verdicts: exp of them is R, up to estimation.

The reward of a response is log C in units of beta, and straying from the reference policy costs
the KL to it. A verdict tells of C under the policy that drew the response; a soft value tells of it
under the reference, whoever drew.

Source: arXiv:2402.06700.
"""

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from acft.distributed import ranks, settled
from acft.events import Event, Scalars
from acft.objective import soft_returns, soft_value, token_mean
from acft.oracle.base import Oracle
from acft.oracle.training import NextLogprobs, OracleData, Task, descend, predictions, row_batches
from acft.seeding import derive_seed
from acft.settings import OracleSettings
from acft.types import Window

RESPONSES_AT_ONCE = 64
"""Responses that the oracle reads together to find values."""
PREFIXES_AT_ONCE = 64
"""Prefixes whose whole next-token distributions are held at once."""


@dataclass(frozen=True)
class Drawn:
    """Responses of a policy, as the reference and the policy read them."""

    data: OracleData
    """With the reference's hidden states, which the oracle reads."""
    hidden: Float[Tensor, "batch window width"]
    """The policy's."""


@dataclass(frozen=True)
class Backups:
    """How values are learned, and whose."""

    policy: NextLogprobs
    """Of the policy that drew the responses, from its hidden states."""
    reference: NextLogprobs
    floor: float
    """C of a response that violates the constraint."""
    trace: float
    """See ``soft_returns``."""
    times: int
    """So often a round the values of prefixes are computed anew and fitted."""


def fit_soft_values(
    oracle: Oracle,
    train: Drawn,
    held_out: Drawn,
    backups: Backups,
    settings: OracleSettings,
    seed: int,
    round_index: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[Event, None, bool]:
    """Progress and losses while log R of tokens and prefixes becomes their soft value.

    Returns whether it has learned; a stop ends it after the present epoch with weights of no use.

    Raises:
        NonFiniteError: The loss became NaN or infinite.
    """
    generator = np.random.default_rng(derive_seed(seed, "oracle", round_index))
    n_steps = max(1, len(train.data) // settings.batch_size)
    numbers = range(1, settings.max_epochs + 1)
    for part in np.array_split(numbers, min(backups.times, len(numbers))):
        if settled(should_stop):
            return False
        targets, strayed = soft_targets(oracle, train, backups)
        held_out_targets, _ = soft_targets(oracle, held_out, backups)
        if part[0] == 1:
            earned = (log_c(train.data, backups.floor) - strayed.sum(dim=1)).mean()
            yield Scalars(round_index, 0, {"oracle/soft_return": float(earned)})
        task = Task(
            partial(_loss, oracle, train.data, targets),
            partial(_held_out_loss, oracle, held_out.data, held_out_targets),
            "oracle/soft_error_validation",
            partial(row_batches, generator, len(train.data), settings.batch_size, n_steps),
            n_steps,
        )
        epochs = range(int(part[0]), int(part[-1]) + 1)
        if not (yield from descend(oracle, task, settings, seed, round_index, should_stop, epochs)):
            return False
    oracle.version += 1
    return True


def log_c(data: OracleData, floor: float) -> Float[Tensor, " batch"]:
    """Reward of each response in units of beta: 0 where it satisfies the constraint."""
    return torch.where(data.verdict > 0, 0.0, math.log(floor))


@torch.no_grad()
def soft_targets(
    oracle: Oracle, drawn: Drawn, backups: Backups
) -> tuple[Float[Tensor, "batch step"], Float[Tensor, "batch step"]]:
    """What log R of each response token should be, and log policy - log reference of each token."""
    oracle.eval()
    values, ratios = [], []
    device = next(oracle.parameters()).device
    for rows in torch.arange(len(drawn.data)).split(RESPONSES_AT_ONCE):
        window = drawn.data.window[rows].to(str(device))
        value, ratio = _read(oracle, window, drawn.hidden[rows].to(device), backups)
        values.append(value.cpu())
        ratios.append(ratio.cpu())
    token_log_ratios = torch.cat(ratios)
    reward = log_c(drawn.data, backups.floor)
    mask = drawn.data.window.mask[:, 1:]
    returns = soft_returns(reward, torch.cat(values), token_log_ratios, mask, backups.trace)
    return returns, token_log_ratios


def _read(
    oracle: Oracle, window: Window, hidden: Float[Tensor, "batch window width"], backups: Backups
) -> tuple[Float[Tensor, "batch step"], Float[Tensor, "batch step"]]:
    """Soft value of the prefix before each response token, and the token's log ratio."""
    states = oracle.states(window)
    mask = window.mask[:, 1:]
    values = torch.zeros(mask.shape, device=mask.device)
    ratios = torch.zeros_like(values)
    for place in mask.nonzero().split(PREFIXES_AT_ONCE):
        at = tuple(place.T)  # the prefix before response token j ends at index j of the window
        logprobs, reference = backups.policy(hidden[at]), backups.reference(window.hidden[at])
        values[at] = soft_value(logprobs, reference, oracle.next_log_r(states[at])).float()
        tokens = window.token_ids[:, 1:][at].unsqueeze(-1)
        ratios[at] = (logprobs - reference).gather(-1, tokens)[..., 0].float()
    return values, ratios


def _loss(
    oracle: Oracle, data: OracleData, targets: Float[Tensor, "batch step"], rows: Tensor
) -> Float[Tensor, ""]:
    """Squared errors of both heads on chosen responses, in squared nats a response token."""
    device = next(oracle.parameters()).device
    window, weights = data.window[rows].to(str(device)), data.weights[rows].to(device)
    states = oracle.states(window)
    by_token = oracle.response_log_r(states, window.token_ids)
    by_prefix = oracle.prefix_log_r(states[:, 1:])
    targets, mask = targets[rows].to(device), window.mask[:, 1:]
    errors = (by_token - targets).square() + (by_prefix - targets).square()
    return token_mean(errors * weights[:, None], mask, int(mask.sum()))


def _held_out_loss(oracle: Oracle, data: OracleData, targets: Float[Tensor, "batch step"]) -> float:
    """Mean squared error of both heads, in squared nats a response token."""
    by_token, by_prefix = predictions(oracle, data)
    mask = data.window.mask[:, 1:]
    errors = ((by_token - targets).square() + (by_prefix - targets).square()) / 2
    loss = float(token_mean(errors * data.weights[:, None], mask, int(mask.sum())))
    return ranks().from_first(loss)  # all processes end in the same epoch
