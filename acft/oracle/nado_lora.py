"""NADO on an adapted copy of the base policy, with a vocabulary head of its own."""

from jaxtyping import Float
from torch import Tensor, nn

from acft.backbone.forward import text_config
from acft.oracle.base import ORACLES, Oracle, OracleContext, OracleKind
from acft.oracle.lora import AdaptedReader
from acft.oracle.nado import FactoredOracle, verdict_features
from acft.seeding import local_torch_seed
from acft.types import Window


class NadoLoraOracle(FactoredOracle):
    """R from the hidden states of an adapted copy and the constraint's verdict on every prefix."""

    def __init__(self, context: OracleContext) -> None:
        super().__init__(context.settings.log_r_min)
        width = context.settings.width
        self.reader = AdaptedReader(context)
        self.from_hidden = nn.Linear(text_config(context.backbone.model).hidden_size, width)
        self.from_verdict = nn.Linear(3, width)
        self.norm = nn.LayerNorm(width)
        self.add_heads(context)

    def states(self, window: Window) -> Float[Tensor, "batch window state"]:
        """What the copy knows at each index."""
        seen = self.from_hidden(self.reader(window))
        return self.norm(seen + self.from_verdict(verdict_features(window.verdicts)))


def build(context: OracleContext) -> Oracle:
    """Low-rank adapters on a copy of the base policy, and a vocabulary head; largest capacity."""
    with local_torch_seed(context.seed):
        oracle = NadoLoraOracle(context)
    return oracle.to(context.backbone.model.device)


ORACLES.add("nado_lora")(OracleKind(build, reads_verdicts=True, runs_backbone=True))
