"""NADO on an adapted copy of the base policy, with a vocabulary head of its own."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from acft.backbone.forward import input_embeddings
from acft.oracle.base import ORACLES, Oracle, OracleContext, OracleKind
from acft.oracle.lora import AdaptedReader
from acft.oracle.nado import FactoredHead, verdict_features
from acft.types import Window


class NadoLoraOracle(Oracle):
    """R from the hidden states of an adapted copy and the constraint's verdict on every prefix."""

    def __init__(self, context: OracleContext) -> None:
        super().__init__(context.settings.log_r_min)
        width = context.settings.width
        embeddings = input_embeddings(context.backbone.model).detach()
        self.reader = AdaptedReader(context)
        self.from_hidden = nn.Linear(embeddings.shape[1], width)
        self.from_verdict = nn.Linear(3, width)
        self.norm = nn.LayerNorm(width)
        self.prefix_head = nn.Linear(width, 1)
        self.next_head = FactoredHead(embeddings, width, context.token_verdicts)
        nn.init.zeros_(self.prefix_head.weight)

    def states(self, window: Window) -> Float[Tensor, "batch window state"]:
        """What the copy knows at each index."""
        seen = self.from_hidden(self.reader(window))
        return self.norm(seen + self.from_verdict(verdict_features(window.verdicts)))

    def next_logit(self, states: Float[Tensor, "*axes state"]) -> Float[Tensor, "*axes vocab"]:
        """Log-odds of R(prefix followed by v) for every token v."""
        return self.next_head(states)

    def token_logit(
        self, states: Float[Tensor, "*axes state"], token_ids: Int[Tensor, " *axes"]
    ) -> Float[Tensor, " *axes"]:
        """Log-odds of R(prefix followed by the given token)."""
        return self.next_head.at(states, token_ids)

    def prefix_logit(self, states: Float[Tensor, "*axes state"]) -> Float[Tensor, " *axes"]:
        """Log-odds of R(prefix)."""
        return self.prefix_head(states)[..., 0]

    @torch.no_grad()
    def prepare(self, window: Window, satisfaction: Float[Tensor, " batch"]) -> None:  # noqa: ARG002
        """Start at the mean satisfaction of these responses."""
        prior = torch.logit(satisfaction.float().mean(), eps=1e-3)
        self.prefix_head.bias.fill_(prior)
        self.next_head.level.bias.fill_(prior)


def build(context: OracleContext) -> Oracle:
    """Low-rank adapters on a copy of the base policy, and a vocabulary head; largest capacity."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        oracle = NadoLoraOracle(context)
    return oracle.to(context.backbone.model.device)


ORACLES.add("nado_lora")(OracleKind(build, reads_verdicts=True, runs_backbone=True))
