"""What a source of texts is, and the registries of prompt sets and corpora."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from acft.errors import DataError
from acft.registry import Registry, summary_of


@dataclass(frozen=True)
class Record:
    """One text as its source holds it."""

    text: str
    """The whole text, or the response when there is a prompt."""
    prompt: str = ""
    turns: tuple[tuple[str, str], ...] = ()
    """(role, text) of every message before the response, where the source has conversations."""
    category: str = ""
    """Where the source sorts its texts into categories, else empty."""


@dataclass(frozen=True)
class Source:
    """A registered prompt set or corpus."""

    load: Callable[[], Iterable[Record]]
    """Yields the records one by one, always in the same order."""
    licence: str
    where: str
    """How the texts come to this machine."""
    needs_network: bool = False
    needs_policy: bool = False
    """The texts are written by the policy itself, so there is nothing to load before a run."""

    @property
    def summary(self) -> str:
        """First line of the loading function's documentation."""
        return summary_of(self.load)


PROMPT_SETS: Registry[Source] = Registry("prompt set", "acft.corpora", Source)
"""Every prompt set by name."""

CORPORA: Registry[Source] = Registry("corpus", "acft.corpora", Source)
"""Every corpus by name."""


def first_line(text: str) -> str:
    """The first non-empty line of a longer message."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def utf8_lines(raw: Iterable[bytes], name: str) -> Iterable[str]:
    """Decoded lines with their line ends, a leading byte order mark removed.

    Raises:
        DataError: A line is not UTF-8; says which.
    """
    for number, line in enumerate(raw, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{name!r} line {number} is not UTF-8 (byte {line[error.start]:#04x}); "
                "save the file as UTF-8"
            ) from None
