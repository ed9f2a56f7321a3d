"""Checking and launching settings, which needs every method and constraint and so the tensors."""

from pathlib import Path
from typing import Any

from acft.config import Config
from acft.constraints import CONSTRAINTS
from acft.engines import refuse_places
from acft.errors import ConfigError
from acft.inference.fields import fields_of
from acft.inference.server import Session
from acft.methods.base import METHODS
from acft.registry import summary_of
from acft.runs import launcher
from acft.runs.lineage import check_room, estimate
from acft.runs.spec import parse_spec


def check(
    session: Session,  # noqa: ARG001
    text: str,
    *,
    has_files: bool = False,
) -> list[str]:
    """Problems of a settings text, one line each; none when it can be launched.

    Whether files are there is looked up, and so told, only with ``has_files``.
    """
    try:
        refuse_places(parse_spec(text, has_files=has_files).settings)
    except ConfigError as error:
        return str(error).splitlines()
    return []


def launch(
    session: Session,  # noqa: ARG001
    runs: str,
    text: str,
    request_id: str,
    cloned_from: str = "",
    quota_bytes: int = 0,
) -> str:
    """Id of the queued run.

    Raises:
        ConfigError: The settings have problems, or say what a browser may not.
        RunError: It would not fit on the disk, or not into the quota (0 = none).
    """
    spec = parse_spec(text, has_files=True)
    refuse_places(spec.settings)
    expected = estimate(Path(runs), spec)
    check_room(Path(runs), expected.bytes if expected else 0, quota_bytes)
    return launcher.launch(Path(runs), text, request_id=request_id, cloned_from=cloned_from)


def describe(session: Session) -> dict[str, Any]:  # noqa: ARG001
    """Methods and constraints with their settings, for the form."""
    return {
        "method": {
            name: _described(method.settings_type, method.summary)
            for name, method in METHODS.items()
        },
        "constraint": {
            name: _described(settings, summary_of(settings))
            for name, settings in CONSTRAINTS.items()
        },
    }


def _described(settings: type[Config], summary: str) -> dict[str, Any]:
    described = [field.description() for field in fields_of(settings)]
    return {"summary": summary, "fields": described}
