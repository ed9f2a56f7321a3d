"""The guided policy q ∝ p·R^strength, drawn token by token."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from acft.decoding.base import DECODERS, DecoderContext, DecoderKind
from acft.errors import ConfigError
from acft.objective import guided_next_logprobs, guided_next_logprobs_soft, prompt_log_r
from acft.oracle.base import Oracle, Verdicts
from acft.sampling import Decoder, left_padded
from acft.types import Window


@dataclass(frozen=True)
class GuidedDecoder:
    """Reweights a policy by an oracle.

    Source: arXiv:2205.14219, decoding with the closed-form solution; ``strength`` is ours.
    """

    oracle: Oracle
    decode: Callable[[Sequence[int]], str]
    verdicts: Verdicts | None = None
    """None for oracles that do not read the constraint's verdict on prefixes."""
    strength: float = 1.0
    delta: float = 1.0

    def start(self, prompts: Sequence[str], prompt_ids: Sequence[Sequence[int]]) -> "GuidedSession":
        """A session for one batch of responses."""
        return GuidedSession(self, list(prompts), *left_padded(prompt_ids))


@dataclass
class GuidedSession:
    """One batch being drawn: remembers what the oracle reads of it."""

    decoder: GuidedDecoder
    prompts: list[str]
    prompt_ids: Int[Tensor, "batch prompt"]
    prompt_mask: Tensor
    hidden: list[Tensor] = field(default_factory=list)
    token_ids: list[Tensor] = field(default_factory=list)
    verdicts: list[Tensor] = field(default_factory=list)
    log_r_prompt: Tensor | None = None

    def reweight(
        self,
        next_logprobs: Float[Tensor, "batch vocab"],
        hidden: Float[Tensor, "batch width"],
        token_ids: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch vocab"]:
        """Log-probabilities of the guided policy for the next token, in nats."""
        decoder = self.decoder
        self.hidden.append(hidden)
        self.token_ids.append(token_ids)
        self.verdicts.append(self._verdict().to(hidden.device))
        states = decoder.oracle.states(self._window())[:, -1]
        next_log_r = decoder.oracle.next_log_r(states)
        if decoder.delta >= 1.0:
            return guided_next_logprobs(next_logprobs, next_log_r, decoder.strength)
        if self.log_r_prompt is None:
            self.log_r_prompt = prompt_log_r(next_logprobs, next_log_r)
        return guided_next_logprobs_soft(
            next_logprobs, next_log_r, decoder.delta, self.log_r_prompt, decoder.strength
        )

    def _verdict(self) -> Float[Tensor, " batch"]:
        if self.decoder.verdicts is None:
            return torch.full((len(self.prompts),), 0.5)
        responses = torch.stack(self.token_ids[1:], dim=1) if self.token_ids[1:] else None
        texts = [
            self.decoder.decode(row.tolist() if row is not None else [])
            for row in (responses if responses is not None else [None] * len(self.prompts))
        ]
        return torch.tensor(self.decoder.verdicts(self.prompts, texts))

    def _window(self) -> Window:
        token_ids = torch.stack(self.token_ids, dim=1)
        return Window(
            hidden=torch.stack(self.hidden, dim=1),
            token_ids=token_ids,
            mask=torch.ones_like(token_ids, dtype=torch.bool),
            verdicts=torch.stack(self.verdicts, dim=1),
            prompt_ids=self.prompt_ids.to(token_ids.device),
            prompt_mask=self.prompt_mask.to(token_ids.device),
        )


def build(context: DecoderContext) -> Decoder:
    """The policy reweighted by its oracle towards responses that satisfy the constraint."""
    if context.oracle is None:
        raise ConfigError(
            "the guided decoder needs an oracle; choose a run whose method trains one, or 'plain'"
        )
    tokenizer = context.policy.backbone.tokenizer
    return GuidedDecoder(
        context.oracle,
        lambda ids: str(tokenizer.decode(ids, skip_special_tokens=True)),
        context.verdicts,
        context.strength,
        context.delta,
    )


DECODERS.add("guided")(DecoderKind(build, needs_oracle=True))
