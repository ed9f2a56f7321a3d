"""Data sets of a hub, read through the ``datasets`` package; needs the network once."""

import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from acft.corpora.base import Record, first_line
from acft.corpora.files import Row, records
from acft.errors import DataError

PREFIX = "hub:"

_FORM = re.compile(
    r"(?P<path>[A-Za-z0-9][\w.-]*(/[\w.-]+)?)(:(?P<config>[\w.-]*))?(:(?P<split>\w+))?"
)


def read_hub(
    name: str, text_field: str, prompt_field: str = "", *, are_prompts: bool = False
) -> Iterator[Record]:
    """Records of ``NAME``, ``NAME:CONFIG`` or ``NAME:CONFIG:SPLIT``; the split is train if omitted.

    Raises:
        DataError: The name is of another form, the data set cannot be obtained, or a column is
            missing.
    """
    parts = check_name(name)
    datasets = importlib.import_module("datasets")
    with _one_sentence(name):
        rows = datasets.load_dataset(
            parts["path"], parts["config"] or None, split=parts["split"] or "train"
        )
    return records(_numbered(rows, name), text_field, prompt_field, are_prompts=are_prompts)


def split_names(name: str) -> list[str]:
    """Splits of ``NAME`` or ``NAME:CONFIG``, in the order of the data set.

    Raises:
        DataError: The name is of another form, or the data set cannot be obtained.
    """
    parts = check_name(name)
    datasets = importlib.import_module("datasets")
    with _one_sentence(name):
        return list(datasets.get_dataset_split_names(parts["path"], parts["config"] or None))


def check_name(name: str) -> dict[str, str | None]:
    """The ``path``, ``config`` and ``split`` that a name consists of.

    Raises:
        DataError: The name is of another form.
    """
    match = _FORM.fullmatch(name)
    if match is None:
        raise DataError(
            f"{name!r} does not name a hub data set; write hub:NAME, hub:NAME:CONFIG or "
            "hub:NAME:CONFIG:SPLIT"
        )
    return match.groupdict()


@contextmanager
def _one_sentence(name: str) -> Iterator[None]:
    """Turns what the package raises for an unknown name or no network into one error."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"cannot obtain data set {name!r}: {first_line(str(error))}; check the name and the "
            "network, or save the texts as a local .jsonl file and name that"
        ) from None


def _numbered(rows: Any, name: str) -> Iterator[Row]:
    for number, row in enumerate(rows, start=1):
        yield f"data set {name!r} row {number}", row
