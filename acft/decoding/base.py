"""What a decoder kind is: settings, and a function that binds it to a policy."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acft.backbone.forward import logits
from acft.backbone.loading import Backbone
from acft.config import Config
from acft.errors import DataError
from acft.oracle.base import ORACLES, Oracle, Verdicts
from acft.policy import Policy
from acft.registry import Registry, summary_of
from acft.reweighting import Decoder, begin, check_decoder, line_of
from acft.sampling import Samples
from acft.settings import SamplingSettings
from acft.threads import Workers
from acft.types import Prompt, TokenBatch


@runtime_checkable
class Sampler(Protocol):
    """What draws responses: a policy, or a policy with a decoder bound to it."""

    @property
    def version(self) -> int:
        """Finished policy updates."""
        ...

    def sample(
        self, prompts: Sequence[Prompt], n: int, sampling: SamplingSettings, seed: int
    ) -> Samples:
        """``n`` responses to each prompt, ordered by prompt and sample number."""
        ...

    def prepared(self) -> AbstractContextManager[None]:
        """Within it, draws share their set-up, and weights have to stay as they are."""
        ...


@dataclass(frozen=True)
class DecodedStep:
    """What one response token of each text in a batch would have been drawn from."""

    before: Int[Tensor, " batch"]
    """Position of the token before it, the last that is read; another where it is not there."""
    is_there: Bool[Tensor, " batch"]
    """False for texts whose response is shorter."""
    next_logprobs: Float[Tensor, "batch vocab"]


@dataclass(frozen=True)
class DecodedPolicy:
    """A policy whose next-token distribution is changed while it draws."""

    policy: Policy
    decoder: Decoder

    def __post_init__(self) -> None:
        check_decoder(self.decoder)

    @property
    def version(self) -> int:
        """Finished policy updates."""
        return self.policy.version

    def sample(
        self, prompts: Sequence[Prompt], n: int, sampling: SamplingSettings, seed: int
    ) -> Samples:
        """``n`` responses to each prompt, ordered by prompt and sample number."""
        return self.policy.sample(prompts, n, sampling, seed, decoder=self.decoder)

    def prepared(self) -> AbstractContextManager[None]:
        """Nothing is set up: no engine draws with a decoder."""
        return nullcontext()

    def steps(self, batch: TokenBatch) -> Iterator[DecodedStep]:
        """What each response token would have been drawn from, one position after the other.

        A response is what ``batch.response_mask`` selects, without gaps.

        Raises:
            DataError: The decoder gives no distribution.
        """
        backbone, ids, hidden = self.policy.backbone, batch.token_ids, self.policy.hidden(batch)
        starts, lengths = batch.response_mask.int().argmax(1), batch.response_mask.sum(1)
        own = [row[:start].tolist() for row, start in zip(ids, starts, strict=True)]
        prompts = [self.policy.seen(prompt) for prompt in own]
        session = begin(self.decoder, [backbone.decode(prompt) for prompt in prompts], prompts)
        rows = torch.arange(len(ids), device=ids.device)
        for number in range(int(lengths.max())):
            before = (starts - 1 + number).clamp(max=ids.shape[1] - 2)
            state = hidden[rows, before]
            next_logprobs = session.reweight(
                logits(backbone.model, state).log_softmax(dim=-1), state, ids[rows, before]
            )
            yield DecodedStep(before, number < lengths, next_logprobs)


@dataclass(frozen=True)
class DecodedJudge(DecodedPolicy):
    """A decoded policy that says how likely texts are to be drawn: none of its tokens is left out.

    It reads a text as it would have drawn it, each token from the distribution that the decoder
    makes of what precedes it.
    """

    @property
    def backbone(self) -> Backbone:
        """The policy's."""
        return self.policy.backbone

    @property
    def context_length(self) -> int:
        """The policy's."""
        return self.policy.context_length

    @property
    def device(self) -> str:
        """Where the policy's weights are."""
        return self.policy.device

    @property
    def workers(self) -> Workers:
        """The policy's."""
        return self.policy.workers

    def token_logprobs(self, batch: TokenBatch) -> Float[Tensor, "batch step"]:
        """Log-probability of each response token, in nats; 0 elsewhere: no prompt is drawn."""
        return self.read(batch)[0]

    @torch.inference_mode()
    def read(
        self, batch: TokenBatch
    ) -> tuple[Float[Tensor, "batch step"], Bool[Tensor, "batch step"]]:
        """Log-probability of each response token in nats, and whether no other was likelier there.

        0 and True where there is no response token.
        """
        ids = batch.token_ids
        rows = torch.arange(len(ids), device=ids.device)
        found = torch.zeros(len(ids), ids.shape[1] - 1, device=ids.device)
        is_likeliest = torch.ones_like(found, dtype=torch.bool)
        for step in self.steps(batch):
            realised = step.next_logprobs.gather(1, ids[rows, step.before + 1, None])[:, 0]
            is_best = realised >= step.next_logprobs.amax(dim=1)
            found[rows, step.before] += torch.where(step.is_there, realised, 0.0)
            is_likeliest[rows, step.before] &= is_best | ~step.is_there
        return found, is_likeliest


@dataclass(frozen=True)
class DecoderContext:
    """What building a decoder may use."""

    policy: Policy
    """The policy whose next-token distribution is reweighted."""
    oracle: Oracle | None = None
    verdicts: Verdicts | None = None
    """The constraint, asked about prefixes."""
    horizon: int = 0
    """Longest response the oracle has learned from, in tokens; 0 = not known."""


class NoSettings(Config):
    """Nothing to choose."""


@dataclass(frozen=True)
class DecoderKind:
    """A registered way to draw responses."""

    build: Callable[[Any, DecoderContext], Sampler]
    """Takes the decoder's settings and the context."""
    settings_type: type[Config] = NoSettings
    needs_oracle: bool = False
    truncates: bool = False
    """Whether its decoder does, see ``reweighting.Decoder``."""

    def top_p(self, asked: float) -> float:
        """Nucleus of what it gives, of which ``asked`` would be drawn from the policy alone."""
        return 1.0 if self.truncates else asked

    def asks_verdicts(self, oracle_kind: str) -> bool:
        """Whether it asks about prefixes itself, or its oracle, of the given kind, does."""
        return not self.needs_oracle or ORACLES.get(oracle_kind).reads_verdicts

    @property
    def summary(self) -> str:
        """First line of the builder's documentation."""
        return summary_of(self.build)


DECODERS: Registry[DecoderKind] = Registry("decoder", "acft.decoding", DecoderKind)
"""Every decoder by name."""


def build_sampler(name: str, settings: Config, context: DecoderContext) -> Sampler:
    """The policy with the decoder of that name bound to it.

    Raises:
        DataError: What builds it gives nothing that draws responses.
    """
    build = DECODERS.get(name).build
    sampler: Any = build(settings, context)
    if not isinstance(sampler, Sampler):
        given = "None" if sampler is None else f"a {type(sampler).__qualname__}"
        raise DataError(
            f"decoder {name!r}: what builds it{line_of(build)} gave {given}; it must return what "
            "draws responses, such as DecodedPolicy(context.policy, DECODER)"
        )
    return sampler
