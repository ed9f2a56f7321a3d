"""Reward-augmented decoding: the constraint is asked about each of the likeliest next tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from acft.config import Config
from acft.decoding.base import DECODERS, DecodedPolicy, DecoderContext, DecoderKind, Sampler
from acft.errors import ConfigError
from acft.oracle.base import Verdicts
from acft.prompt_tokens import Decode, response_texts
from acft.settings import NonNegativeFloat, Positive


class RadSettings(Config):
    """How many tokens are asked about, and how much the answer counts."""

    beta: NonNegativeFloat = 50.0
    """Added to a logit, times the satisfaction of the text so far with that token.

    Source: arXiv:2310.09520, the value its code suggests."""
    top_k: Positive = 20
    """Likeliest tokens that are asked about; the others are not drawn. Source: arXiv:2310.09520."""


@dataclass(frozen=True)
class RadDecoder:
    """Reweights the likeliest tokens by the constraint's own verdict; no model is trained.

    Source: arXiv:2310.09520, with the constraint in the place of its reward model; its code draws
    from the reweighted top k as a whole, without a nucleus.
    """

    truncates: ClassVar[bool] = True
    """The likeliest ``top_k`` alone are drawn from."""
    verdicts: Verdicts
    decode: Decode
    beta: float
    top_k: int

    def start(self, prompts: Sequence[str], prompt_ids: Sequence[Sequence[int]]) -> "RadSession":
        """A session for one batch of responses."""
        return RadSession(self, list(prompts), prompt_ids)


@dataclass
class RadSession:
    """One batch being drawn: remembers its tokens."""

    decoder: RadDecoder
    prompts: list[str]
    prompt_ids: Sequence[Sequence[int]]
    responses: list[list[int]] = field(default_factory=list)

    def reweight(
        self,
        next_logprobs: Float[Tensor, "batch vocab"],
        hidden: Float[Tensor, "batch width"],  # noqa: ARG002 - same signature for all
        token_ids: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch vocab"]:
        """Log-probabilities of the likeliest tokens after reweighting, in nats."""
        self._append(token_ids.tolist())
        top, ids = next_logprobs.topk(min(self.decoder.top_k, next_logprobs.shape[-1]), dim=-1)
        reward = self._satisfaction(ids.tolist()).to(top.device)
        tilted = (top + self.decoder.beta * reward).log_softmax(dim=-1)
        return torch.full_like(next_logprobs, -torch.inf).scatter(1, ids, tilted)

    def _append(self, token_ids: list[int]) -> None:
        if not self.responses:  # the first tokens end the prompts
            self.responses = [[] for _ in token_ids]
            return
        for response, token in zip(self.responses, token_ids, strict=True):
            response.append(token)

    def _satisfaction(self, ids: list[list[int]]) -> Float[Tensor, "batch candidate"]:
        texts: list[str] = []
        for prompt, response, row in zip(self.prompt_ids, self.responses, ids, strict=True):
            longer = ([*response, token] for token in row)
            texts += response_texts(self.decoder.decode, prompt, longer)
        owners = [prompt for prompt, row in zip(self.prompts, ids, strict=True) for _ in row]
        return torch.tensor(self.decoder.verdicts(owners, texts)).reshape(len(ids), -1)


def rad_decoder(settings: RadSettings, context: DecoderContext) -> RadDecoder:
    """The decoder that asks the constraint about each of the likeliest next tokens.

    Raises:
        ConfigError: There is no constraint.
    """
    if context.verdicts is None:
        raise ConfigError("the rad decoder needs a constraint; name a run that has one")
    decode = context.policy.backbone.decode
    return RadDecoder(context.verdicts, decode, settings.beta, settings.top_k)


def build(settings: RadSettings, context: DecoderContext) -> Sampler:
    """The likeliest tokens reweighted by what the constraint says of the text with each of them."""
    return DecodedPolicy(context.policy, rad_decoder(settings, context))


DECODERS.add("rad")(DecoderKind(build, RadSettings, truncates=RadDecoder.truncates))
