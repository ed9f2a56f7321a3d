"""The measurements of an evaluation as a file, exact enough to be compared later."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from acft.errors import DataError
from acft.totals import Totals

MEASUREMENTS, DRAWN = "measurements.json", "drawn.json"
"""Inside a checkpoint: totals by suite, subject and name; see ``Results.drawn``."""


@dataclass(frozen=True)
class Results:
    """Measurements so far, by suite and subject."""

    measured: dict[str, dict[str, dict[str, Totals]]]
    drawn: dict[str, list[str]] = field(default_factory=dict)
    """How the responses were drawn whose rows are sealed, by subject; see ``Responses.how``."""

    def save(self, folder: Path) -> None:
        """Writes ``measurements.json`` and ``drawn.json``."""
        plain = {
            suite: {
                subject: {name: totals.to_json() for name, totals in measured.items()}
                for subject, measured in subjects.items()
            }
            for suite, subjects in self.measured.items()
        }
        (folder / MEASUREMENTS).write_text(json.dumps(plain), encoding="utf-8")
        (folder / DRAWN).write_text(json.dumps(self.drawn), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Results":
        """What ``save`` wrote.

        Raises:
            DataError: A file is damaged, or there are no measurements.
        """
        try:
            plain = json.loads((folder / MEASUREMENTS).read_text(encoding="utf-8"))
            drawn = folder / DRAWN  # which older checkpoints have not
            return cls(
                {
                    suite: {
                        subject: {name: Totals.from_json(v) for name, v in measured.items()}
                        for subject, measured in subjects.items()
                    }
                    for suite, subjects in plain.items()
                },
                json.loads(drawn.read_text(encoding="utf-8")) if drawn.is_file() else {},
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"cannot read {str(folder / MEASUREMENTS)!r}: {error}") from None

    def __iter__(self) -> Iterator[tuple[str, str, str, Totals]]:
        """Suite, subject, name and totals of every measurement."""
        for suite, subjects in self.measured.items():
            for subject, measured in subjects.items():
                for name, totals in measured.items():
                    yield suite, subject, name, totals
