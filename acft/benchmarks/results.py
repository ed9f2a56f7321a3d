"""The measurements of an evaluation as a file, exact enough to be compared later."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from acft.errors import DataError
from acft.totals import Totals

MEASUREMENTS, DRAWN, MADE_BY = "measurements.json", "drawn.json", "made_by.json"
"""Files inside a checkpoint, one for each field of ``Results``."""


@dataclass(frozen=True)
class Results:
    """Measurements so far, by suite and subject."""

    measured: dict[str, dict[str, dict[str, Totals]]]
    drawn: dict[str, list[str]] = field(default_factory=dict)
    """How the responses were drawn whose rows are sealed, by subject; see ``Responses.how``."""
    made_by: dict[str, str] = field(default_factory=dict)
    """Version or hash of whoever scores, judges or is measured, by what it is called."""

    def save(self, folder: Path) -> None:
        """Writes ``measurements.json``, ``drawn.json`` and ``made_by.json``."""
        plain = {
            suite: {
                subject: {name: totals.to_json() for name, totals in measured.items()}
                for subject, measured in subjects.items()
            }
            for suite, subjects in self.measured.items()
        }
        (folder / MEASUREMENTS).write_text(json.dumps(plain), encoding="utf-8")
        (folder / DRAWN).write_text(json.dumps(self.drawn), encoding="utf-8")
        (folder / MADE_BY).write_text(json.dumps(self.made_by), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Results":
        """What ``save`` wrote.

        Raises:
            DataError: A file is damaged, or there are no measurements.
        """
        try:
            plain = json.loads((folder / MEASUREMENTS).read_text(encoding="utf-8"))
            drawn, made_by = (
                json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
                for file in (folder / DRAWN, folder / MADE_BY)  # which older checkpoints have not
            )
            return cls(
                {
                    suite: {
                        subject: {name: Totals.from_json(v) for name, v in measured.items()}
                        for subject, measured in subjects.items()
                    }
                    for suite, subjects in plain.items()
                },
                drawn,
                made_by,
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"cannot read {str(folder / MEASUREMENTS)!r}: {error}") from None

    def __iter__(self) -> Iterator[tuple[str, str, str, Totals]]:
        """Suite, subject, name and totals of every measurement."""
        for suite, subjects in self.measured.items():
            for subject, measured in subjects.items():
                for name, totals in measured.items():
                    yield suite, subject, name, totals
