"""Fitting an oracle to scored responses, with early stopping on responses held out by prompt."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from acft.distributed import ranks, settled
from acft.errors import DataError, NonFiniteError
from acft.events import Event, Phase, Progress, Scalars
from acft.objective import consistency_gap, oracle_bce, token_mean
from acft.oracle.base import Oracle, response_positions
from acft.schema import SATISFIED_ABOVE
from acft.seeding import derive_seed, local_torch_seed
from acft.settings import OracleSettings
from acft.types import Window

NextLogprobs = Callable[[Float[Tensor, "position width"]], Float[Tensor, "position vocab"]]
"""Log-probabilities of the policy that drew the responses, from its hidden states."""

MAX_GRAD_NORM = 1.0
"""An oracle's gradient is scaled down to this norm."""
LOG_WEIGHT_MAX = 3.0
"""A response that is likelier under the policy than where it was drawn weighs e^3 at most."""
PREDICTED_AT_ONCE = 256
"""Responses that an oracle reads together where it does not learn."""
CONSISTENCY_POSITIONS = 24
"""Positions per step whose whole vocabulary enters the consistency term."""


@dataclass(frozen=True)
class OracleData:
    """Responses with what the constraint said about them."""

    window: Window
    satisfaction: Float[Tensor, " batch"]
    """Graded, in [0, 1]; above 0.5 = satisfied."""
    prompts: tuple[str, ...]
    """Name of each one's prompt."""
    log_weights: Float[Tensor, " batch"]
    """log p - log proposal of each response, in nats."""

    def __len__(self) -> int:
        """Number of responses."""
        return len(self.window)

    def rows(self, rows: Tensor) -> "OracleData":
        """Some of the responses."""
        return OracleData(
            self.window[rows],
            self.satisfaction[rows],
            tuple(self.prompts[row] for row in rows.tolist()),
            self.log_weights[rows],
        )

    def labels(self, settings: OracleSettings) -> Float[Tensor, " batch"]:
        """What the oracle learns to predict."""
        return self.verdict if settings.labels == "hard" else self.satisfaction

    @property
    def weights(self) -> Float[Tensor, " batch"]:
        """Importance weights p / proposal of mean 1, cut at e^``LOG_WEIGHT_MAX`` before."""
        log_weights = self.log_weights.clamp(max=LOG_WEIGHT_MAX)
        weights = (log_weights - log_weights.max()).exp()  # of long responses all could be 0
        return weights / weights.mean()

    @property
    def effective_share(self) -> float:
        """Effective number of responses under their weights, over their number."""
        return float(1 / self.weights.double().square().mean())

    @property
    def verdict(self) -> Float[Tensor, " batch"]:
        """1 where the constraint is satisfied, else 0."""
        return (self.satisfaction > SATISFIED_ABOVE).float()


@dataclass(frozen=True)
class Task:
    """What an oracle learns in one fit."""

    train_loss: Callable[[Tensor], Float[Tensor, ""]]
    """Of the training responses at these rows."""
    held_out_loss: Callable[[], float]
    """Tells when to stop."""
    held_out_name: str
    """Of its curve."""
    batches: Callable[[], Iterator[Tensor]]
    """Rows of each step of an epoch."""
    n_steps: int
    """Steps of an epoch."""


