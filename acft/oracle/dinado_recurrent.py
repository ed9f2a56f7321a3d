"""DiNADO on a gated recurrent memory: consistent at a small part of the cost of adapters."""

import torch
from jaxtyping import Float
from torch import Tensor

from acft.oracle.base import ORACLES, Oracle, OracleContext, OracleKind
from acft.oracle.consistent import ConsistentOracle
from acft.oracle.nado import NadoOracle, build_with
from acft.oracle.nado_recurrent import RecurrentMemory
from acft.types import Window


class DinadoRecurrentOracle(ConsistentOracle):
    """q is the policy's distribution with a learned change of its logits."""

    def __init__(self, context: OracleContext, change: NadoOracle) -> None:
        super().__init__(context)
        self.change = change

    def read(self, window: Window) -> Float[Tensor, "batch window feature"]:
        """What the memory holds after each index."""
        return self.change.states(window)

    def log_q(
        self, read: Float[Tensor, "*axes feature"], next_logprobs: Float[Tensor, "*axes vocab"]
    ) -> Float[Tensor, "*axes vocab"]:
        """Log-probabilities of the policy with its logits changed."""
        return (next_logprobs + self.change.next_logit(read)).log_softmax(dim=-1)

    def prompt_logit(self, read: Float[Tensor, "batch feature"]) -> Float[Tensor, " batch"]:
        """Log-odds of R(x)."""
        return self.change.prefix_logit(read)

    @torch.no_grad()
    def prepare(self, window: Window, satisfaction: Float[Tensor, " batch"]) -> None:
        """Standardise hidden states as in these responses; start at their mean satisfaction."""
        self.change.prepare(window, satisfaction)


def build(context: OracleContext) -> Oracle:
    """Gated recurrent memory that changes the policy's logits; consistent without adapters."""
    change = build_with(context, lambda width: RecurrentMemory(width, context.settings.layers))
    return DinadoRecurrentOracle(context, change)


ORACLES.add("dinado_recurrent")(OracleKind(build, reads_verdicts=True))
