"""What a decoder kind is: how it is built from what a run knows."""

from collections.abc import Callable
from dataclasses import dataclass

from acft.oracle.base import Oracle, Verdicts
from acft.policy import Policy
from acft.registry import Registry
from acft.sampling import Decoder


@dataclass(frozen=True)
class DecoderContext:
    """What building a decoder may use."""

    policy: Policy
    """The policy whose next-token distribution is reweighted."""
    oracle: Oracle | None = None
    verdicts: Verdicts | None = None
    """The constraint, asked about prefixes."""
    strength: float = 1.0
    delta: float = 1.0


@dataclass(frozen=True)
class DecoderKind:
    """A registered way to draw responses."""

    build: Callable[[DecoderContext], Decoder | None]
    needs_oracle: bool = False

    @property
    def summary(self) -> str:
        """First line of the builder's documentation."""
        return (self.build.__doc__ or "").strip().splitlines()[0]


DECODERS: Registry[DecoderKind] = Registry("decoder", "acft.decoding")
