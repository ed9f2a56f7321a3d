"""What an oracle is: log R = log Pr[C = 1 | prefix] for prefixes and for all their next tokens."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from acft.registry import Registry, summary_of
from acft.settings import OracleSettings
from acft.types import Window

if TYPE_CHECKING:
    from acft.backbone.loading import Backbone

T = TypeVar("T")

Verdicts = Callable[[Sequence[str], Sequence[str]], list[float]]
"""The constraint: prompts and responses to graded satisfaction in [0, 1]."""


class Oracle(nn.Module):
    """Base of all kinds; a kind implements ``states`` and the ``*_logit`` or ``*_log_r`` methods.

    ``states`` reads responses once; the rest is cheap and works on any selection of positions, so
    that nothing of size [positions, vocab] needs to exist at once.
    """

    def __init__(self, log_r_min: float) -> None:
        super().__init__()
        self.log_r_min = log_r_min
        self.version = 0
        """Finished oracle updates; 0 has seen no response."""

    def states(self, window: Window) -> Float[Tensor, "batch window state"]:
        """What the oracle remembers of the prefix that ends at each index."""
        raise NotImplementedError

    def longer_states(
        self,
        window: Window,
        known: Float[Tensor, "batch known _"],  # noqa: ARG002 - for kinds that can go on
    ) -> Float[Tensor, "batch window state"]:
        """``states`` of a window that is ``known`` from its beginning up to some index."""
        return self.states(window)

    def next_logit(self, states: Float[Tensor, "*axes state"]) -> Float[Tensor, "*axes vocab"]:
        """Log-odds of R(prefix followed by v) for every token v."""
        raise NotImplementedError

    def token_logit(
        self, states: Float[Tensor, "*axes state"], token_ids: Int[Tensor, " *axes"]
    ) -> Float[Tensor, " *axes"]:
        """Log-odds of R(prefix followed by the given token); equals a gather of ``next_logit``."""
        raise NotImplementedError

    def prefix_logit(self, states: Float[Tensor, "*axes state"]) -> Float[Tensor, " *axes"]:
        """Log-odds of R(prefix)."""
        raise NotImplementedError

    def next_log_r(self, states: Float[Tensor, "*axes state"]) -> Float[Tensor, "*axes vocab"]:
        """Log R(prefix followed by v) for every token v, in [log_r_min, 0]."""
        return self._log_r(self.next_logit(states))

    def token_log_r(
        self, states: Float[Tensor, "*axes state"], token_ids: Int[Tensor, " *axes"]
    ) -> Float[Tensor, " *axes"]:
        """Log R(prefix followed by the given token), in [log_r_min, 0]."""
        return self._log_r(self.token_logit(states, token_ids))

    def prefix_log_r(self, states: Float[Tensor, "*axes state"]) -> Float[Tensor, " *axes"]:
        """Log R(prefix), in [log_r_min, 0]."""
        return self._log_r(self.prefix_logit(states))

    def response_log_r(
        self, states: Float[Tensor, "batch window state"], token_ids: Int[Tensor, "batch window"]
    ) -> Float[Tensor, "batch step"]:
        """Log R of each prefix that ends in a response token, as ``token_log_r`` has it.

        Entry ``[:, j]`` is about response token ``j + 1``; it means nothing where there is none.
        """
        return self.token_log_r(states[:, :-1], token_ids[:, 1:])

    def prepare(self, window: Window, satisfaction: Float[Tensor, " batch"]) -> None:
        """Set input statistics and prior from the first responses ever seen."""

    def follow(self, policy: "Backbone") -> None:
        """Judge the responses of this policy from now on; called before every fit.

        Kinds that only read what is in a window have nothing to do.
        """

    def copied(self) -> "Oracle":
        """A copy that trains apart from this one."""
        copied = copy.deepcopy(self)
        for module in copied.modules():
            if isinstance(module, nn.RNNBase):  # cuDNN wants the weights in one piece of memory
                module.flatten_parameters()
        return copied

    def _log_r(self, logit: Tensor) -> Tensor:
        return logsigmoid(logit.float()).clamp(min=self.log_r_min)


@dataclass(frozen=True)
class OracleContext:
    """What building an oracle may use."""

    settings: OracleSettings
    backbone: "Backbone"
    """The frozen base policy."""
    horizon: int
    token_verdicts: Float[Tensor, " vocab"] | None
    """Graded satisfaction of each vocabulary token taken as a whole response."""
    seed: int
    verdicts: Verdicts | None = None
    """The constraint, for kinds that ask it themselves."""


@dataclass(frozen=True)
class OracleKind:
    """A registered way to build an oracle."""

    build: Callable[[OracleContext], Oracle]
    reads_verdicts: bool = False
    """Its windows need the constraint's verdict on every prefix."""
    is_fitted: bool = True
    """It has weights that learn from scored responses; else it knows R without."""
    runs_backbone: bool = False
    """It runs a copy of the frozen base policy of its own."""

    @property
    def summary(self) -> str:
        """First line of the builder's documentation."""
        return summary_of(self.build)


class Shared(Generic[T]):
    """Holds what copies of an oracle have in common, such as the policy's weights."""

    def __init__(self, value: T) -> None:
        self.value = value

    def __deepcopy__(self, _: object) -> "Shared[T]":
        """Itself."""
        return self


ORACLES: Registry[OracleKind] = Registry("oracle", "acft.oracle", OracleKind)


def response_positions(window: Window) -> Bool[Tensor, "batch window"]:
    """True where the next index holds a response token: where a prediction can be judged."""
    result = torch.zeros_like(window.mask)
    result[:, :-1] = window.mask[:, 1:]
    return result
