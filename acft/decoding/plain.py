"""The policy's own distribution."""

from acft.decoding.base import DECODERS, DecoderContext, DecoderKind, NoSettings, Sampler


def build(_: NoSettings, context: DecoderContext) -> Sampler:
    """The policy's own next-token distribution, unchanged."""
    return context.policy


DECODERS.add("plain")(DecoderKind(build))
