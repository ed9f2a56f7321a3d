"""What the kinds that run an adapted copy of the policy's base share."""

from jaxtyping import Float
from torch import Tensor, nn

from acft.backbone.adapters import AdaptedCopy
from acft.backbone.forward import response_states
from acft.oracle.base import OracleContext
from acft.settings import AdapterSettings
from acft.types import Window


class AdaptedReader(nn.Module):
    """Reads prompt and response by the frozen base policy with low-rank adapters of its own.

    The base weights are shared with whoever else runs them; the module's parameters, and so what a
    checkpoint holds, are the adapters alone.
    """

    def __init__(self, context: OracleContext) -> None:
        super().__init__()
        rank = context.settings.rank
        adapter = AdapterSettings(rank=rank, alpha=2.0 * rank)
        self.adapted = AdaptedCopy(context.backbone.model, adapter, context.seed)
        self.adapters = nn.ParameterList(self.adapted.parameters())

    def forward(self, window: Window) -> Float[Tensor, "batch window width"]:
        """Last hidden state at each index."""
        hidden = response_states(
            self.adapted.model,
            window.prompt_ids,
            window.prompt_mask,
            window.token_ids[:, 1:],
            window.mask[:, 1:],
        )
        return hidden.float()
