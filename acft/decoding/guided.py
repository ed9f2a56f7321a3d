"""The guided policy q ∝ p·R^strength, drawn token by token."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from acft.config import Config
from acft.decoding.base import DECODERS, DecodedJudge, DecoderContext, DecoderKind, Sampler
from acft.errors import ConfigError
from acft.objective import guided_next_logprobs, guided_next_logprobs_soft, prompt_log_r
from acft.oracle.base import Oracle, Verdicts
from acft.prompt_tokens import Decode, response_text
from acft.scoring import Asked, checked_numbers
from acft.settings import OpenFraction, PositiveFloat
from acft.types import Window
from acft.windows import left_padded

ASKED = Asked(
    "the function given as verdicts", "it must say how well each response satisfies the constraint"
)


class GuidedSettings(Config):
    """How far the policy is pulled towards satisfying responses."""

    strength: PositiveFloat = 1.0
    """Exponent of R; 1 is the closed form. Source: arXiv:2205.14219; other values are ours."""
    delta: OpenFraction = 1.0
    """Satisfaction demanded of every prompt's responses; below 1 the soft closed form is used."""
    rare: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Tokens less likely than this under the policy are guided away from, never towards; 0 is the
    closed form."""


@dataclass(frozen=True)
class GuidedDecoder:
    """Reweights a policy by an oracle.

    Source: arXiv:2205.14219, decoding with the closed-form solution.
    """

    truncates: ClassVar[bool] = False
    """Every token that the policy may draw stays possible."""
    oracle: Oracle
    decode: Decode
    settings: GuidedSettings = GuidedSettings()  # noqa: RUF009 - frozen
    verdicts: Verdicts | None = None
    """None for oracles that do not read the constraint's verdict on prefixes."""
    horizon: int = 0
    """After this many response tokens the text so far counts as a new prompt; 0 = never."""

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
    states: Tensor | None = None
    log_r_prompt: Tensor | None = None

    def reweight(
        self,
        next_logprobs: Float[Tensor, "batch vocab"],
        hidden: Float[Tensor, "batch width"],
        token_ids: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch vocab"]:
        """Log-probabilities of the guided policy for the next token, in nats."""
        decoder, settings = self.decoder, self.decoder.settings
        self.hidden.append(hidden)
        self.token_ids.append(token_ids)
        if 0 < decoder.horizon < len(self.token_ids):
            self._begin_again()
        self.verdicts.append(self._verdict().to(hidden.device))
        self.states = self._longer_states()
        next_log_r = decoder.oracle.next_log_r(self.states[:, -1])
        if settings.delta >= 1.0:
            return guided_next_logprobs(next_logprobs, next_log_r, settings.strength, settings.rare)
        if self.log_r_prompt is None:
            self.log_r_prompt = prompt_log_r(next_logprobs, next_log_r)
        return guided_next_logprobs_soft(
            next_logprobs, next_log_r, settings.delta, self.log_r_prompt, settings.strength,
            settings.rare,
        )  # fmt: skip

    def _begin_again(self) -> None:
        """Count everything so far as the prompt, since the oracle knows no longer responses."""
        texts = self._texts()
        self.prompts = [prompt + text for prompt, text in zip(self.prompts, texts, strict=True)]
        response = torch.stack(self.token_ids[1:], dim=1).to(self.prompt_ids.device)
        self.prompt_ids = torch.cat([self.prompt_ids, response], dim=1)
        self.prompt_mask = torch.cat([self.prompt_mask, torch.ones_like(response).bool()], dim=1)
        self.hidden, self.token_ids, self.verdicts = self.hidden[-1:], self.token_ids[-1:], []
        self.states = self.log_r_prompt = None

    def _longer_states(self) -> Float[Tensor, "batch window state"]:
        oracle, window = self.decoder.oracle, self._window()
        if self.states is None:
            return oracle.states(window)
        return oracle.longer_states(window, self.states)

    def _verdict(self) -> Float[Tensor, " batch"]:
        verdicts, n_texts = self.decoder.verdicts, len(self.prompts)
        if verdicts is None:
            return torch.full((n_texts,), 0.5)
        texts = self._texts()
        return torch.tensor(checked_numbers(lambda: verdicts(self.prompts, texts), n_texts, ASKED))

    def _texts(self) -> list[str]:
        """The responses so far."""
        if len(self.token_ids) == 1:
            return [""] * len(self.prompts)
        responses = torch.stack(self.token_ids[1:], 1).tolist()
        return [
            response_text(self.decoder.decode, ids[mask].tolist(), response)
            for ids, mask, response in zip(
                self.prompt_ids, self.prompt_mask, responses, strict=True
            )
        ]

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


def guided_decoder(settings: GuidedSettings, context: DecoderContext) -> GuidedDecoder:
    """The decoder that draws from the guided policy.

    Raises:
        ConfigError: There is no oracle.
    """
    if context.oracle is None:
        raise ConfigError(
            "the guided decoder needs an oracle; choose a run whose method trains one, or 'plain'"
        )
    decode = context.policy.backbone.decode
    return GuidedDecoder(context.oracle, decode, settings, context.verdicts, context.horizon)


def build(settings: GuidedSettings, context: DecoderContext) -> Sampler:
    """The policy reweighted by its oracle towards responses that satisfy the constraint."""
    return DecodedJudge(context.policy, guided_decoder(settings, context))


DECODERS.add("guided")(DecoderKind(build, GuidedSettings, needs_oracle=True))
