"""The policy's own distribution."""

from acft.decoding.base import DECODERS, DecoderContext, DecoderKind
from acft.sampling import Decoder


def build(context: DecoderContext) -> Decoder | None:  # noqa: ARG001 - same signature for all
    """The policy's own next-token distribution, unchanged."""
    return None


DECODERS.add("plain")(DecoderKind(build))
