"""Text of models and of other people, made fit for a terminal."""

UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"


def printable(text: str) -> str:
    """The text on one line, without characters that steer a terminal."""
    return "".join(c if c.isprintable() else " " if c.isspace() else UNPRINTABLE for c in text)
