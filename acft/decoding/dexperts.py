"""An expert and an anti-expert vote on each next token: z + alpha·(z_expert - z_anti)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from acft.backbone.cached_decoder import CachedDecoder
from acft.backbone.forward import head_weight, logits
from acft.backbone.loading import Backbone, load_backbone
from acft.config import Config
from acft.decoding.base import DECODERS, DecodedPolicy, DecoderContext, DecoderKind, Sampler
from acft.errors import ConfigError
from acft.settings import ModelSettings, NonNegativeFloat, OpenFraction
from acft.token_choice import in_nucleus
from acft.windows import left_padded


class DExpertsSettings(Config):
    """Who votes, and how much the vote counts."""

    expert: str
    """Model that writes as wanted, as in ``[model]``; shares the policy's tokenizer."""
    anti_expert: str
    """Model that writes as not wanted, as in ``[model]``; shares the policy's tokenizer."""
    alpha: NonNegativeFloat = 2.0
    """Weight of the vote. Source: arXiv:2105.03023, its value for detoxification."""
    filter_top_p: OpenFraction = 0.9
    """Only this nucleus of the policy is voted on. Source: arXiv:2105.03023."""


@dataclass(frozen=True)
class DExpertsDecoder:
    """Adds what the expert prefers over the anti-expert to the policy's logits.

    Source: arXiv:2105.03023; its code takes the nucleus of the policy before the vote, and draws
    from the result as a whole.
    """

    truncates: ClassVar[bool] = True
    """The policy's nucleus of ``filter_top_p`` alone is drawn from."""
    expert: Backbone
    anti_expert: Backbone
    alpha: float
    filter_top_p: float

    def start(
        self,
        prompts: Sequence[str],  # noqa: ARG002 - same signature for all
        prompt_ids: Sequence[Sequence[int]],
    ) -> "DExpertsSession":
        """A session for one batch of responses; both models read the prompts."""
        token_ids, mask = left_padded(prompt_ids)
        readers = []
        for voter in (self.expert, self.anti_expert):
            device = voter.model.device
            readers.append(CachedDecoder(voter.model, token_ids.to(device), mask.to(device)))
        return DExpertsSession(self, *readers)


@dataclass
class DExpertsSession:
    """One batch being drawn: both models read along."""

    decoder: DExpertsDecoder
    expert: CachedDecoder
    anti_expert: CachedDecoder
    _has_begun: bool = False

    def reweight(
        self,
        next_logprobs: Float[Tensor, "batch vocab"],
        hidden: Float[Tensor, "batch width"],  # noqa: ARG002 - same signature for all
        token_ids: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch vocab"]:
        """Log-probabilities after the vote, in nats; minus infinity outside the nucleus."""
        if self._has_begun:  # the first tokens end the prompts, which both have read
            self.expert.append(token_ids)
            self.anti_expert.append(token_ids)
        self._has_begun = True
        decoder = self.decoder
        vote = logits(decoder.expert.model, self.expert.hidden) - logits(
            decoder.anti_expert.model, self.anti_expert.hidden
        )
        kept = in_nucleus(next_logprobs, decoder.filter_top_p)
        tilted = next_logprobs + decoder.alpha * vote
        return tilted.masked_fill(~kept, -torch.inf).log_softmax(dim=-1)


def build(settings: DExpertsSettings, context: DecoderContext) -> Sampler:
    """The policy corrected by what an expert prefers over an anti-expert."""
    backbone = context.policy.backbone
    decoder = DExpertsDecoder(
        _voter("expert", settings.expert, backbone),
        _voter("anti_expert", settings.anti_expert, backbone),
        settings.alpha,
        settings.filter_top_p,
    )
    return DecodedPolicy(context.policy, decoder)


def _voter(role: str, name: str, policy: Backbone) -> Backbone:
    """The named model on the policy's device; it must read and write the same tokens."""
    model = policy.model
    voter = load_backbone(
        ModelSettings(name=name), str(model.device), str(model.dtype).removeprefix("torch.")
    )
    ours, theirs = (len(head_weight(backbone.model)) for backbone in (policy, voter))
    if ours != theirs or policy.tokenizer.get_vocab() != voter.tokenizer.get_vocab():
        raise ConfigError(
            f"[decoder dexperts] {role} = {name!r}: has another vocabulary ({theirs} tokens) than "
            f"the policy ({ours} tokens); name a model with the same tokenizer"
        )
    return voter


DECODERS.add("dexperts")(DecoderKind(build, DExpertsSettings, truncates=DExpertsDecoder.truncates))
