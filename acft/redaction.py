"""Values of secret environment variables kept out of what is written into runs and shown."""

import os
import re
from collections.abc import Mapping
from typing import BinaryIO

SECRET_NAME = re.compile(r"TOKEN|KEY|SECRET|PASSWORD", re.IGNORECASE)
PLACE_NAME = re.compile(r"_(PATH|FILE|DIR)$", re.IGNORECASE)
"""Variables that say where a secret lies; the place is none."""
SHORTEST_SECRET = 8
"""Letters; replacing shorter values, such as 1 or true, would make texts unreadable."""


def redacted(text: str) -> str:
    """The text with the name of its variable in place of each secret of this process."""
    if not text:  # as most runs have nothing to say, and lists of them are read often
        return text
    # The longest first: another may be a part of it.
    for value, name in sorted(secrets().items(), key=lambda found: -len(found[0])):
        text = text.replace(value, f"[{name} redacted]")
    return text


def longest_secret() -> int:
    """Bytes of the longest secret of this process, 0 without any."""
    return max((len(value.encode()) for value in secrets()), default=0)


def secrets(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """Names of the variables that hold secrets, by value; those of this process unless given."""
    given = os.environ if variables is None else variables
    return {
        value: name
        for name, value in sorted(given.items())
        if len(value) >= SHORTEST_SECRET
        and SECRET_NAME.search(name)
        and not PLACE_NAME.search(name)
    }


def end_of_log(file: BinaryIO, n_bytes: int) -> str:
    """The last bytes of an open log as text, without secrets or the rest of one that was cut."""
    end = file.seek(0, os.SEEK_END)
    before = min(longest_secret(), max(0, end - n_bytes))
    file.seek(max(0, end - n_bytes - before))
    content = file.read()
    starts = [before]
    for secret in map(str.encode, secrets()):
        at = content.find(secret)
        while 0 <= at < before:
            if at + len(secret) > before:  # it would be cut
                starts.append(at)
            at = content.find(secret, at + 1)
    return redacted(content[min(starts) :].decode("utf-8", "replace"))
