"""NADO with a gated recurrent memory; the default, see experiments/LOG.md for the ablation."""

from jaxtyping import Float
from torch import Tensor, nn

from acft.oracle.base import ORACLES, Oracle, OracleContext, OracleKind
from acft.oracle.nado import build_with


class RecurrentMemory(nn.Module):
    """Gated recurrent units over the prefix."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.units = nn.GRU(width, width, num_layers=layers, batch_first=True)

    def forward(
        self, read: Float[Tensor, "batch window state"]
    ) -> Float[Tensor, "batch window state"]:
        """State after each index."""
        return self.units(read)[0]


def build(context: OracleContext) -> Oracle:
    """Gated recurrent memory over hidden states, tokens and verdicts; most accurate per rollout."""
    return build_with(context, lambda width: RecurrentMemory(width, context.settings.layers))


ORACLES.add("nado_recurrent")(OracleKind(build, reads_verdicts=True))
