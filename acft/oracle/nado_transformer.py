"""NADO with a tiny causal transformer as memory."""

from jaxtyping import Float
from torch import Tensor, nn

from acft.oracle.base import ORACLES, Oracle, OracleContext, OracleKind
from acft.oracle.nado import build_with, causal_mask

HEADS = 4
DROPOUT = 0.1


class TransformerMemory(nn.Module):
    """Causal self-attention over the prefix."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            width, HEADS, 2 * width, DROPOUT, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(
        self, read: Float[Tensor, "batch window state"]
    ) -> Float[Tensor, "batch window state"]:
        """State at each index."""
        return self.encoder(read, mask=causal_mask(read.shape[1], read.device))


def build(context: OracleContext) -> Oracle:
    """Tiny causal transformer over hidden states, tokens and verdicts."""
    return build_with(context, lambda width: TransformerMemory(width, context.settings.layers))


ORACLES.add("nado_transformer")(OracleKind(build, reads_verdicts=True))