def fit_oracle(
    oracle: Oracle,
    train: OracleData,
    validation: OracleData,
    settings: OracleSettings,
    seed: int,
    next_logprobs: NextLogprobs,
    round_index: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[Event, None, bool]:
    """Progress and losses while the oracle learns; the weights of its best epoch are left.

    Returns whether it has learned; a stop ends it after the present epoch with weights of no use.

    Raises:
        DataError: In the first round, when nobody or everybody satisfies the constraint.
        NonFiniteError: The loss became NaN or infinite.
    """
    labels = train.labels(settings)
    if round_index == 1:
        require_both(torch.cat([labels, validation.labels(settings)]))
    weights, chances = _sampling(train, settings)
    generator = np.random.default_rng(derive_seed(seed, "oracle", round_index))
    n_steps = max(1, len(train) // settings.batch_size)
    task = Task(
        train_loss=lambda rows: _loss(
            oracle, train.rows(rows), labels[rows], weights[rows],
            settings, next_logprobs, generator,
        ),
        held_out_loss=lambda: _validation_loss(oracle, validation, settings),
        held_out_name="oracle/bce_validation",
        batches=lambda: row_batches(generator, len(train), settings.batch_size, n_steps, chances),
        n_steps=n_steps,
    )  # fmt: skip
    is_fitted = yield from descend(oracle, task, settings, seed, round_index, should_stop)
    oracle.version += is_fitted
    return is_fitted


def descend(
    oracle: Oracle,
    task: Task,
    settings: OracleSettings,
    seed: int,
    round_index: int,
    should_stop: Callable[[], bool],
    epochs: range | None = None,
) -> Generator[Event, None, bool]:
    """Progress and losses of a fit; the weights of its best epoch are left.

    Args:
        oracle: Is changed.
        task: What it learns.
        settings: Rates, and when to stop.
        seed: Of the run.
        round_index: From 1.
        should_stop: Asked before each epoch; a yes leaves weights of no use, and False is returned.
        epochs: Their numbers, where a round has several fits; all of them by default.

    Raises:
        NonFiniteError: The loss became NaN or infinite.
    """
    epochs = epochs or range(1, settings.max_epochs + 1)
    optimizer = torch.optim.AdamW(
        [p for p in oracle.parameters() if p.requires_grad],
        lr=settings.lr,
        weight_decay=settings.weight_decay,
    )
    lr = _learning_rates(optimizer, settings, len(epochs) * task.n_steps)
    best_loss, best_epoch = task.held_out_loss(), epochs[0] - 1
    best = _copy(oracle)
    for epoch in epochs:
        if settled(should_stop):
            return False
        oracle.train()
        total = 0.0
        with local_torch_seed(derive_seed(seed, "oracle-dropout", round_index, epoch)):
            for rows in task.batches():
                total += _step(oracle, optimizer, task.train_loss(rows), round_index, epoch)
                lr.step()
        held_out = task.held_out_loss()
        yield Progress(Phase.FIT_ORACLE, epoch, settings.max_epochs, round_index, "epochs")
        losses = {"oracle/loss_train": total / task.n_steps, task.held_out_name: held_out}
        yield Scalars(round_index, epoch, losses)
        if held_out < best_loss:
            best_loss, best_epoch, best = held_out, epoch, _copy(oracle)
        elif epoch - best_epoch >= settings.patience:
            break
    oracle.load_state_dict(best)
    oracle.eval()
    return True


def require_both(labels: Float[Tensor, " batch"]) -> None:
    """Returns unless all labels are equal, from which nothing can be learned.

    Raises:
        DataError: They are; after the first round that is success.
    """
    if bool((labels != labels[0]).any()):
        return
    n, is_satisfied = len(labels), bool(labels[0] > SATISFIED_ABOVE)
    found = f"all {n} responses satisfy" if is_satisfied else f"none of {n} responses satisfies"
    raise DataError(
        f"{found} the constraint, so that no guidance can be learned from them; "
        f"{'tighten' if is_satisfied else 'loosen'} [[constraint]], choose [prompts] that lead to "
        f"{'violations' if is_satisfied else 'satisfaction'}, or draw more "
        f"({n} = [oracle] rollouts_per_round + validation_rollouts)"
    )


def predictions(
    oracle: Oracle, data: OracleData
) -> tuple[Float[Tensor, "batch step"], Float[Tensor, "batch step"]]:
    """Log R of every prefix ending in a response token: by the next-token and the prefix head.

    Entry ``[:, j]`` is about response token ``j + 1``.
    """
    oracle.eval()
    by_token, by_prefix = [], []
    device = next(oracle.parameters(), torch.empty(0)).device
    with torch.no_grad():
        for rows in torch.arange(len(data)).split(PREDICTED_AT_ONCE):
            window = data.window[rows].to(str(device))
            states = oracle.states(window)
            by_token.append(oracle.response_log_r(states, window.token_ids).cpu())
            by_prefix.append(oracle.prefix_log_r(states[:, 1:]).cpu())
    return torch.cat(by_token), torch.cat(by_prefix)


def _loss(
    oracle: Oracle,
    data: OracleData,
    labels: Float[Tensor, " batch"],
    weights: Float[Tensor, " batch"],
    settings: OracleSettings,
    next_logprobs: NextLogprobs,
    generator: np.random.Generator,
) -> Float[Tensor, ""]:
    device = next(oracle.parameters()).device
    window, labels, weights = data.window.to(str(device)), labels.to(device), weights.to(device)
    states = oracle.states(window)
    mask = window.mask[:, 1:]
    count = int(mask.sum())
    by_token = oracle.response_log_r(states, window.token_ids)
    by_prefix = oracle.prefix_log_r(states[:, 1:])
    errors = oracle_bce(by_token, labels) + oracle_bce(by_prefix, labels)
    loss = token_mean(errors * weights[:, None], mask, count)
    if settings.consistency_weight > 0:
        chosen = _some_positions(window, generator)
        gap = consistency_gap(
            next_logprobs(window.hidden[chosen]),
            oracle.next_log_r(states[chosen]),
            oracle.prefix_log_r(states[chosen]),
        )
        everywhere = torch.ones_like(gap, dtype=torch.bool)
        loss = loss + settings.consistency_weight * token_mean(gap, everywhere, gap.numel())
    return loss


def _some_positions(window: Window, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    rows, columns = response_positions(window).nonzero(as_tuple=True)
    size = min(CONSISTENCY_POSITIONS, len(rows))
    chosen = torch.from_numpy(generator.choice(len(rows), size=size, replace=False)).to(rows.device)
    return rows[chosen], columns[chosen]


def _step(
    oracle: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Float[Tensor, ""],
    round_index: int,
    epoch: int,
) -> float:
    value = float(loss.detach())
    if not np.isfinite(value):
        raise NonFiniteError(
            f"the oracle's loss is {value} in round {round_index}, epoch {epoch}; "
            "lower [oracle] lr or consistency_weight"
        )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(oracle.parameters(), MAX_GRAD_NORM)
    optimizer.step()
    return value


def _learning_rates(
    optimizer: torch.optim.Optimizer, settings: OracleSettings, n_steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if settings.decay == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


def _validation_loss(oracle: Oracle, data: OracleData, settings: OracleSettings) -> float:
    """Mean cross-entropy of both heads, in nats a response token."""
    labels = data.labels(settings)
    by_token, by_prefix = predictions(oracle, data)
    mask = data.window.mask[:, 1:]
    errors = (oracle_bce(by_token, labels) + oracle_bce(by_prefix, labels)) / 2
    loss = float(token_mean(errors * data.weights[:, None], mask, int(mask.sum())))
    return ranks().from_first(loss)  # all processes end in the same epoch


def _sampling(
    data: OracleData, settings: OracleSettings
) -> tuple[Float[Tensor, " batch"], np.ndarray | None]:
    """Loss weight of each response and, for resampling, its chance to be drawn."""
    weights = data.weights
    if settings.balance == "none":
        return weights, None
    verdict = data.verdict
    share = verdict.mean().clamp(0.01, 0.99)
    boost = torch.where(verdict == 1, 0.5 / share, 0.5 / (1 - share))
    boost = boost / boost.mean()  # 1 already, but where the share was moved
    chances = (boost / boost.sum()).double().numpy()
    return weights / boost, chances / chances.sum()


def row_batches(
    generator: np.random.Generator,
    size: int,
    batch_size: int,
    n_steps: int,
    chances: np.ndarray | None = None,
) -> Iterator[Tensor]:
    """Rows of each step of an epoch: all of them once, or drawn by their chances."""
    if chances is None:
        order = generator.permutation(size)
    else:
        order = generator.choice(size, size=n_steps * batch_size, p=chances)
    for step in range(n_steps):
        yield torch.from_numpy(order[step * batch_size : (step + 1) * batch_size])


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
