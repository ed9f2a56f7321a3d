"""What a decoder kind is: settings, and a function that binds it to a policy."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from acft.config import Config
from acft.oracle.base import ORACLES, Oracle, Verdicts
from acft.policy import Policy
from acft.registry import Registry, summary_of
from acft.sampling import Decoder, Samples
from acft.settings import SamplingSettings
from acft.types import Prompt


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
class DecodedPolicy:
    """A policy whose next-token distribution is changed while it draws."""

    policy: Policy
    decoder: Decoder

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

    def asks_verdicts(self, oracle_kind: str) -> bool:
        """Whether it asks about prefixes itself, or its oracle, of the given kind, does."""
        return not self.needs_oracle or ORACLES.get(oracle_kind).reads_verdicts

    @property
    def summary(self) -> str:
        """First line of the builder's documentation."""
        return summary_of(self.build)


DECODERS: Registry[DecoderKind] = Registry("decoder", "acft.decoding")
"""Every decoder by name."""
