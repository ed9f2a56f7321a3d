"""Messages between the workbench and an inference process: one JSON object on each line.

To the process: ``{"id", "op", "args"}`` asks, ``{"cancel": id}`` withdraws. From it:
``{"id", "part"}`` any number of times, then ``{"id", "result"}`` or ``{"id", "error"}``.
"""

import json
from typing import Any

MAX_LINE = 64 * 2**20


def pack(message: dict[str, Any]) -> bytes:
    """One line.

    Raises:
        ValueError: A number is not finite, or the line is longer than allowed.
    """
    line = json.dumps(message, allow_nan=False, separators=(",", ":")).encode() + b"\n"
    _check_length(line)
    return line


def unpack(line: bytes) -> dict[str, Any]:
    """The message of a line.

    Raises:
        ValueError: The line is longer than allowed or no JSON object.
    """
    _check_length(line)
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("message is no JSON object")  # noqa: TRY004 - the content, not our type
    return message


def _check_length(line: bytes) -> None:
    if len(line) > MAX_LINE:
        raise ValueError(f"message of {len(line)} bytes; at most {MAX_LINE} are read")
