"""DiNADO on an adapted copy of the base policy: the copy is the guided policy."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from acft.backbone.forward import logits, text_config
from acft.oracle.base import ORACLES, Oracle, OracleContext, OracleKind
from acft.oracle.consistent import ConsistentOracle
from acft.oracle.lora import AdaptedReader
from acft.types import Window


class DinadoLoraOracle(ConsistentOracle):
    """q is the adapted copy's own next-token distribution."""

    def __init__(self, context: OracleContext) -> None:
        super().__init__(context)
        self.reader = AdaptedReader(context)
        self.prompt_head = nn.Linear(text_config(context.backbone.model).hidden_size, 1)
        nn.init.zeros_(self.prompt_head.weight)

    def read(self, window: Window) -> Float[Tensor, "batch window feature"]:
        """The copy's hidden states."""
        return self.reader(window)

    def log_q(
        self,
        read: Float[Tensor, "*axes feature"],
        next_logprobs: Float[Tensor, "*axes vocab"],  # noqa: ARG002 - other kinds start from it
    ) -> Float[Tensor, "*axes vocab"]:
        """Log-probabilities of the adapted copy."""
        model = self.reader.adapted.model
        return logits(model, read.to(model.dtype)).log_softmax(dim=-1)

    def prompt_logit(self, read: Float[Tensor, "batch feature"]) -> Float[Tensor, " batch"]:
        """Log-odds of R(x)."""
        return self.prompt_head(read)[:, 0]

    @torch.no_grad()
    def prepare(self, window: Window, satisfaction: Float[Tensor, " batch"]) -> None:  # noqa: ARG002
        """Start at the mean satisfaction of these responses."""
        self.prompt_head.bias.fill_(torch.logit(satisfaction.float().mean(), eps=1e-3))


def build(context: OracleContext) -> Oracle:
    """Low-rank adapters on a copy of the base policy; consistent, and sampled from as it is."""
    return DinadoLoraOracle(context).to(context.backbone.model.device)


ORACLES.add("dinado_lora")(OracleKind(build, runs_backbone=True))
